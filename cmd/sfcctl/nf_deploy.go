package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sfc/chains"
	"sfc/ctrl/api"
	"sfc/ctrl/client"
	"sfc/ctrl/functions/sign"
	"sfc/nf"
)

// maxSmall is the longest key or signature file that is read, in bytes.
const maxSmall = 64 << 10

// readSmall reads a file that is no longer than a key may be.
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSmall+1))
	if err == nil && len(data) > maxSmall {
		err = fmt.Errorf("%s is longer than %d bytes: it is no key and no signature", path, maxSmall)
	}
	return data, err
}

func newNFDeploy(e env) *cobra.Command {
	r := remote{e: e}
	var version, key, signature, source string
	cmd := &cobra.Command{
		Use:   "deploy FILE",
		Short: "Store a module as a version of a function",
		Long: `Checks a module here and sends it to the daemon, which checks it again, verifies
its signature, stores it and compiles it. A version never changes: the same module
again is no error, another one is. Chains use it as NAME@VERSION, or through an
alias: see sfcctl nf alias.

With --key the module is signed on the way; --signature takes one made earlier by
sfcctl nf sign.`,
		Example: `  sfcctl nf deploy firewall.wasm --version 1.2.0
  sfcctl nf deploy firewall.wasm --key release.key --tenant acme`,
		Args:              needArgs(1, 1, "a module"),
		ValidArgsFunction: completeFiles("wasm"),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := chains.LoadModule(args[0], nf.Limits{})
			if err != nil {
				return err
			}
			if version == "" {
				version = m.Manifest.Version
			}
			u := client.Upload{
				Function: m.Manifest.Name, Version: version, Module: bytes.NewReader(m.Wasm), Size: int64(len(m.Wasm)),
				Digest: digestOf(m.Wasm), Source: source,
			}
			if source == "" {
				u.Source = filepath.Base(args[0])
			}
			if s, err := signModule(m.Wasm, key, signature); err != nil {
				return err
			} else if s != nil {
				u.Signature = s.Bytes[:]
			}
			c, err := r.dialTenant(cmd.Context())
			if err != nil {
				return err
			}
			f, err := c.Upload(cmd.Context(), r.tenant, u)
			if err != nil {
				return err
			}
			signed := "unsigned"
			if f.Spec.Signature != nil {
				signed = "signed by " + f.Spec.Signature.Key
			}
			return r.done(f, nil, "%s@%s of tenant %s is stored: %s, %d bytes, %s", m.Manifest.Name, version, r.tenant, f.Spec.Digest, f.Spec.Size, signed)
		},
	}
	r.tenantFlag(cmd)
	r.jsonFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&version, "version", "", "the version (default: the manifest's)")
	f.StringVar(&key, "key", "", "private key to sign it with, PEM as of sfcctl nf keygen")
	f.StringVar(&signature, "signature", "", "signature made by sfcctl nf sign")
	f.StringVar(&source, "source", "", "where it comes from, for its provenance (default: the file's name)")
	cmd.MarkFlagsMutuallyExclusive("key", "signature")
	return cmd
}

