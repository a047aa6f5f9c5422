package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sfc/ctrl/api"
	"sfc/ctrl/client"
)

// topLimit is how many chains are shown where no terminal says what fits.
const topLimit = 50

// topView says what of an account is shown.
type topView struct {
	every time.Duration
	count int // tables; 0: no end
	sort  string
	limit int // chains; 0: what fits
	all   bool
}

func newTop(e env) *cobra.Command {
	r := remote{e: e}
	var v topView
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch workers, chains and functions",
		Long: `Shows packets, drops by reason, time per packet, latency, flows and load, again and
again: on a terminal in place, else one table below the other. Tenants see their
own chains. It ends when it is interrupted, or after as many tables as -n says.

The busiest chains come first, as many as fit on the terminal, and 50 elsewhere.`,
		Example: `  sfcctl top
  sfcctl top --sort drops --limit 5
  sfcctl top --interval 5s -n 3
  sfcctl top --json -n 1`,
		Args: needArgs(0, 0, "only flags"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := v.check(); err != nil {
				return &usageError{err, cmd.CommandPath()}
			}
			c, err := r.dialScope(cmd.Context())
			if err != nil {
				return err
			}
			return r.top(cmd.Context(), c, v)
		},
	}
	r.tenantFlag(cmd)
	r.jsonFlag(cmd)
	f := cmd.Flags()
	f.DurationVar(&v.every, "interval", time.Second, "time between two tables")
	f.IntVarP(&v.count, "count", "n", 0, "end after so many tables; 0: when interrupted")
	f.StringVar(&v.sort, "sort", "packets", "what decides which chains come first: "+strings.Join(topOrders, ", "))
	f.IntVar(&v.limit, "limit", 0, "chains at most (default: what fits on the terminal, else 50)")
	f.BoolVar(&v.all, "all", false, "all chains")
	cmd.MarkFlagsMutuallyExclusive("limit", "all")
	completeFlag(cmd, "sort", cobra.FixedCompletions(topOrders, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (v *topView) check() error {
	switch {
	case v.every < 100*time.Millisecond || v.every > time.Hour:
		return fmt.Errorf("--interval %v: want 100ms to 1h", v.every)
	case v.count < 0:
		return fmt.Errorf("-n %d: give a number of tables, or 0 for no end", v.count)
	case v.limit < 0:
		return fmt.Errorf("--limit %d: give a number of chains", v.limit)
	case topLess(v.sort) == nil:
		return fmt.Errorf("--sort %q: want %s", v.sort, strings.Join(topOrders, ", "))
	}
	return nil
}

func (r *remote) top(ctx context.Context, c *client.Client, v topView) error {
	before, err := c.Stats(ctx, r.tenant)
	if err != nil {
		return err
	}
	for n := 0; v.count == 0 || n < v.count; n++ {
		select {
		case <-ctx.Done():
			return nil // that is how one leaves
		case <-time.After(v.every):
		}
		now, err := c.Stats(ctx, r.tenant)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if err := r.showTop(now, before, v, n == 0); err != nil {
			return err
		}
		before = now
	}
	return nil
}

// showTop shows one table.
func (r *remote) showTop(now, before *api.Stats, v topView, first bool) error {
	e := r.e
	if r.json {
		return printJSON(e.stdout, now)
	}
	rows, columns := 0, 0
	if e.isTerminal(e.stdout) {
		rows, columns = terminalSize(e.stdout)
	}
	var b strings.Builder
	if err := printTop(&b, now, before, v, rows); err != nil {
		return err
	}
	text := b.String()
	switch {
	case e.isTerminal(e.stdout):
		text = screen(text, rows, columns)
	case !first:
		text = "\n" + text
	}
	_, err := io.WriteString(e.stdout, text)
	return err
}

// screen puts text in the place of what a terminal shows: lines that are too long
// would go on below, and too many would push the first ones out, so both are cut.
// Rows and columns of 0 are not known.
func screen(text string, rows, columns int) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if rows > 1 && len(lines) > rows-1 { // the cursor needs one
		lines = lines[:rows-1]
	}
	var b strings.Builder
	b.WriteString("\x1b[H") // to the upper left
	for _, l := range lines {
		if runes := []rune(l); columns > 0 && len(runes) > columns {
			l = string(runes[:columns])
		}
		b.WriteString(l + "\x1b[K\n") // clear the rest of the line
	}
	b.WriteString("\x1b[J") // and all that is below
	return b.String()
}
