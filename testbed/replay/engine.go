package replay

import (
	"slices"

	"sfc/chains"
	"sfc/ctrl/agent"
	"sfc/dataplane"
	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
	"sfc/nf/wasm"
)

// openEngine makes the data plane that t watches. It has no ports yet.
func openEngine(opts Options, t *tracker) (*agent.Engine, error) {
	specs, err := agent.LoadSpecs(opts.Chains)
	if err != nil {
		return nil, err
	}
	specs = append(specs, opts.Specs...)
	if err := checkOutputs(opts, modules(specs)); err != nil {
		return nil, err
	}
	return agent.Open(agent.Options{
		Specs: specs, Ports: ports, Workers: opts.Workers, Cores: cores(opts), Limits: opts.Limits, TimeEvery: timeEvery,
		PacketTime: opts.Clock == ClockCapture,
		Observer:   func(w int) dataplane.Observer { return &watcher{tracker: t, worker: w} },
		Events: func(ev agent.Event) {
			if opts.SwapEvery > 0 && ev.Kind == wasm.EventReplaced {
				return // as asked, many times a second
			}
			opts.Events(ev.Event)
		},
	})
}

// cores returns where workers run; nil is the engine's choice. Offline that is
// nobody's business.
func cores(opts Options) []int {
	if !opts.Offline {
		return nil
	}
	return slices.Repeat([]int{-1}, opts.Workers)
}

// describe writes what the engine knows into the report.
func describe(e *agent.Engine, rep *Report) {
	mode := e.Mode()
	rep.Mode.Memory = chains.MemoryExclusive.String()
	if mode.Shared {
		rep.Mode.Memory = chains.MemoryShared.String()
	}
	rep.Mode.HugePages = mode.HugePages
	for _, c := range e.Stats() {
		rep.Chains = append(rep.Chains, ChainReport{Name: c.Name, Tenant: c.Tenant, Flows: flowReport(c.Flows)})
		for i := range c.Functions {
			rep.Functions = append(rep.Functions, functionData(c.Name, &c.Functions[i]))
		}
	}
	rep.Mode.Workers, rep.Mode.Core = len(mode.Cores), mode.Cores[0]
	for i, c := range e.Workers() {
		w := WorkerReport{
			Core: mode.Cores[i], Turns: c.Turns, Sleeps: c.Sleeps, Received: c.Received, Sent: c.Sent, Passed: c.Passed, Dropped: c.Dropped,
			HandedOut: c.HandedOut, HandedIn: c.HandedIn, Held: c.Held,
		}
		rep.Workers = append(rep.Workers, w)
		rep.Worker.add(&w)
	}
	rep.Worker.Core = mode.Cores[0]
}

func functionData(chain string, s *wasm.FunctionStats) FunctionData {
	f := FunctionData{
		Chain: chain, Name: s.Name, Packets: s.Packets, Counters: s.Counters, Skipped: s.Skipped,
		NsPerPacket: float64(int(s.NsPerPacket*10)) / 10, Faults: s.Traps + s.Overruns,
		State: s.State.String(), LastFault: s.LastFault,
		Verdicts: map[string]uint64{}, Dropped: map[string]uint64{},
	}
	for v, n := range s.Verdicts {
		if n > 0 {
			f.Verdicts[packet.Verdict(v).String()] = n
		}
	}
	for r, n := range s.Drops {
		f.Dropped[r] += n
	}
	for r, n := range s.Faulted {
		f.Dropped[r] += n
	}
	return f
}

// flowReport sums the classes of flows up.
func flowReport(s *agent.FlowStats) *FlowReport {
	if s == nil {
		return nil
	}
	r := &FlowReport{Max: s.Max, Live: uint32(s.Live)}
	for k := range flow.NumClasses {
		r.Created += s.Created[k]
		r.Expired += s.Expired[k]
		r.Evicted += s.Evicted[k]
		r.Replaced += s.Replaced[k]
		r.Refused += s.Refused[k]
	}
	return r
}
