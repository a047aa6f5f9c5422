package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sfc/ctrl/api"
	"sfc/ctrl/client"
)

func newTop(e env) *cobra.Command {
	r := remote{e: e}
	var every time.Duration
	var count int
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch workers, chains and functions",
		Long: `Shows packets, drops by reason, time per packet, latency, flows and load, again and
again: on a terminal in place, else one table below the other. Tenants see their
own chains. It ends when it is interrupted, or after as many tables as -n says.`,
		Example: `  sfcctl top
  sfcctl top --interval 5s -n 3
  sfcctl top --json -n 1`,
		Args: needArgs(0, 0, "only flags"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			switch {
			case every < 100*time.Millisecond || every > time.Hour:
				err = fmt.Errorf("--interval %v: want 100ms to 1h", every)
			case count < 0:
				err = fmt.Errorf("-n %d: give a number of tables, or 0 for no end", count)
			}
			if err != nil {
				return &usageError{err, cmd.CommandPath()}
			}
			c, err := r.dialScope(cmd.Context())
			if err != nil {
				return err
			}
			return r.top(cmd, c, every, count)
		},
	}
	r.tenantFlag(cmd)
	r.jsonFlag(cmd)
	f := cmd.Flags()
	f.DurationVar(&every, "interval", time.Second, "time between two tables")
	f.IntVarP(&count, "count", "n", 0, "end after so many tables; 0: when interrupted")
	return cmd
}

func (r *remote) top(cmd *cobra.Command, c *client.Client, every time.Duration, count int) error {
	ctx, e := cmd.Context(), r.e
	before, err := c.Stats(ctx, r.tenant)
	if err != nil {
		return err
	}
	for n := 0; count == 0 || n < count; n++ {
		select {
		case <-ctx.Done():
			return nil // that is how one leaves
		case <-time.After(every):
		}
		now, err := c.Stats(ctx, r.tenant)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if r.json {
			if err := printJSON(e.stdout, now); err != nil {
				return err
			}
			continue
		}
		var b strings.Builder
		if e.isTerminal(e.stdout) {
			b.WriteString("\x1b[H\x1b[J") // home, and clear what is below
		} else if n > 0 {
			b.WriteString("\n")
		}
		if err := printTop(&b, now, before); err != nil {
			return err
		}
		if _, err := io.WriteString(e.stdout, b.String()); err != nil {
			return err
		}
		before = now
	}
	return nil
}

// printTop prints the rates between two accounts.
func printTop(w io.Writer, now, before *api.Stats) error {
	c := counts{seconds: max(now.Time.Sub(before.Time).Seconds(), 0.001)}
	t := newTable(w)
	if len(now.Workers) > 0 {
		t.row("WORKER", "CORE", "LOAD", "RECEIVED", "SENT", "PASSED", "DROPPED", "HANDED ON", "HELD", "ENGINE'S DROPS")
	}
	for i, n := range now.Workers {
		var b api.WorkerStats
		if i < len(before.Workers) {
			b = before.Workers[i]
		}
		core := fmt.Sprint(n.Core)
		if n.Core < 0 {
			core = ""
		}
		t.row(i, core, fmt.Sprintf("%.0f%%", float64(n.BusyNs-min(b.BusyNs, n.BusyNs))/1e7/c.seconds), c.of(n.Received, b.Received), c.of(n.Sent, b.Sent),
			c.of(n.Passed, b.Passed), c.of(n.Dropped, b.Dropped), c.of(n.HandedOut, b.HandedOut), c.of(n.Held, b.Held), c.list(n.Drops, b.Drops))
	}
	if len(now.Ports) > 0 {
		t.line("")
		t.row("PORT", "FRAMES", "TO WORKERS", "PASSED", "FORWARDED", "DROPS")
	}
	for i, n := range now.Ports {
		var b api.PortStats
		if i < len(before.Ports) && before.Ports[i].Name == n.Name {
			b = before.Ports[i]
		}
		t.row(n.Name, c.of(n.Frames, b.Frames), c.of(n.Redirected, b.Redirected), c.of(n.Passed, b.Passed), c.of(n.Forwarded, b.Forwarded), c.list(n.Drops, b.Drops))
	}
	old := map[string]*api.ChainStats{}
	for i := range before.Chains {
		old[before.Chains[i].Tenant+"/"+before.Chains[i].Name] = &before.Chains[i]
	}
	t.line("")
	t.row("CHAIN", "PACKETS", "BYTES", "SENT", "PASSED", "FLOWS", "P50", "P99", "DROPS")
	for i := range now.Chains {
		n := &now.Chains[i]
		b := old[n.Tenant+"/"+n.Name]
		if b == nil {
			b = &api.ChainStats{}
		}
		t.row(n.Tenant+"/"+n.Name, c.of(n.Packets, b.Packets), c.of(n.Bytes, b.Bytes), c.of(n.Sent, b.Sent), c.of(n.Passed, b.Passed),
			fmt.Sprintf("%d of %d", n.Flows, n.MaxFlows), us(n.Latency.P50), us(n.Latency.P99), c.list(n.Drops, b.Drops))
	}
	t.line("")
	t.row("CHAIN", "FUNCTION", "VERSION", "STATE", "PACKETS", "NS/PACKET", "BURST P50", "BURST P99", "FAULTS", "DROPS")
	for i := range now.Chains {
		n := &now.Chains[i]
		b := old[n.Tenant+"/"+n.Name]
		for k := range n.Functions {
			f := &n.Functions[k]
			var was api.ChainFunctionStats
			if b != nil && k < len(b.Functions) && b.Functions[k].Name == f.Name {
				was = b.Functions[k]
			}
			t.row(n.Tenant+"/"+n.Name, f.Name, f.Version, f.State, c.of(f.Packets, was.Packets), fmt.Sprintf("%.1f", f.NsPerPacket),
				us(f.Latency.P50), us(f.Latency.P99), f.Traps+f.Overruns, c.list(f.Drops, was.Drops))
			if y := f.Canary; y != nil {
				if was.Canary == nil || was.Canary.Code != y.Code {
					was.Canary = &api.CanaryStats{}
				}
				t.row("", f.Name, y.Version, fmt.Sprintf("canary %d%%", y.Percent), c.of(y.Packets, was.Canary.Packets), fmt.Sprintf("%.1f", y.NsPerPacket),
					us(y.Latency.P50), us(y.Latency.P99), "", "")
			}
		}
	}
	printTenantTop(t, c, now, before)
	return t.flush()
}

func printTenantTop(t *table, c counts, now, before *api.Stats) {
	if len(now.Tenants) == 0 {
		return
	}
	old := map[string]api.TenantStats{}
	for _, b := range before.Tenants {
		old[b.Name] = b
	}
	t.line("")
	t.row("TENANT", "TIME", "GUARANTEED", "OVER SHARE", "FLOWS", "MEMORY")
	for _, n := range now.Tenants {
		b := old[n.Name]
		t.row(n.Name, fmt.Sprintf("%.1f%%", float64(n.BusyNs-min(b.BusyNs, n.BusyNs))/1e7/c.seconds), n.Share, c.of(n.OverShare, b.OverShare),
			n.Flows, api.Bytes(n.MemoryBytes).String())
	}
}

// us prints ns as microseconds; nothing for 0.
func us(ns uint64) string {
	if ns == 0 {
		return ""
	}
	return fmt.Sprintf("%.1fus", float64(ns)/1e3)
}
