package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"sfc/nf/build"
)

func newNFNew(e env) *cobra.Command {
	return &cobra.Command{
		Use:   "new DIR",
		Short: "Start a function: a folder that builds and has a test",
		Long: `Makes the folder DIR with a function to start from, named after the folder: C
source, manifest, configuration, a capture, what must become of its packets,
Makefile and README. The function drops packets to one port.

Exit status: 0 when the folder was made, 1 when it exists already or its name
is not a function's, 2 for a wrong command line.`,
		Example: `  sfcctl nf new myfilter
  sfcctl nf new functions/myfilter`,
		Args:              needArgs(1, 1, "the folder to make"),
		ValidArgsFunction: completeDir,
		RunE: func(_ *cobra.Command, args []string) error {
			dir := filepath.Clean(args[0])
			name := filepath.Base(dir)
			if err := build.New(dir, name); err != nil {
				return err
			}
			_, err := fmt.Fprintf(e.stdout, `%[1]s: function %[2]s
next:
  sfcctl nf build %[1]s
  sfcctl nf test %[1]s/%[2]s.wasm --config %[1]s/config.json --in %[1]s/in.pcap --expect %[1]s/expect.json
`, dir, name)
			return err
		},
	}
}
