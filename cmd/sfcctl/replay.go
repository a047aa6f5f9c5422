package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"sfc/nf/wasm"
	"sfc/testbed/replay"
)

func newReplay(e env) *cobra.Command {
	var opts replay.Options
	var rate, clock, rebalance, swap string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "replay --chain FILE --in CAPTURE",
		Short: "Send a capture through a chain and account for every packet",
		Long: `Builds a testbed of three network namespaces joined by veth pairs, sends the
capture into port "in" of the middle one, where XDP steers it into an AF_XDP
socket and a pinned worker runs the chain, catches what comes out, and says what
became of every packet. The testbed is gone when the command ends, however it
ends. With --keep the namespaces stay, for "ip netns exec sfc-engine ...", until
the next replay with --keep or "sfcctl testbed clean" removes them; XDP program
and sockets are gone even so.

With a chain that has a way back (spec.return) packets go into both ports: who
sent the first packet of a flow is its client and behind port "in", the other
its server and behind port "out". What servers send is addressed as the client's
packets were seen behind the chain, so that functions may translate; a packet
waits until what came before it in the other direction has arrived. The files of
--out and --drops have an interface for each port then.

With --workers flows are shared out among several workers. --rebalance-every
moves the busiest of them to the next worker every so often, or with "auto" as
load asks for it; --swap-every replaces a function, each in turn, by another
instance of its module, flow state kept. Nothing may be lost or reordered
meanwhile, and the report says how long packets had to wait.

With --offline the same chain runs on the same code from burst to verdict,
without root and kernel, and decides alike about every packet.

Functions see the capture's time (--clock capture), so that those that depend on
time decide alike in every run, or the time of arrival (--clock wall).

Exit status: 0 when sent = received + passed + dropped and nothing was lost, 1
when not or when the replay could not run, 2 for a wrong command line.`,
		Example: `  sudo sfcctl replay --chain edge.yaml --in capture.pcap
  sudo sfcctl replay --chain edge.yaml --in capture.pcap --out out.pcapng --drops drops.pcapng --json
  sudo sfcctl replay --chain edge.yaml --in capture.pcap --rate 10000 --loop 100 --clock wall
  sudo sfcctl replay --chain stateful.yaml --in capture.pcap --loop 20 --workers 2 --rebalance-every 10ms --swap-every 50ms
  sfcctl replay --chain edge.yaml --in capture.pcap --offline`,
		Args: needArgs(0, 0, "only flags"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := parseRate(rate)
			if err != nil {
				return &usageError{err, cmd.CommandPath()}
			}
			if opts.Offline && n > 0 {
				return &usageError{errors.New("--rate paces packets on a wire, which an offline replay has none of: drop one of the two"), cmd.CommandPath()}
			}
			opts.Rate, opts.Clock = n, replay.Clock(clock)
			if opts.Balance = rebalance == "auto"; !opts.Balance {
				if opts.MoveEvery, err = parseEvery("--rebalance-every", rebalance, "10ms, or auto"); err != nil {
					return &usageError{err, cmd.CommandPath()}
				}
			}
			if opts.SwapEvery, err = parseEvery("--swap-every", swap, "50ms"); err != nil {
				return &usageError{err, cmd.CommandPath()}
			}
			if err := opts.Validate(); err != nil {
				return &usageError{err, cmd.CommandPath()}
			}
			_, err = runReplay(cmd.Context(), e, opts, asJSON)
			return err
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&opts.Chains, "chain", nil, "chain file; give several to run several chains")
	f.StringVar(&opts.In, "in", "", "capture to send (pcap or pcapng, Ethernet)")
	f.StringVar(&opts.Out, "out", "", "write the packets that came out to this pcapng file")
	f.StringVar(&opts.Drops, "drops", "", "write the dropped packets to this pcapng file, function and reason as comments")
	f.StringVar(&rate, "rate", "max", "packets per second, or max: as fast as they are taken")
	f.IntVar(&opts.Loop, "loop", 1, "send the capture so many times")
	f.StringVar(&clock, "clock", string(replay.ClockCapture), "time that functions see: capture or wall")
	f.IntVar(&opts.Workers, "workers", 1, "workers that share the flows, each on a core of its own")
	f.StringVar(&rebalance, "rebalance-every", "", "move flows between workers so often, such as 10ms, or auto: when load asks for it")
	f.StringVar(&swap, "swap-every", "", "replace a function, each in turn, so often, such as 50ms")
	f.BoolVar(&opts.Offline, "offline", false, "run without root and kernel")
	f.BoolVar(&opts.Generic, "generic", false, "attach XDP in generic mode (slower; native is the default)")
	f.BoolVar(&opts.Keep, "keep", false, "leave the namespaces sfc-client, sfc-engine and sfc-server behind")
	f.BoolVar(&asJSON, "json", false, "print the report as JSON")
	for name, ext := range map[string][]string{"chain": {"yaml", "yml"}, "in": {"pcap", "pcapng", "cap"}, "out": {"pcapng"}, "drops": {"pcapng"}} {
		if err := cmd.MarkFlagFilename(name, ext...); err != nil {
			panic(err) // a flag of that name was defined above
		}
	}
	clocks := cobra.FixedCompletions([]string{string(replay.ClockCapture), string(replay.ClockWall)}, cobra.ShellCompDirectiveNoFileComp)
	if err := cmd.RegisterFlagCompletionFunc("clock", clocks); err != nil {
		panic(err) // the flag was defined above
	}
	return cmd
}

// parseEvery reads how often something is done; "" is never.
func parseEvery(flag, s, such string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	every, err := time.ParseDuration(s)
	if err != nil || every <= 0 {
		return 0, fmt.Errorf("%s %q: give a time above 0, such as %s", flag, s, such)
	}
	return every, nil
}

// runReplay replays with progress and the functions' events on stderr and the
// report on stdout. The report is nil when the replay did not start.
func runReplay(ctx context.Context, e env, opts replay.Options, asJSON bool) (*replay.Report, error) {
	bar := newProgress(e, "packets")
	opts.Progress = bar.show
	opts.Events = func(ev wasm.Event) {
		bar.above("sfcctl: function %s: %s: %s\n", ev.Function, ev.Kind, ev.Text)
	}
	rep, err := replay.Run(ctx, opts)
	bar.clear()
	if rep == nil {
		return nil, err
	}
	if asJSON {
		return rep, errors.Join(printJSON(e.stdout, rep), err)
	}
	return rep, errors.Join(rep.Print(e.stdout), err)
}

// parseRate reads packets per second, or max for 0.
func parseRate(s string) (int, error) {
	if s == "max" {
		return 0, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("--rate %q: give packets per second (a positive number) or max", s)
	}
	return n, nil
}
