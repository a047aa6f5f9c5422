package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"sfc/chains"
	"sfc/ctrl/client"
	"sfc/ctrl/functions/oci"
	"sfc/ctrl/functions/sign"
	"sfc/nf"
)

// Environment variables with the name and password for a registry.
const (
	envRegistryUser     = "SFC_REGISTRY_USERNAME"
	envRegistryPassword = "SFC_REGISTRY_PASSWORD"
)

// registryOptions are how to speak to the registry of a reference. The user names it,
// so it may be on the user's own networks.
func registryOptions(e env, ref string, plain bool) oci.Options {
	host, _, _ := strings.Cut(ref, "/")
	return oci.Options{
		Username: e.getenv(envRegistryUser), Password: e.getenv(envRegistryPassword), PlainHTTP: plain,
		Hosts: []string{host}, MaxModule: int64(nf.Limits{}.WithDefaults().ModuleBytes),
	}
}

const registryHelp = `

The registry's name and password are taken from SFC_REGISTRY_USERNAME and
SFC_REGISTRY_PASSWORD.`

func newNFPush(e env) *cobra.Command {
	var key, signature string
	var plain bool
	cmd := &cobra.Command{
		Use:   "push FILE REFERENCE",
		Short: "Store a module in an OCI registry",
		Long: `Pushes a module in the layout of the CNCF for Wasm, with its signature as an
annotation, and prints the reference by digest. No daemon is asked.` + registryHelp,
		Example:           "  sfcctl nf push firewall.wasm registry.example.com/nf/firewall:1.2.0 --key release.key",
		Args:              needArgs(2, 2, "a module and a reference"),
		ValidArgsFunction: completeFiles("wasm"),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := chains.LoadModule(args[0], nf.Limits{})
			if err != nil {
				return err
			}
			a := &oci.Artifact{Module: m.Wasm, Name: m.Manifest.Name, Version: m.Manifest.Version}
			if s, err := signModule(m.Wasm, key, signature); err != nil {
				return err
			} else if s != nil {
				a.Signatures = []sign.Signature{*s}
			}
			pinned, err := oci.Push(cmd.Context(), args[1], a, registryOptions(e, args[1], plain))
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(e.stdout, pinned)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&key, "key", "", "private key to sign it with")
	f.StringVar(&signature, "signature", "", "signature made by sfcctl nf sign")
	f.BoolVar(&plain, "plain-http", false, "speak without TLS, to a registry on this host")
	cmd.MarkFlagsMutuallyExclusive("key", "signature")
	return cmd
}

func newNFPull(e env) *cobra.Command {
	r := remote{e: e}
	var version, out string
	var plain bool
	cmd := &cobra.Command{
		Use:   "pull REFERENCE",
		Short: "Get a module from an OCI registry and deploy it, or write it to a file",
		Long: `Pulls a module with its signature, checks its digests, and deploys it as sfcctl nf
deploy does; the reference by digest becomes its provenance. With --out it is
written to a file, and no daemon is asked.` + registryHelp,
		Example: `  sfcctl nf pull registry.example.com/nf/firewall:1.2.0
  sfcctl nf pull registry.example.com/nf/firewall:1.2.0 --out firewall.wasm`,
		Args: needArgs(1, 1, "a reference"),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := oci.Pull(cmd.Context(), args[0], registryOptions(e, args[0], plain))
			if err != nil {
				return err
			}
			if out != "" {
				if err := os.WriteFile(out, p.Module, 0o644); err != nil {
					return err
				}
				return r.done(nil, nil, "%s: %d bytes of %s", out, len(p.Module), p.Reference)
			}
			m, err := nf.Inspect(p.Module)
			if err != nil {
				return err
			}
			manifest, err := nf.ParseManifest(m.Manifest)
			if err != nil {
				return err
			}
			u := client.Upload{
				Function: manifest.Name, Version: manifest.Version, Module: bytes.NewReader(p.Module), Size: int64(len(p.Module)),
				Digest: digestOf(p.Module), Source: p.Reference,
			}
			if version != "" {
				u.Version = version
			}
			if len(p.Signatures) > 0 {
				u.Signature = p.Signatures[0].Bytes[:]
			}
			c, err := r.dialTenant(cmd.Context())
			if err != nil {
				return err
			}
			f, err := c.Upload(cmd.Context(), r.tenant, u)
			return r.done(f, err, "%s@%s of tenant %s is stored: %s of %s", u.Function, u.Version, r.tenant, u.Digest, p.Reference)
		},
	}
	r.tenantFlag(cmd)
	r.jsonFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&version, "version", "", "the version (default: the manifest's)")
	f.StringVar(&out, "out", "", "write the module to this file instead of deploying it")
	f.BoolVar(&plain, "plain-http", false, "speak without TLS, to a registry on this host")
	return cmd
}
