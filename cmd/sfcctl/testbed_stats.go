package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sfc/testbed/lab"
)

func newTestbedWorkers(e env) *cobra.Command {
	var name string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "workers",
		Short: "Show the counters of a lab",
		Long: `Prints what the workers, the ports and the functions of a lab have counted since
it came up. Of every worker, received + handed in = sent + passed + dropped +
handed out, whenever it is quiet. BUSY is the share of its core that it used,
looking for packets included; BUCKETS how many of the buckets it has, into which
flows fall; HELD the packets that waited for their flow to move here. LOST BY THE
KERNEL are frames that found a ring full on their way to the engine or from it.`,
		Example: `  sudo sfcctl testbed workers
  sudo sfcctl testbed workers --json`,
		Args: needArgs(0, 0, "only flags"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := dialLab(e, cmd, name)
			if err != nil {
				return err
			}
			s, err := c.Stats(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(e.stdout, s)
			}
			return printStats(e.stdout, s, nil)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print them as JSON")
	nameFlag(cmd, &name)
	return cmd
}

func newTestbedTop(e env) *cobra.Command {
	var name string
	var every time.Duration
	var count int
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch a lab",
		Long: `Shows the rates of workers, ports and functions, again and again: on a terminal
in place, else one table below the other. It ends when it is interrupted, or
after as many tables as -n says.`,
		Example: `  sudo sfcctl testbed top
  sudo sfcctl testbed top --interval 5s -n 3`,
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
			c, err := dialLab(e, cmd, name)
			if err != nil {
				return err
			}
			return watch(cmd, e, c, every, count)
		},
	}
	f := cmd.Flags()
	f.DurationVar(&every, "interval", time.Second, "time between two tables")
	f.IntVarP(&count, "count", "n", 0, "end after so many tables; 0: when interrupted")
	nameFlag(cmd, &name)
	return cmd
}