func digestOf(wasm []byte) string {
	sum := sha256.Sum256(wasm)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// signModule signs a module with a key file, or reads a signature file; nil
// without either.
func signModule(wasm []byte, key, signature string) (*sign.Signature, error) {
	switch {
	case signature != "":
		text, err := readSmall(signature)
		if err != nil {
			return nil, err
		}
		s, err := sign.Parse(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", signature, err)
		}
		return &s, nil
	case key != "":
		text, err := readSmall(key)
		if err != nil {
			return nil, err
		}
		private, err := sign.ParsePrivateKey(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		subject, err := sign.SubjectOf(wasm)
		if err != nil {
			return nil, err
		}
		s, err := sign.Sign(private, subject)
		return &s, err
	}
	return nil, nil
}

func newNFList(e env) *cobra.Command {
	r := remote{e: e}
	cmd := &cobra.Command{
		Use:               "list [FUNCTION]",
		Short:             "List the versions that are stored",
		Example:           "  sfcctl nf list\n  sfcctl nf list firewall",
		Args:              needArgs(0, 1, "at most a function"),
		ValidArgsFunction: completeNames(false, r.functionNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.dialTenant(cmd.Context())
			if err != nil {
				return err
			}
			function := strings.Join(args, "")
			list, err := c.AllFunctions(cmd.Context(), r.tenant, function)
			if err != nil || r.json {
				return r.done(list, err, "")
			}
			w := newTable(e.stdout)
			w.row("FUNCTION", "VERSION", "DIGEST", "SIZE", "SIGNED BY", "ALIASES", "READY", "AGE")
			for i := range list.Items {
				f := &list.Items[i]
				signed := ""
				if f.Spec.Signature != nil {
					signed = f.Spec.Signature.Key
				}
				ready, why := conditionText(f.Status.Conditions)
				w.row(f.Metadata.Name, f.Spec.Version, shortDigest(f.Spec.Digest), f.Spec.Size, signed, strings.Join(f.Status.Aliases, ","), strings.TrimSpace(ready+" "+why), age(f.Metadata.CreatedAt))
			}
			return w.flush()
		},
	}
	r.tenantFlag(cmd)
	r.jsonFlag(cmd)
	return cmd
}

// shortDigest is enough of a digest to tell modules apart.
func shortDigest(d string) string {
	if hex, ok := strings.CutPrefix(d, "sha256:"); ok && len(hex) > 12 {
		return hex[:12]
	}
	return d
}

// splitVersion reads FUNCTION@VERSION.
func splitVersion(ref string) (function, version string, err error) {
	function, version, ok := strings.Cut(ref, "@")
	if !ok || function == "" || version == "" {
		return "", "", fmt.Errorf("%q: give FUNCTION@VERSION, such as firewall@1.2.0", ref)
	}
	return function, version, nil
}

func newNFGet(e env) *cobra.Command {
	r := remote{e: e}
	var out string
	cmd := &cobra.Command{
		Use:               "get FUNCTION@VERSION",
		Short:             "Show what is known of a version, or download it",
		Example:           "  sfcctl nf get firewall@1.2.0\n  sfcctl nf get firewall@1.2.0 --out firewall.wasm",
		Args:              needArgs(1, 1, "a version of a function"),
		ValidArgsFunction: completeNames(false, r.versionNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			function, version, err := splitVersion(args[0])
			if err != nil {
				return &usageError{err, cmd.CommandPath()}
			}
			c, err := r.dialTenant(cmd.Context())
			if err != nil {
				return err
			}
			f, err := c.Function(cmd.Context(), r.tenant, function, version)
			if err != nil {
				return err
			}
			if out == "" {
				return printJSON(e.stdout, f)
			}
			wasm, err := download(cmd, c, r.tenant, f)
			if err != nil {
				return err
			}
			if err := os.WriteFile(out, wasm, 0o644); err != nil {
				return err
			}
			return r.done(nil, nil, "%s: %d bytes, %s", out, len(wasm), f.Spec.Digest)
		},
	}
	r.tenantFlag(cmd)
	cmd.Flags().StringVar(&out, "out", "", "write the module to this file")
	return cmd
}

// download gets a module and checks that it is the one.
func download(cmd *cobra.Command, c *client.Client, tenant string, f *api.Function) ([]byte, error) {
	body, err := c.Module(cmd.Context(), tenant, f.Metadata.Name, f.Spec.Version)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	wasm, err := io.ReadAll(io.LimitReader(body, f.Spec.Size+1))
	if err != nil {
		return nil, err
	}
	if got := digestOf(wasm); got != f.Spec.Digest {
		return nil, fmt.Errorf("what arrived has digest %s, not %s: try again", got, f.Spec.Digest)
	}
	return wasm, nil
}

func newNFDelete(e env) *cobra.Command {
	r := remote{e: e}
	cmd := &cobra.Command{
		Use:               "delete FUNCTION@VERSION",
		Short:             "Delete a version that no alias and no chain uses",
		Example:           "  sfcctl nf delete firewall@1.0.0",
		Args:              needArgs(1, 1, "a version of a function"),
		ValidArgsFunction: completeNames(false, r.versionNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			function, version, err := splitVersion(args[0])
			if err != nil {
				return &usageError{err, cmd.CommandPath()}
			}
			c, err := r.dialTenant(cmd.Context())
			if err != nil {
				return err
			}
			return r.done(nil, c.DeleteFunction(cmd.Context(), r.tenant, function, version), "%s deleted", args[0])
		},
	}
	r.tenantFlag(cmd)
	return cmd
}

// storedModule returns the function to which a chain file's module belongs, as a
// chain refers to it: what the file says if that is a reference, else the
// version whose digest the module at path has.
func storedModule(cmd *cobra.Command, c *client.Client, tenant, said, path string) (string, error) {
	if _, _, ok := api.SplitRef(said); ok {
		return said, nil
	}
	m, err := chains.LoadModule(path, nf.Limits{})
	if err != nil {
		return "", fmt.Errorf("%w; to use a stored one, write FUNCTION@VERSION or FUNCTION@ALIAS", err)
	}
	list, err := c.AllFunctions(cmd.Context(), tenant, "")
	if err != nil {
		return "", err
	}
	digest := digestOf(m.Wasm)
	i := slices.IndexFunc(list.Items, func(f api.Function) bool { return f.Spec.Digest == digest })
	if i < 0 {
		return "", fmt.Errorf("module %s is not stored for tenant %s: sfcctl nf deploy %s --tenant %s", said, tenant, path, tenant)
	}
	return list.Items[i].Metadata.Name + "@" + list.Items[i].Spec.Version, nil
}
