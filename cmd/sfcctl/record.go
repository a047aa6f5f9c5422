package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"sfc/testbed/record"
)

func newRecord(e env) *cobra.Command {
	var opts record.Options
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "record --out FILE",
		Short: "Make a capture of real traffic to replay",
		Long: `Joins two network namespaces by a veth pair, lets the kernel's own stacks in them
talk (HTTP over TCP, DNS over UDP, pings, datagrams, telnet, ARP and neighbour
discovery, over IPv4 and IPv6) and writes down every frame that crosses the link.
No other network is touched, and nothing is left when the command ends.

Some of the traffic is what the example chain testbed/examples/edge.yaml drops:
connections to port 23 and queries for names it blocks.

Exit status: 0 when the file was written, 1 when not, 2 for a wrong command line.`,
		Example: `  sudo sfcctl record --out demo.pcapng
  sudo sfcctl record --out demo.pcapng --seconds 10 --json`,
		Args: needArgs(0, 0, "only flags"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := opts.Validate()
			if opts.Seconds == 0 {
				err = fmt.Errorf("seconds 0: record for 1 to %d", record.MaxSeconds)
			}
			if err != nil {
				return &usageError{err, cmd.CommandPath()}
			}
			bar := newProgress(e, "seconds")
			opts.Progress = bar.show
			rep, err := record.Run(cmd.Context(), opts)
			bar.clear()
			switch {
			case err != nil:
				return err
			case asJSON:
				return printJSON(e.stdout, rep)
			}
			return printRecord(e.stdout, rep)
		},
	}
	f := cmd.Flags()
	f.StringVar(&opts.Out, "out", "", "pcapng file to write")
	f.IntVar(&opts.Seconds, "seconds", 3, fmt.Sprintf("how long to record, 1 to %d", record.MaxSeconds))
	f.BoolVar(&asJSON, "json", false, "print what was recorded as JSON")
	if err := cmd.MarkFlagFilename("out", "pcapng"); err != nil {
		panic(err) // the flag was defined above
	}
	return cmd
}

func printRecord(w io.Writer, r *record.Report) error {
	t := r.Traffic
	_, err1 := fmt.Fprintf(w, "%s: %d packets, %d bytes, recorded in %.1f s\n", r.File, r.Packets, r.Bytes, r.Seconds)
	_, err2 := fmt.Fprintf(w, "  %d HTTP requests, %d DNS queries, %d pings, %d datagrams, %d telnet connections\n",
		t.HTTPRequests, t.DNSQueries, t.Pings, t.Datagrams, t.Telnet)
	return errors.Join(err1, err2)
}
