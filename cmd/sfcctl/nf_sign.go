package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"sfc/chains"
	"sfc/ctrl/functions/sign"
	"sfc/nf"
)

func newNFKeygen(e env) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "keygen --out NAME",
		Short: "Make a pair of keys to sign functions with",
		Long: `Writes NAME.key, the private key that signs (keep it to yourself), and NAME.pub,
the public key that tenants trust. Both are PEM, as OpenSSL writes them.`,
		Example: "  sfcctl nf keygen --out release",
		Args:    needArgs(0, 0, "only flags"),
		RunE: func(*cobra.Command, []string) error {
			private, public, err := sign.GenerateKey()
			if err != nil {
				return err
			}
			if err := writeNew(out+".key", private, 0o600); err != nil {
				return err
			}
			if err := writeNew(out+".pub", public, 0o644); err != nil {
				return err
			}
			_, err = fmt.Fprintf(e.stdout, "%s.key signs, %s.pub is for those who trust it\n", out, out)
			return err
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "the files' name, without .key and .pub")
	if err := cmd.MarkFlagRequired("out"); err != nil {
		panic(err) // the flag was defined above
	}
	return cmd
}

// writeNew writes a file that must not be there: a key that is overwritten is
// lost.
func writeNew(path string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func newNFSign(e env) *cobra.Command {
	var key, out string
	cmd := &cobra.Command{
		Use:   "sign FILE --key KEY",
		Short: "Sign a module",
		Long: `Signs the digests of a module and of its manifest with an ed25519 key and writes
the signature, a line of text, to FILE.sig. sfcctl nf deploy --signature sends it
along. Nothing is sent anywhere.`,
		Example:           "  sfcctl nf sign firewall.wasm --key release.key",
		Args:              needArgs(1, 1, "a module"),
		ValidArgsFunction: completeFiles("wasm"),
		RunE: func(_ *cobra.Command, args []string) error {
			m, err := chains.LoadModule(args[0], nf.Limits{})
			if err != nil {
				return err
			}
			signature, err := signModule(m.Wasm, key, "")
			if err != nil {
				return err
			}
			if out == "" {
				out = args[0] + ".sig"
			}
			if err := os.WriteFile(out, []byte(signature.String()+"\n"), 0o644); err != nil {
				return err
			}
			_, err = fmt.Fprintf(e.stdout, "%s signs %s, %s\n", out, args[0], digestOf(m.Wasm))
			return err
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "private key, PEM as of sfcctl nf keygen")
	cmd.Flags().StringVar(&out, "out", "", "the signature's file (default: FILE.sig)")
	if err := cmd.MarkFlagRequired("key"); err != nil {
		panic(err) // the flag was defined above
	}
	return cmd
}
