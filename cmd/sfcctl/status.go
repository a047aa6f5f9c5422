package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newStatus(e env) *cobra.Command {
	r := remote{e: e}
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say whether the daemon serves, and as whom it sees you",
		Long: `Asks the daemon for its health. Exit status: 0 when all is well, 1 when it does not
answer or something is wrong.`,
		Example: "  sfcctl status",
		Args:    needArgs(0, 0, "only flags"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := r.dial()
			if err != nil {
				return err
			}
			h, err := c.Health(cmd.Context())
			if err != nil {
				return err
			}
			id, err := c.Identity(cmd.Context())
			if err != nil {
				return err
			}
			scope := "the whole host"
			if id.Tenant != "" {
				scope = "tenant " + id.Tenant
			}
			if err := r.done(h, nil, "sfcd %s: %s\nyou are %s, %s of %s", printable(id.Server), h.Status, printable(id.Name), id.Role, scope); err != nil {
				return err
			}
			if len(h.Problems) > 0 {
				return fmt.Errorf("degraded: %s", strings.Join(h.Problems, "; "))
			}
			return nil
		},
	}
	r.serverFlag(cmd)
	r.jsonFlag(cmd)
	return cmd
}

func newAudit(e env) *cobra.Command {
	r := remote{e: e}
	var tenant string
	var after uint64
	var limit int
	cmd := &cobra.Command{
		Use:     "audit",
		Short:   "Read who asked the daemon for what, and what came of it",
		Example: "  sfcctl audit\n  sfcctl audit --tenant acme --limit 20",
		Args:    needArgs(0, 0, "only flags"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := r.dial()
			if err != nil {
				return err
			}
			list, err := c.Audit(cmd.Context(), tenant, after, limit)
			if err != nil || r.json {
				return r.done(list, err, "")
			}
			w := newTable(e.stdout)
			w.row("NUMBER", "TIME", "WHO", "OPERATION", "OBJECT", "STATUS", "RESULT")
			for _, a := range list.Items {
				w.row(a.Seq, a.Time.Format(time.RFC3339), a.Who, a.Operation, a.Object, a.Status, a.Result)
			}
			return w.flush()
		},
	}
	r.serverFlag(cmd)
	r.jsonFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&tenant, "tenant", "", "only what concerns this tenant")
	f.Uint64Var(&after, "after", 0, "only what has a higher number")
	f.IntVar(&limit, "limit", 0, "entries at most (default: 100)")
	return cmd
}
