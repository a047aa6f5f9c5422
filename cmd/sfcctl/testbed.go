package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"sfc/testbed/lab"
	"sfc/testbed/replay"
)

// envRun names the folder of the labs' sockets instead of lab.Dir.
const envRun = "SFCCTL_RUN"

func newTestbed(e env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "testbed",
		Short: "Run real programs through chains",
		Long: `Keeps a small network up in which real programs talk through chains: a client
and a server, each a network namespace, and between them the engine with XDP,
AF_XDP sockets and pinned workers. It needs root and touches no interface of
this machine.

A background process holds all of it. "sfcctl testbed down" ends it; when it is
killed instead, nothing is left either. Its socket is in ` + lab.Dir + `, or in the
folder that ` + envRun + ` names. With --name several labs run at a time.`,
		Example: `  sudo sfcctl testbed up --chain edge.yaml
  sudo sfcctl testbed exec server -- python3 -m http.server 80
  sudo sfcctl testbed exec client -- curl http://10.0.1.2/
  sudo sfcctl testbed top
  sudo sfcctl testbed down`,
	}
	cmd.AddCommand(newTestbedUp(e), newTestbedServe(e), newTestbedExec(e), newTestbedFlows(e), newTestbedWorkers(e), newTestbedTop(e),
		newTestbedMove(e), newTestbedSwap(e), newTestbedCapture(e), newTestbedStatus(e), newTestbedList(e), newTestbedDown(e), newTestbedClean(e))
	return cmd
}

// nameFlag adds --name to a command.
func nameFlag(cmd *cobra.Command, name *string) {
	cmd.Flags().StringVar(name, "name", lab.DefaultName, "which lab, when several run at a time")
}

// dialLab returns the client of a lab; a name that cannot be is a mistake in
// the command line.
func dialLab(e env, cmd *cobra.Command, name string) (*lab.Client, error) {
	if err := lab.CheckName(name); err != nil {
		return nil, &usageError{err, cmd.CommandPath()}
	}
	return lab.Dial(e.getenv(envRun), name)
}

func newTestbedList(e env) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "Name the labs that run",
		Long:    "Prints the names of the labs that run, one a line; nothing when there is none.",
		Example: "  sudo sfcctl testbed list",
		Args:    needArgs(0, 0, "nothing"),
		RunE: func(*cobra.Command, []string) error {
			names, err := lab.Running(e.getenv(envRun))
			if err != nil {
				return err
			}
			for _, name := range names {
				if _, err := fmt.Fprintln(e.stdout, name); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func newTestbedDown(e env) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Take a lab down",
		Long: `Ends the lab's process and returns when it is gone, with its namespaces, links,
XDP programs and sockets. Programs that still run on its hosts keep running,
without a network.`,
		Example: "  sudo sfcctl testbed down",
		Args:    needArgs(0, 0, "only flags"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := dialLab(e, cmd, name)
			if err != nil {
				return err
			}
			dead, err := c.Down(cmd.Context())
			if err != nil {
				return err
			}
			what := "is down"
			if dead {
				what = "had been killed; what it left is removed"
			}
			_, err = fmt.Fprintf(e.stdout, "lab %s %s\n", name, what)
			return err
		},
	}
	nameFlag(cmd, &name)
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

func newTestbedStatus(e env) *cobra.Command {
	var name string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say what a lab is",
		Long: `Prints what "sfcctl testbed up" did when the lab came up: chains, workers, modes
really in force, and the hosts' addresses.`,
		Example: `  sudo sfcctl testbed status
  sudo sfcctl testbed status --json`,
		Args: needArgs(0, 0, "only flags"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := dialLab(e, cmd, name)
			if err != nil {
				return err
			}
			s, err := c.Status(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(e.stdout, s)
			}
			return printUp(e.stdout, s)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	nameFlag(cmd, &name)
	return cmd
}
