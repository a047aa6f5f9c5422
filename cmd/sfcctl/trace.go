package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/spf13/cobra"

	"sfc/ctrl/api"
)

func newTrace(e env) *cobra.Command {
	r := remote{e: e}
	var req api.TraceRequest
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "trace CHAIN",
		Short: "Follow packets through a chain: every function's verdict, changes and time",
		Long: `Waits for packets that match the filter and shows the way of each: what every
function decided, which bytes it changed, and how long it took, which is its time
for the burst divided by the burst's packets.`,
		Example:           "  sfcctl trace edge -f 'host 10.0.0.1 and tcp port 80' -n 10",
		Args:              needArgs(1, 1, "a chain"),
		ValidArgsFunction: completeNames(false, r.chainNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			if req.Count < 1 || req.Count > 1000 {
				return &usageError{fmt.Errorf("-n %d: give 1 to 1000 packets", req.Count), cmd.CommandPath()}
			}
			if timeout < time.Second {
				return &usageError{fmt.Errorf("--timeout %v: give a second or more", timeout), cmd.CommandPath()}
			}
			c, err := r.dialTenant(cmd.Context())
			if err != nil {
				return err
			}
			req.TimeoutSeconds = int(timeout.Seconds())
			list, err := c.Trace(cmd.Context(), r.tenant, args[0], req)
			if err != nil || r.json {
				return r.done(list, err, "")
			}
			for i := range list {
				if err := printTrace(e.stdout, i+1, &list[i]); err != nil {
					return err
				}
			}
			if len(list) < req.Count {
				return fmt.Errorf("%s within %v, %d were asked for", plural(len(list), "packet"), timeout, req.Count)
			}
			return nil
		},
	}
	r.tenantFlag(cmd)
	r.jsonFlag(cmd)
	f := cmd.Flags()
	f.StringVarP(&req.Filter, "filter", "f", "", "a tcpdump expression (default: every packet)")
	f.IntVarP(&req.Count, "count", "n", 1, "packets to follow, 1 to 1000")
	f.DurationVar(&timeout, "timeout", 30*time.Second, "give up after so long")
	return cmd
}

func printTrace(w io.Writer, n int, t *api.Trace) error {
	var b strings.Builder
	fmt.Fprintf(&b, "packet %d  %s  in %s, %s, worker %d, %d bytes\n", n, t.Time.Format("15:04:05.000000"), printable(t.Port), t.Path, t.Worker, t.Length)
	fmt.Fprintf(&b, "  %s\n", summary(t.Frame))
	if t.Flow != "" {
		fmt.Fprintf(&b, "  flow %s\n", printable(t.Flow))
	}
	for _, h := range t.Hops {
		reason := ""
		if h.Reason != "" {
			reason = " " + h.Reason
		}
		fmt.Fprintf(&b, "  %-16s %-10s %s%s  %d ns (burst of %d)\n", printable(h.Function), printable(h.Version), h.Verdict, printable(reason), h.TookNs, h.Burst)
		for _, c := range h.Changes {
			fmt.Fprintf(&b, "      bytes %d-%d: %s -> %s\n", c.Offset, c.Offset+max(len(c.Before), len(c.After))-1, hex.EncodeToString(c.Before), hex.EncodeToString(c.After))
		}
	}
	out := t.Verdict
	if t.Reason != "" {
		out += " " + t.Reason
	}
	if t.Egress != "" {
		out += " to " + t.Egress
	}
	fmt.Fprintf(&b, "  => %s after %v\n", printable(out), time.Duration(t.TookNs))
	_, err := io.WriteString(w, b.String())
	return err
}

// summary is a frame in a line.
func summary(frame []byte) string {
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.DecodeOptions{Lazy: true, NoCopy: true})
	var parts []string
	if n := p.NetworkLayer(); n != nil {
		parts = append(parts, fmt.Sprintf("%v %v", n.LayerType(), n.NetworkFlow()))
	}
	if l := p.TransportLayer(); l != nil {
		parts = append(parts, fmt.Sprintf("%v %v", l.LayerType(), l.TransportFlow()))
	}
	if len(parts) == 0 {
		return hex.EncodeToString(frame[:min(len(frame), 32)])
	}
	return strings.Join(parts, ", ")
}
