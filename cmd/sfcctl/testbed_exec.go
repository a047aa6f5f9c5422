package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sfc/testbed/lab"
)

func newTestbedExec(e env) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "exec client|server|engine -- PROGRAM [ARGUMENT...]",
		Short: "Run a program on a host of a lab",
		Long: `Runs a program in the network of the client, the server or the engine, in the
place of this command: its input, output and exit status are the program's. It
knows the hosts by these names, and asks the server's address, port 53, for other
names: run a name server there to answer. All other files are this machine's.`,
		Example: `  sudo sfcctl testbed exec server -- python3 -m http.server 80
  sudo sfcctl testbed exec client -- curl http://server/
  sudo sfcctl testbed exec client -- bash`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return fmt.Errorf("missing argument: a host (%s), and a program", hostNames(" or "))
			case !slices.Contains(lab.Hosts, lab.Host(args[0])):
				return fmt.Errorf("%q is no host of a lab: it is %s", args[0], hostNames(" or "))
			case len(program(args)) == 0:
				return fmt.Errorf("missing argument: a program to run on the %s", args[0])
			}
			return nil
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return strings.Split(hostNames(" "), " "), cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveDefault
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := dialLab(e, cmd, name)
			if err != nil {
				return err
			}
			return c.Exec(cmd.Context(), lab.Host(args[0]), program(args))
		},
	}
	// Flags behind the host are the program's.
	cmd.Flags().SetInterspersed(false)
	nameFlag(cmd, &name)
	return cmd
}

func hostNames(sep string) string {
	names := make([]string, len(lab.Hosts))
	for i, h := range lab.Hosts {
		names[i] = string(h)
	}
	return strings.Join(names, sep)
}

// program is what follows the host: pflag leaves a -- behind an argument where
// it is.
func program(args []string) []string {
	if len(args) > 1 && args[1] == "--" {
		return args[2:]
	}
	return args[1:]
}
