package agent

import (
	"sfc/chains"
	"sfc/dataplane"
	"sfc/dataplane/arena"
	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
	"sfc/nf/wasm"
)

// builder makes chains on workers.
type builder struct {
	rt        *wasm.Runtime
	key       [2]uint64 // of the flow hash
	ports     int       // as functions are told
	timeEvery int
	// frames is the region of the ports where functions see it; nil: packets
	// are copied into one of the chain's own.
	frames  *arena.Region
	records func(wasm.Record)
	events  func(c *chains.Chain, worker int, ev wasm.Event)
}

// chainState is a chain on one worker: what its paths have in common.
type chainState struct {
	mem   wasm.Memory
	arena []byte // its own frames; nil when functions see the port's
	group *wasm.Group
	flows *flow.Table // nil without flow state
}

// hopOf is a function of a chain with its code.
func hopOf(f *chains.Hop, m *wasm.Module) wasm.Hop {
	return wasm.Hop{Name: f.Name, Module: m, Config: f.Config, Open: f.Fault == chains.FaultOpen}
}

// chain makes a chain's functions and tables on a worker. What gives them back
// is pushed to undo, also when it fails half-way.
func (b *builder) chain(worker int, c *chains.Chain, hops []wasm.Hop, g grant, undo *undoStack) (s chainState, err error) {
	if s.mem.Control, err = wasm.NewControl(); err != nil {
		return s, err
	}
	undo.push(s.mem.Control.Close)
	s.mem.Frames = b.frames
	if b.frames == nil {
		if s.mem.Frames, err = arena.Open("frames", packet.BurstSize*packet.ChunkSize, arena.Options{}); err != nil {
			return s, err
		}
		undo.push(s.mem.Frames.Close)
		s.arena = s.mem.Frames.Bytes()
	}
	grants := wasm.Grants{}
	if c.Flows > 0 {
		o := flow.Options{Key: b.key, Max: uint32(c.Flows), Buckets: steer.Buckets, Sparse: true}
		if c.Binds {
			o.Bindings, o.Pins, o.Claims, o.Chain = steer.MaxBinds*o.Max, g.pins, g.claims, c.Index
		}
		if s.flows, err = flow.New(o); err != nil {
			return s, err
		}
		undo.push(s.flows.Close)
		if c.Binds {
			grants = wasm.Grants{Pins: g.pins, Claims: g.claims, Chain: c.Index, Key: b.key, Ledger: s.flows.Ledger()}
		}
	}
	s.group, err = b.rt.NewGroup(s.mem, hops, wasm.GroupOptions{
		Tenant: c.Tenant, Path: uint32(c.Index), Worker: uint32(worker),
		Ports: b.ports, Egress: c.Ports, Flows: c.Flows, Budget: c.Budget, TimeEvery: b.timeEvery,
		Grants:  grants,
		Records: b.records,
		Events:  func(ev wasm.Event) { b.events(c, worker, ev) },
	})
	if err != nil {
		return s, err
	}
	undo.push(s.group.Close)
	return s, nil
}

// path is a way through the chain for the worker, as the chain with that index.
func (s *chainState) path(p *chains.Path, chain uint16, g grant) dataplane.Path {
	path := dataplane.Path{
		Chain: chain, Runner: s.group.Runner(p.Order), Descs: s.mem.Descs(), Arena: s.arena, Flows: s.flows, Egress: uint16(p.Egress),
		Pins: g.pins,
	}
	if s.group.Binds() {
		path.Binder = s.group
	}
	return path
}