// watch prints tables of what happened between two looks.
func watch(cmd *cobra.Command, e env, c *lab.Client, every time.Duration, count int) error {
	ctx := cmd.Context()
	before, err := c.Stats(ctx)
	if err != nil {
		return err
	}
	for n := 0; count == 0 || n < count; n++ {
		select {
		case <-ctx.Done():
			return nil // that is how one leaves
		case <-time.After(every):
		}
		now, err := c.Stats(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		var b strings.Builder
		if e.isTerminal(e.stdout) {
			b.WriteString("\x1b[H\x1b[J") // home, and clear what is below
		} else if n > 0 {
			b.WriteString("\n")
		}
		if err := printStats(&b, now, before); err != nil {
			return err
		}
		if _, err := io.WriteString(e.stdout, b.String()); err != nil {
			return err
		}
		before = now
	}
	return nil
}

// counts prints numbers: as they are, or per second of what was counted since
// before.
type counts struct{ seconds float64 }

func (c counts) of(now, before uint64) string {
	if c.seconds == 0 {
		return fmt.Sprint(now)
	}
	return fmt.Sprintf("%.0f/s", float64(now-min(now, before))/c.seconds)
}

// printStats prints counters, or with before the rates since then.
func printStats(w io.Writer, s, before *lab.Stats) error {
	var c counts
	if before == nil {
		before = &lab.Stats{}
	} else if c.seconds = s.At.Sub(before.At).Seconds(); c.seconds <= 0 {
		c.seconds = 1
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "WORKER\tCORE\tBUSY\tBUCKETS\tRECEIVED\tSENT\tPASSED\tDROPPED\tHANDED IN\tHANDED OUT\tHELD\tENGINE'S DROPS")
	for i, n := range s.Workers {
		var b lab.WorkerStats
		if i < len(before.Workers) {
			b = before.Workers[i]
		}
		core, busy := fmt.Sprint(n.Core), time.Duration(n.BusyNs).Round(time.Millisecond).String()
		if n.Core < 0 {
			core = "-"
		}
		if c.seconds > 0 {
			busy = fmt.Sprintf("%.0f%%", float64(n.BusyNs-b.BusyNs)/1e7/c.seconds)
		}
		buckets := strings.Trim(strings.ReplaceAll(fmt.Sprint(n.Buckets), " ", "+"), "[]")
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", n.Worker, core, busy, buckets,
			c.of(n.Received, b.Received), c.of(n.Sent, b.Sent), c.of(n.Passed, b.Passed), c.of(n.Dropped, b.Dropped),
			c.of(n.HandedIn, b.HandedIn), c.of(n.HandedOut, b.HandedOut), c.of(n.Held, b.Held), c.list(n.Engine, b.Engine))
	}
	fmt.Fprintln(t, "\nPORT\tFRAMES\tTO WORKERS\tPASSED\tFORWARDED\tDROPS\tLOST BY THE KERNEL")
	for i, n := range s.Ports {
		var b lab.PortStats
		if i < len(before.Ports) {
			b = before.Ports[i]
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", n.Port, c.of(n.Frames, b.Frames), c.of(n.Redirected, b.Redirected),
			c.of(n.Passed, b.Passed), c.of(n.Forwarded, b.Forwarded), c.list(n.Dropped, b.Dropped), c.list(n.Lost, b.Lost))
	}
	fmt.Fprintln(t, "\nCHAIN\tFUNCTION\tVERSION\tSTATE\tPACKETS\tNS/PACKET\tFAULTS\tDROPS")
	for i, chain := range s.Chains {
		for k, n := range chain.Functions {
			var b lab.FunctionStat
			if i < len(before.Chains) && k < len(before.Chains[i].Functions) {
				b = before.Chains[i].Functions[k]
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%.1f\t%d\t%s\n", chain.Chain, n.Name, n.Version, n.State, c.of(n.Packets, b.Packets),
				n.NsPerPacket, n.Faults, c.list(n.Dropped, b.Dropped))
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return printRemarks(w, s)
}

// printRemarks prints what fits no table.
func printRemarks(w io.Writer, s *lab.Stats) error {
	var b strings.Builder
	for _, chain := range s.Chains {
		if f := chain.Flows; f != nil {
			fmt.Fprintf(&b, "flows of %s: %d of %d; created %d, expired %d, evicted %d, replaced %d, refused %d\n",
				chain.Chain, f.Live, f.Max, f.Created, f.Expired, f.Evicted, f.Replaced, f.Refused)
		}
		for _, f := range chain.Functions {
			if f.Replaced != "" {
				fmt.Fprintf(&b, "last replacement of %s in %s: %s", f.Name, chain.Chain, f.Replaced)
				if f.Why != "" {
					fmt.Fprintf(&b, ": %s", f.Why)
				}
				b.WriteString("\n")
			}
			if f.LastFault != "" {
				fmt.Fprintf(&b, "last fault of %s in %s: %s\n", f.Name, chain.Chain, f.LastFault)
			}
		}
	}
	if h := s.Holds; h != nil {
		us := func(ns int64) time.Duration { return time.Duration(ns).Round(100 * time.Nanosecond) }
		fmt.Fprintf(&b, "%s held while flows moved: p50 %v, p99 %v, max %v\n", plural(int(h.Packets), "packet"), us(h.P50Ns), us(h.P99Ns), us(h.MaxNs))
	}
	if b.Len() == 0 {
		return nil
	}
	_, err := io.WriteString(w, "\n"+b.String())
	return err
}

// list prints counts by name, the largest first; nothing when all are 0.
func (c counts) list(now, before map[string]uint64) string {
	names := slices.SortedFunc(maps.Keys(now), func(a, b string) int {
		return cmp.Or(cmp.Compare(now[b]-before[b], now[a]-before[a]), cmp.Compare(a, b))
	})
	var out []string
	for _, name := range names {
		if now[name] > before[name] {
			out = append(out, name+" "+c.of(now[name], before[name]))
		}
	}
	return strings.Join(out, ", ")
}
