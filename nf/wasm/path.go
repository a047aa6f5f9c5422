package wasm

import (
	"fmt"

	"sfc/dataplane/packet"
)

// PathRunner takes bursts along one path through a chain's functions. It
// implements chains.Runner.
//
// The paths of a chain share the functions, what they keep of flows, and the
// descriptors: the worker has one burst under way at a time.
type PathRunner struct {
	g     *Group
	order order
}

// Runner returns the runner of a path that visits the functions with these
// indices, in this order; each at most once. Anything else is a mistake in the
// plan, and panics.
func (g *Group) Runner(order []int) *PathRunner {
	var seen uint32
	for _, h := range order {
		if h < 0 || h >= len(g.hops) || seen&(1<<h) != 0 {
			panic(fmt.Sprintf("path through functions %v: each of 0 to %d at most once", order, len(g.hops)-1))
		}
		seen |= 1 << h
	}
	return &PathRunner{g, newOrder(order)}
}

// everyHop is the order of n functions as they were given.
func everyHop(n int) order {
	hops := make([]int, n)
	for i := range hops {
		hops[i] = i
	}
	return newOrder(hops)
}

// Process is chains.Runner's.
func (p *PathRunner) Process(b *packet.Burst) { p.g.process(b, &p.order) }

// Tick calls sfc_tick of all functions of the chain, whatever the path: one
// runner of a chain is ticked.
func (p *PathRunner) Tick(nowNs uint64) { p.g.Tick(nowNs) }

// FlowEnd is chains.Runner's, of all functions of the chain; so are FlowBytes,
// TakeFlow and GiveFlow.
func (p *PathRunner) FlowEnd(slots []uint32) { p.g.FlowEnd(slots) }

// FlowBytes is chains.Runner's.
func (p *PathRunner) FlowBytes() int { return p.g.FlowBytes() }

// TakeFlow is chains.Runner's.
func (p *PathRunner) TakeFlow(slot uint32, dst []byte) { p.g.TakeFlow(slot, dst) }

// ClearFlow is chains.Runner's.
func (p *PathRunner) ClearFlow(slot uint32) { p.g.ClearFlow(slot) }

// GiveFlow is chains.Runner's.
func (p *PathRunner) GiveFlow(slot uint32, src []byte) { p.g.GiveFlow(slot, src) }

// SetHopTrace is chains.HopTracer's, of all paths of the chain.
func (p *PathRunner) SetHopTrace(t *packet.HopTrace) { p.g.SetHopTrace(t) }
