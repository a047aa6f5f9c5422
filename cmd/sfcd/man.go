package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// newMan writes the manual page; packages call it.
func newMan() *cobra.Command {
	return &cobra.Command{
		Use:     "man DIR",
		Short:   "Write the manual page to DIR/man8",
		Example: "  sfcd man /usr/local/share/man",
		Hidden:  true,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := filepath.Join(args[0], "man8")
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			root := cmd.Root()
			root.InitDefaultHelpFlag()
			root.InitDefaultVersionFlag()
			f, err := os.Create(filepath.Join(dir, "sfcd.8"))
			if err != nil {
				return err
			}
			defer f.Close()
			epoch := time.Unix(0, 0) // the same page at each build
			head := &doc.GenManHeader{Title: "SFCD", Section: "8", Source: "sfc", Manual: "Chains of network functions", Date: &epoch}
			if err := doc.GenMan(root, head, f); err != nil {
				return err
			}
			if err := f.Close(); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), dir)
			return err
		},
	}
}
