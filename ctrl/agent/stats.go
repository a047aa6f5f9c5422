package agent

import (
	"cmp"
	"fmt"

	"sfc/bpf"
	"sfc/dataplane"
	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
	"sfc/dataplane/xsk"
	"sfc/nf/wasm"
)

// Mode is what is really in force.
type Mode struct {
	// Attach is the mode of the steering program, by port; empty where there
	// is none.
	Attach []string
	// Bind, NeedWakeup and TxBudget are the sockets' (see xsk.Info).
	Bind       string
	NeedWakeup bool
	TxBudget   int
	// Shared says that packets are copied into memory of their tenant.
	Shared bool
	// HugePages says that the frame region is made of them.
	HugePages bool
	// Cores are those of the workers; -1: not pinned.
	Cores []int
	// NoStack is why packets cannot be passed to the kernel's stack; nil when
	// they can.
	NoStack error
}

// Mode returns what is in force.
func (e *Engine) Mode() Mode {
	m := e.mode
	m.Shared, m.HugePages, m.Cores = e.shared, e.region.Huge(), e.opts.Cores
	return m
}

// ChainStats is the account of one chain, all workers together.
type ChainStats struct {
	Name, Tenant string
	// Functions are in the order of the spec.
	Functions []wasm.FunctionStats
	// Flows is nil when no function keeps flow state.
	Flows *FlowStats
}

// FlowStats is the account of the flow tables of a chain.
type FlowStats struct {
	Max, Live int
	flow.Counters
}

// Stats returns the account of every chain. Anyone may call it once the engine
// is connected, but for Stop: flow tables are looked at between bursts.
func (e *Engine) Stats() []ChainStats {
	if e.final != nil {
		return e.final
	}
	out := make([]ChainStats, len(e.plan.Chains))
	for i := range out {
		c := &e.plan.Chains[i]
		out[i] = ChainStats{Name: c.Name, Tenant: c.Tenant, Functions: e.Functions(i)}
		for _, w := range e.workers {
			t := w.chains[i].flows
			if t == nil {
				continue
			}
			if out[i].Flows == nil {
				out[i].Flows = &FlowStats{}
			}
			w.between(func() { out[i].Flows.add(t) })
		}
	}
	return out
}

func (s *FlowStats) add(t *flow.Table) {
	s.Max += int(t.Max())
	s.Live += int(t.Live())
	c := t.Counters()
	for k := range flow.NumClasses {
		s.Created[k] += c.Created[k]
		s.Expired[k] += c.Expired[k]
		s.Evicted[k] += c.Evicted[k]
		s.Replaced[k] += c.Replaced[k]
		s.Refused[k] += c.Refused[k]
		s.Extracted[k] += c.Extracted[k]
		s.Inserted[k] += c.Inserted[k]
	}
	s.Related += c.Related
	s.Unrelated += c.Unrelated
	s.Bindings += c.Bindings
	s.BindConflicts += c.BindConflicts
	s.BindRefused += c.BindRefused
}

// Fragments returns what the workers saw of fragments. Anyone may call it once
// the engine is connected, but for Stop.
func (e *Engine) Fragments() (sum flow.FragmentCounters) {
	for _, w := range e.workers {
		w.between(func() {
			c := w.tuples.Fragments()
			sum.First += c.First
			sum.Resolved += c.Resolved
			sum.Unknown += c.Unknown
			sum.Lost += c.Lost
		})
	}
	return sum
}

// VerifyFlows checks every flow table against itself, in time that grows with
// their size. The workers have stopped; the engine is connected still.
func (e *Engine) VerifyFlows() error {
	for _, w := range e.workers {
		for i := range w.chains {
			if t := w.chains[i].flows; t != nil {
				if err := t.Verify(); err != nil {
					return fmt.Errorf("worker %d, chain %s: %w", w.index, e.chainName(uint16(i)), err)
				}
			}
		}
	}
	return nil
}

// Functions returns the counters of a chain's functions, all workers together.
// Anyone may call it at any time.
func (e *Engine) Functions(chain int) []wasm.FunctionStats {
	if e.final != nil {
		return e.final[chain].Functions
	}
	var sum []wasm.FunctionStats
	for _, w := range e.workers {
		stats := w.chains[chain].group.Stats()
		if sum == nil {
			sum = stats
			continue
		}
		for i := range stats {
			addFunction(&sum[i], &stats[i])
		}
	}
	return sum
}

