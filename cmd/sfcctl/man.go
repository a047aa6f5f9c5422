package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// newMan writes manual pages; packages call it.
func newMan(e env) *cobra.Command {
	return &cobra.Command{
		Use:     "man DIR",
		Short:   "Write the manual pages to DIR/man1",
		Example: "  sfcctl man /usr/local/share/man",
		Hidden:  true,
		Args:    needArgs(1, 1, "a folder"),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := filepath.Join(args[0], "man1")
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			epoch := time.Unix(0, 0) // the same pages at each build
			if err := doc.GenManTree(cmd.Root(), &doc.GenManHeader{Section: "1", Source: "sfc", Manual: "Chains of network functions", Date: &epoch}, dir); err != nil {
				return err
			}
			_, err := fmt.Fprintln(e.stdout, dir)
			return err
		},
	}
}
