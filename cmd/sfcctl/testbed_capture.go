package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"sfc/testbed/lab"
)

// capturePoints are the words of --port: a port of the engine and the host
// behind it have one link.
var capturePoints = map[string]lab.Host{
	"in": lab.HostClient, string(lab.HostClient): lab.HostClient,
	"out": lab.HostServer, string(lab.HostServer): lab.HostServer,
}

func newTestbedCapture(e env) *cobra.Command {
	var name, port string
	var opts lab.CaptureOptions
	cmd := &cobra.Command{
		Use:   "capture --port in|out -w FILE",
		Short: "Write what crosses a link of a lab to a file",
		Long: `Writes the frames that cross the link of a port, in both directions, to a pcapng
file, until it is interrupted or has as many as -n says. The link is watched at
the end of the host behind the port: what the engine's XDP program takes off the
link is in the capture too.`,
		Example: `  sudo sfcctl testbed capture --port in -w in.pcapng -n 1000
  sudo sfcctl testbed capture --port server -w out.pcapng`,
		Args: needArgs(0, 0, "only flags"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			host, known := capturePoints[port]
			var err error
			switch {
			case port == "":
				err = fmt.Errorf("no link given: name one with --port, in or out")
			case !known:
				err = fmt.Errorf("--port %q: it is in or client, out or server", port)
			case opts.Out == "":
				err = fmt.Errorf("no file to write given: name one with -w")
			case opts.Packets < 0:
				err = fmt.Errorf("-n %d: give a number of packets, or 0 for no end", opts.Packets)
			}
			if err != nil {
				return &usageError{err, cmd.CommandPath()}
			}
			c, err := dialLab(e, cmd, name)
			if err != nil {
				return err
			}
			bar := newProgress(e, "packets")
			opts.Host, opts.Progress = host, bar.show
			opts.Started = func() { fmt.Fprintf(e.stderr, "sfcctl: capturing on the link of the %s\n", host) }
			packets, missed, err := c.Capture(cmd.Context(), opts)
			bar.clear()
			if err != nil {
				return err
			}
			if missed > 0 {
				fmt.Fprintf(e.stderr, "sfcctl: %s came faster than they could be written\n", plural(int(missed), "packet"))
			}
			_, err = fmt.Fprintf(e.stdout, "%s: %s\n", opts.Out, plural(int(packets), "packet"))
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&port, "port", "", "in or client, out or server")
	f.StringVarP(&opts.Out, "write", "w", "", "pcapng file to write")
	f.IntVarP(&opts.Packets, "count", "n", 0, "end after so many packets; 0: when interrupted")
	nameFlag(cmd, &name)
	if err := cmd.MarkFlagFilename("write", "pcapng"); err != nil {
		panic(err) // the flag was defined above
	}
	points := cobra.FixedCompletions([]string{"in", "out", "client", "server"}, cobra.ShellCompDirectiveNoFileComp)
	if err := cmd.RegisterFlagCompletionFunc("port", points); err != nil {
		panic(err) // the flag was defined above
	}
	return cmd
}
