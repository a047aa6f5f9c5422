package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"sfc/nf/build"
)

func newNF(e env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "nf",
		Short: "Work with network functions",
		Example: `  sfcctl nf inspect acl.wasm
  sfcctl nf new myfilter
  sfcctl nf build ./myfilter
  sfcctl nf deploy firewall.wasm --version 1.2.0`,
	}
	cmd.AddCommand(
		newNFInspect(e), newNFNew(e), newNFBuild(e), newNFTest(e), newNFKeygen(e), newNFSign(e),
		newNFDeploy(e), newNFList(e), newNFGet(e), newNFDelete(e), newNFCollect(e), newNFAlias(e), newNFPush(e), newNFPull(e),
	)
	return cmd
}

func newNFBuild(e env) *cobra.Command {
	return &cobra.Command{
		Use:   "build DIR",
		Short: "Compile a function's folder to a module",
		Long: `Compiles the C sources in DIR with the SDK and adds DIR/manifest.json to the
module. The result is DIR/NAME.wasm, where NAME is the manifest's. It needs
clang and wasm-ld (Debian: clang-19 lld-19).`,
		Example: `  sfcctl nf build ./myfilter
  sfcctl nf build nf/catalog/acl`,
		Args:              needArgs(1, 1, "the function's folder"),
		ValidArgsFunction: completeDir,
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := build.Build(args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(e.stdout, path)
			return err
		},
	}
}