// addFunction adds one worker's counters to those of others. The state is the
// worst of them.
func addFunction(to, s *wasm.FunctionStats) {
	if n := to.Packets + s.Packets; n > 0 {
		to.NsPerPacket = (to.NsPerPacket*float64(to.Packets) + s.NsPerPacket*float64(s.Packets)) / float64(n)
	}
	to.Packets += s.Packets
	to.Bursts += s.Bursts
	for v := range to.Verdicts {
		to.Verdicts[v] += s.Verdicts[v]
	}
	addAll(to.Drops, s.Drops)
	addAll(to.Faulted, s.Faulted)
	addAll(to.Counters, s.Counters)
	to.Skipped += s.Skipped
	to.Traps += s.Traps
	to.Overruns += s.Overruns
	to.LogSuppressed += s.LogSuppressed
	to.Latency.Add(&s.Latency)
	to.Canary = addCanary(to.Canary, s.Canary)
	to.State = max(to.State, s.State)
	to.StateLost += s.StateLost
	if to.LastFault == "" {
		to.LastFault = s.LastFault
	}
	if r := s.Replacement; r != nil && (to.Replacement == nil || r.Phase == wasm.RolledBack) {
		to.Replacement = r
	}
}

// addCanary adds a version on trial on one worker to that on another; either may
// be nil.
func addCanary(to, s *wasm.CanaryStats) *wasm.CanaryStats {
	if to == nil || s == nil {
		return cmp.Or(to, s)
	}
	if n := to.Packets + s.Packets; n > 0 {
		to.NsPerPacket = (to.NsPerPacket*float64(to.Packets) + s.NsPerPacket*float64(s.Packets)) / float64(n)
	}
	to.Packets += s.Packets
	to.Bursts += s.Bursts
	for v := range to.Verdicts {
		to.Verdicts[v] += s.Verdicts[v]
	}
	to.Latency.Add(&s.Latency)
	return to
}

func addAll(to, from map[string]uint64) {
	for k, n := range from {
		to[k] += n
	}
}

// Workers returns the counters of every worker, at most 100 ms old; exact after
// Stop. Anyone may call it once the engine is connected.
func (e *Engine) Workers() []dataplane.Counters {
	out := make([]dataplane.Counters, len(e.workers))
	for i, w := range e.workers {
		if w.run != nil {
			out[i] = w.run.Counters()
		}
	}
	return out
}

// Steered returns how the steering program of a port counted, and Seq how many
// frames it has numbered. Anyone may call them once the engine is connected.
func (e *Engine) Steered(port int) (bpf.Counters, error) {
	if e.steer == nil {
		return bpf.Counters{}, ErrNotConnected
	}
	return e.steer.Counters(port)
}

// Seq returns how many frames arrived at a port, modulo 2^32.
func (e *Engine) Seq(port int) (uint32, error) {
	if e.steer == nil {
		return 0, ErrNotConnected
	}
	return e.steer.Seq(port)
}

// SocketStats returns what the kernel counted at the sockets of a port, by
// worker. Each worker's are read between two of its bursts. Anyone may call it
// while the engine is connected, but for Stop.
func (e *Engine) SocketStats(port int) ([]xsk.Stats, error) {
	out := make([]xsk.Stats, len(e.workers))
	for i, w := range e.workers {
		if port >= len(w.sockets) {
			return nil, ErrNotConnected
		}
		var err error
		w.between(func() { out[i], err = w.socketStats(port) })
		if err != nil {
			return nil, fmt.Errorf("port %s: %w", e.plan.Ports[port].Name, err)
		}
	}
	return out, nil
}

// socketStats sums the sockets of a port up.
func (w *worker) socketStats(port int) (xsk.Stats, error) {
	sum, err := w.sockets[port].Stats()
	for _, q := range w.queues {
		if q.port != port || err != nil {
			continue
		}
		var s xsk.Stats
		s, err = q.socket.Stats()
		sum = sum.Add(s)
	}
	return sum, err
}

// ReasonName tells why a packet was dropped on a path. With several chains the
// chain's name goes in front, unless the drop was the engine's own. Workers
// call it.
func (e *Engine) ReasonName(path uint16, o packet.Outcome) string {
	chain := e.plan.Paths[path].Chain
	name := e.workers[0].chains[chain].group.ReasonName(o)
	if len(e.plan.Chains) > 1 && o.Hop != packet.HopEngine {
		return e.plan.Chains[chain].Name + "." + name
	}
	return name
}
