package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sfc/ctrl/client"
)

func newFlows(e env) *cobra.Command {
	r := remote{e: e}
	var q client.FlowQuery
	cmd := &cobra.Command{
		Use:   "flows",
		Short: "List the flows whose state chains keep",
		Long: `Lists flows: the tuple of their first packet, how far they have come, for how long
nothing has come, and the tuples that functions added, such as after translation.
A filter is a tcpdump expression over addresses, protocol and ports.`,
		Example: `  sfcctl flows
  sfcctl flows --chain edge --filter 'host 10.0.0.1 and tcp'`,
		Args: needArgs(0, 0, "only flags"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := r.dialScope(cmd.Context())
			if err != nil {
				return err
			}
			list, err := c.Flows(cmd.Context(), r.tenant, q)
			if err != nil || r.json {
				return r.done(list, err, "")
			}
			w := newTable(e.stdout)
			w.row("CHAIN", "WORKER", "BUCKET", "PROTO", "FROM", "TO", "STATE", "IDLE", "FURTHER TUPLES")
			for i := range list {
				f := &list[i]
				w.row(f.Tenant+"/"+f.Chain, orNone(f.Worker), orNone(f.Bucket), f.Proto, f.Src, f.Dst, f.State,
					(time.Duration(f.IdleMs) * time.Millisecond).Round(100*time.Millisecond), strings.Join(f.Bound, ", "))
			}
			return w.flush()
		},
	}
	r.tenantFlag(cmd)
	r.jsonFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&q.Chain, "chain", "", "flows of this chain only")
	completeValue(cmd, "chain", r.chainNames)
	f.StringVarP(&q.Filter, "filter", "f", "", "a tcpdump expression")
	f.IntVar(&q.Limit, "limit", 100, "list so many at most")
	return cmd
}

// orNone prints a number that may be left out.
func orNone(n *int) string {
	if n == nil {
		return ""
	}
	return fmt.Sprint(*n)
}
