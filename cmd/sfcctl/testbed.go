package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"sfc/testbed/replay"
)

func newTestbed(e env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "testbed",
		Short:   "Work with the network namespaces of replays",
		Example: "  sudo sfcctl testbed clean",
	}
	cmd.AddCommand(newTestbedClean(e))
	return cmd
}

func newTestbedClean(e env) *cobra.Command {
	return &cobra.Command{
		Use:   "clean",
		Short: "Remove what \"sfcctl replay --keep\" left behind",
		Long: `Removes the network namespaces that "sfcctl replay --keep" left behind, with the
links in them, and prints their names. Without --keep a replay leaves nothing,
however it ends. Processes that still run in them keep them until they end.`,
		Example: "  sudo sfcctl testbed clean",
		Args:    needArgs(0, 0, "nothing"),
		RunE: func(*cobra.Command, []string) error {
			names, err := replay.Clean()
			if err != nil {
				return err
			}
			if len(names) == 0 {
				_, err = fmt.Fprintln(e.stdout, "nothing to remove")
			} else {
				_, err = fmt.Fprintf(e.stdout, "removed %s\n", strings.Join(names, ", "))
			}
			return err
		},
	}
}
