package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sfc/ctrl/api"
	"sfc/ctrl/client"
)

func newEvents(e env) *cobra.Command {
	r := remote{e: e}
	var q client.EventQuery
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Read what happened: faults, alarms, replacements, ports, restarts",
		Example: `  sfcctl events
  sfcctl events --follow --chain edge`,
		Args: needArgs(0, 0, "only flags"),
		RunE: func(cmd *cobra.Command, _ []string) error { return r.events(cmd, q, eventLine) },
	}
	r.tenantFlag(cmd)
	r.jsonFlag(cmd)
	f := cmd.Flags()
	f.BoolVar(&q.Follow, "follow", false, "go on with what comes, until interrupted")
	f.StringVar(&q.Kind, "kind", "", "only log, fault, alarm, replaced, port, move, plane or control")
	f.StringVar(&q.Chain, "chain", "", "only what concerns this chain")
	completeValue(cmd, "chain", r.chainNames)
	f.StringVar(&q.Function, "function", "", "only what concerns this function")
	f.Uint64Var(&q.After, "after", 0, "only what has a higher number")
	f.IntVar(&q.Limit, "limit", 0, "the latest so many (default: all that are kept)")
	return cmd
}

func newLogs(e env) *cobra.Command {
	r := remote{e: e}
	q := client.EventQuery{Kind: "log"}
	cmd := &cobra.Command{
		Use:               "logs FUNCTION",
		Short:             "Read what a function logs",
		Example:           "  sfcctl logs firewall\n  sfcctl logs firewall --chain edge --follow",
		Args:              needArgs(1, 1, "a function"),
		ValidArgsFunction: completeNames(false, r.functionNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			q.Function = args[0]
			return r.events(cmd, q, logLine)
		},
	}
	r.tenantFlag(cmd)
	r.jsonFlag(cmd)
	f := cmd.Flags()
	f.BoolVar(&q.Follow, "follow", false, "go on with what comes, until interrupted")
	f.StringVar(&q.Chain, "chain", "", "only in this chain")
	completeValue(cmd, "chain", r.chainNames)
	f.IntVar(&q.Limit, "limit", 0, "the latest so many lines (default: all that are kept)")
	return cmd
}

// events prints events, each a line.
func (r *remote) events(cmd *cobra.Command, q client.EventQuery, line func(*api.Event) string) error {
	c, err := r.dialScope(cmd.Context())
	if err != nil {
		return err
	}
	for ev, err := range c.Events(cmd.Context(), r.tenant, q) {
		if err != nil {
			if cmd.Context().Err() != nil {
				return nil // that is how one leaves
			}
			return err
		}
		text := line(&ev)
		if r.json {
			raw, err := json.Marshal(ev)
			if err != nil {
				return err
			}
			text = string(raw)
		}
		if _, err := fmt.Fprintln(r.e.stdout, text); err != nil {
			return err
		}
	}
	return nil
}

// eventLine is an event for people.
func eventLine(ev *api.Event) string {
	var where []string
	for _, part := range []string{ev.Tenant, ev.Chain, ev.Function} {
		if part != "" {
			where = append(where, part)
		}
	}
	return strings.TrimRight(fmt.Sprintf("%s  %-7s  %-9s  %-18s  %s  %s", ev.Time.Format(time.RFC3339), ev.Level, ev.Kind, ev.Reason,
		printable(strings.Join(where, "/")), printable(ev.Text)), " ")
}

// logLine is a function's log line.
func logLine(ev *api.Event) string {
	return fmt.Sprintf("%s  %-7s  %s  %s", ev.Time.Format(time.RFC3339Nano), ev.Level, printable(ev.Chain), printable(ev.Text))
}
