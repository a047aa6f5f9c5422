package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sfc/dataplane/steer"
	"sfc/testbed/lab"
)

func newTestbedFlows(e env) *cobra.Command {
	var name string
	var q lab.FlowQuery
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "flows",
		Short: "List the flows that live in a lab",
		Long: `Lists the flows that functions with flow state keep, by worker, chain and bucket:
the tuple of their first packet, the same after translation when a function has
bound another one, how far they have come, and for how long nothing has come.

Flows are looked up between bursts, a few at a time: packets do not wait. Those
that begin, end or move meanwhile may be missed, or come twice.`,
		Example: `  sudo sfcctl testbed flows
  sudo sfcctl testbed flows --bucket 17
  sudo sfcctl testbed flows --limit 100000 --json`,
		Args: needArgs(0, 0, "only flags"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			switch {
			case q.Limit < 1 || q.Limit > lab.MaxFlows:
				err = fmt.Errorf("--limit %d: list 1 to %d flows", q.Limit, lab.MaxFlows)
			case q.Bucket < -1 || q.Bucket >= steer.Buckets:
				err = fmt.Errorf("--bucket %d: it is 0 to %d", q.Bucket, steer.Buckets-1)
			}
			if err != nil {
				return &usageError{err, cmd.CommandPath()}
			}
			c, err := dialLab(e, cmd, name)
			if err != nil {
				return err
			}
			list, err := c.Flows(cmd.Context(), q)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(e.stdout, list)
			}
			return printFlows(e.stdout, list)
		},
	}
	f := cmd.Flags()
	f.StringVar(&q.Chain, "chain", "", "flows of this chain only (a name, or tenant/name)")
	f.IntVar(&q.Bucket, "bucket", -1, "flows of this bucket only")
	f.IntVar(&q.Limit, "limit", 100, "list so many at most")
	f.BoolVar(&asJSON, "json", false, "print them as JSON")
	nameFlag(cmd, &name)
	return cmd
}

func printFlows(w io.Writer, list *lab.FlowList) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "WORKER\tCHAIN\tBUCKET\tPROTO\tFROM\tTO\tSTATE\tIDLE\tTRANSLATED")
	for _, f := range list.Flows {
		var translated []string
		for _, ends := range f.Translated {
			translated = append(translated, ends.Src+" > "+ends.Dst)
		}
		fmt.Fprintf(t, "%d\t%s\t%d\t%s\t%s\t%s\t%s\t%v\t%s\n", f.Worker, f.Chain, f.Bucket, f.Protocol, f.Src, f.Dst, f.State,
			(time.Duration(f.IdleMs) * time.Millisecond).Round(100*time.Millisecond), strings.Join(translated, ", "))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%s, %d listed\n", plural(list.Live, "flow"), len(list.Flows))
	return err
}
