package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"sfc/ctrl/api"
)

func newCapture(e env) *cobra.Command {
	r := remote{e: e}
	var req api.CaptureRequest
	var out string
	cmd := &cobra.Command{
		Use:   "capture CHAIN",
		Short: "Write packets of a chain down as pcapng",
		Long: `Writes packets at a point of a chain to a file that Wireshark and tshark read, with
the hop and the verdict in each packet's comment. Points are ingress, egress,
drops, and a function's name followed by :in or :out. It goes on until interrupted,
or until there are as many as -n says. Packets that a slow reader has no room for
are left out; their number is in the file.`,
		Example: `  sfcctl capture edge --at firewall:out -f udp -w - | tshark -r -
  sfcctl capture edge --at drops -n 100 -w drops.pcapng`,
		Args:              needArgs(1, 1, "a chain"),
		ValidArgsFunction: completeNames(false, r.chainNames),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			c, err := r.dialTenant(cmd.Context())
			if err != nil {
				return err
			}
			to := e.stdout
			if out != "-" {
				f, err := os.Create(out)
				if err != nil {
					return err
				}
				defer func() {
					if cerr := f.Close(); err == nil {
						err = cerr
					}
				}()
				to = f
			} else if e.isTerminal(e.stdout) {
				return &usageError{fmt.Errorf("a capture is not for a terminal: name a file with -w, or pipe it to tshark -r -"), cmd.CommandPath()}
			}
			body, err := c.Capture(cmd.Context(), r.tenant, args[0], req)
			if err != nil {
				return err
			}
			defer body.Close()
			n, err := io.Copy(to, body)
			if cmd.Context().Err() != nil {
				err = nil // that is how one leaves
			}
			if err == nil && out != "-" {
				_, err = fmt.Fprintf(e.stdout, "%s: %d bytes\n", out, n)
			}
			return err
		},
	}
	r.tenantFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&req.At, "at", "ingress", "ingress, egress, drops, FUNCTION:in or FUNCTION:out")
	f.StringVarP(&req.Filter, "filter", "f", "", "a tcpdump expression (default: every packet)")
	f.IntVarP(&req.Count, "count", "n", 0, "end after so many packets (default: when interrupted)")
	f.IntVar(&req.Snap, "snap", 0, "bytes of each packet at most (default: all)")
	f.StringVarP(&out, "write", "w", "-", "file, - for standard output")
	return cmd
}
