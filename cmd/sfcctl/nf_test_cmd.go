package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"sfc/chains"
	"sfc/nf"
	"sfc/testbed/replay"
)

func newNFTest(e env) *cobra.Command {
	var opts replay.Options
	var config, expect string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "test MODULE.wasm --in CAPTURE",
		Short: "Run one function over a capture, without root",
		Long: `Sends a capture through a chain of this one function, offline, on the same code
as "sfcctl replay", and says what became of every packet: received are those
that the function let through, passed those that it, or the lack of an IP
header, sent to the kernel's stack.

A function that needs both directions of flows (both_directions in its manifest)
gets them: who sent the first packet of a flow is its client and behind port
"in", the other its server and behind port "out", as "sfcctl replay" has it.

With --expect the result is compared with a JSON file such as

  {"sent": 7, "received": 4, "dropped": {"acl.denied": 3}}

Only the fields that the file has are compared: sent, received, passed, dropped
(all reasons) and counters (those named).

Exit status: 0 when the run balances and is as expected, 1 when not, 2 for a
wrong command line.`,
		Example: `  sfcctl nf test acl.wasm --config acl.json --in capture.pcap
  sfcctl nf test acl.wasm --config acl.json --in capture.pcap --drops drops.pcapng --json
  sfcctl nf test acl.wasm --config acl.json --in capture.pcap --expect expect.json`,
		Args:              needArgs(1, 1, "one module"),
		ValidArgsFunction: completeFiles("wasm"),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.Offline, opts.Workers, opts.Loop, opts.Clock = true, 1, 1, replay.ClockCapture
			opts.Specs = []chains.Spec{testSpec(args[0], config)}
			if err := opts.Validate(); err != nil {
				return &usageError{err, cmd.CommandPath()}
			}
			if err := complete(&opts.Specs[0]); err != nil {
				return err
			}
			var want *expectation
			if expect != "" {
				var err error
				if want, err = loadExpectation(expect); err != nil {
					return err
				}
			}
			rep, err := runReplay(cmd.Context(), e, opts, asJSON)
			if rep == nil {
				return err
			}
			if !asJSON {
				err = errors.Join(err, printCounters(e.stdout, rep))
			}
			if want != nil {
				err = errors.Join(err, want.compare(rep))
			}
			if want != nil && !asJSON && err == nil {
				_, err = fmt.Fprintf(e.stdout, "as %s expects\n", expect)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&config, "config", "", "the function's configuration, a JSON file (default: {})")
	f.StringVar(&opts.In, "in", "", "capture to send (pcap or pcapng, Ethernet)")
	f.StringVar(&opts.Out, "out", "", "write the packets that came out to this pcapng file")
	f.StringVar(&opts.Drops, "drops", "", "write the dropped packets to this pcapng file, with their reasons as comments")
	f.StringVar(&expect, "expect", "", "compare the result with this JSON file")
	f.BoolVar(&asJSON, "json", false, "print the report as JSON")
	for name, ext := range map[string]string{"config": "json", "in": "pcap", "out": "pcapng", "drops": "pcapng", "expect": "json"} {
		if err := cmd.MarkFlagFilename(name, ext); err != nil {
			panic(err) // a flag of that name was defined above
		}
	}
	return cmd
}

// testSpec is a chain of one function for all IP packets. Its function lacks
// name and configuration: see complete.
func testSpec(module, config string) chains.Spec {
	match := chains.MatchAll()
	match.Port = "in"
	return chains.Spec{
		Flows: chains.DefaultFlows,
		Name:  "test", Tenant: "test", Match: []chains.Match{match}, Egress: "out", Budget: chains.DefaultBudget,
		Functions: []chains.FunctionSpec{{Module: module, Config: []byte("{}"), ConfigFile: config}},
	}
}

// complete names the function as its module does, reads its configuration, and
// gives the chain a way back when the function needs both directions of flows.
func complete(s *chains.Spec) error {
	f := &s.Functions[0]
	m, err := chains.LoadModule(f.Module, nf.Limits{})
	if err != nil {
		return err
	}
	f.Name = m.Manifest.Name
	if m.Manifest.BothDirections {
		s.Return = s.Mirror()
	}
	if f.ConfigFile == "" {
		return nil
	}
	if f.Config, err = chains.LoadConfig(f.ConfigFile); err != nil {
		return fmt.Errorf("--config: %w", err)
	}
	return nil
}

// printCounters adds the function's own counters to a printed report.
func printCounters(w io.Writer, rep *replay.Report) error {
	for _, f := range rep.Functions {
		for _, name := range slices.Sorted(maps.Keys(f.Counters)) {
			if _, err := fmt.Fprintf(w, "counter %s.%s  %d\n", f.Name, printable(name), f.Counters[name]); err != nil {
				return err
			}
		}
	}
	return nil
}
