package agent

import (
	"errors"
	"fmt"

	"sfc/chains"
	"sfc/dataplane"
	"sfc/dataplane/arena"
	"sfc/dataplane/flow"
	"sfc/dataplane/keep"
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

// home is where what a chain keeps of its flows lies when it is to outlive the
// process.
type home struct {
	store keep.Store
	name  string // of the chain and its place
	// adopt uses what is there.
	adopt bool
	// over says that nobody will go on with it: flows end with their tables.
	over bool
	// found is what was restored, by worker.
	found []flow.Restored
}

// names of a chain's flow tables and of its functions' slots.
func (h *home) flows(worker int) string { return fmt.Sprintf("flows/%s/%d", h.name, worker) }
func (h *home) slots() string           { return "slots/" + h.name }

// forget forgets everything.
func (h *home) forget(workers int) (err error) {
	for i := range workers {
		err = errors.Join(err, h.store.Forget(h.flows(i)))
	}
	return errors.Join(err, wasm.ForgetSlots(h.store, h.slots()))
}

// table makes a worker's flow table, or restores it.
func (h *home) table(worker int, o flow.Options, undo *undoStack) (*flow.Table, error) {
	name := h.flows(worker)
	if !h.adopt {
		if err := h.store.Forget(name); err != nil {
			return nil, err
		}
	}
	region, kept, err := h.store.Open(name, flow.MemoryBytes(o), arena.Options{Sparse: true, Transparent: true})
	if err != nil {
		return nil, err
	}
	undo.push(region.Close)
	o.Memory = region.Bytes()
	var t *flow.Table
	if kept {
		var found flow.Restored
		if t, found, err = flow.Restore(o); err == nil {
			h.found = append(h.found, found)
		}
	} else {
		t, err = flow.New(o)
	}
	if err != nil {
		return nil, err
	}
	undo.push(func() error {
		if h.over {
			return t.Close()
		}
		return t.Detach()
	})
	return t, nil
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
// is pushed to undo, also when it fails half-way. Without a home nothing
// outlives the process.
func (b *builder) chain(worker int, c *chains.Chain, hops []wasm.Hop, g grant, at *home, undo *undoStack) (s chainState, err error) {
	if s.mem.Control, err = wasm.NewControl(); err != nil {
		return s, err
	}
	undo.push(s.mem.Control.Close)
	s.mem.Frames = b.frames
	if b.frames == nil {
		// Where chains come and go there are many, and few of them are busy at a
		// time: its pages come with the first packets.
		if err = b.claim(c, "its frames", packet.BurstSize*packet.ChunkSize, undo); err != nil {
			return s, err
		}
		if s.mem.Frames, err = arena.Open("frames", packet.BurstSize*packet.ChunkSize, arena.Options{Sparse: at != nil}); err != nil {
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
		if err = b.claim(c, fmt.Sprintf("its table of %d flows", c.Flows), flow.TableBytes(o), undo); err != nil {
			return s, err
		}
		if at != nil {
			s.flows, err = at.table(worker, o, undo)
		} else if s.flows, err = flow.New(o); err == nil {
			undo.push(s.flows.Close)
		}
		if err != nil {
			return s, err
		}
		if c.Binds {
			grants = wasm.Grants{Pins: g.pins, Claims: g.claims, Chain: c.Index, Key: b.key, Ledger: s.flows.Ledger()}
		}
	}
	var slots wasm.Slots
	if at != nil {
		slots = wasm.Slots{Store: at.store, Name: at.slots(), Adopt: at.adopt, Sparse: true}
	}
	s.group, err = b.rt.NewGroup(s.mem, hops, wasm.GroupOptions{
		Tenant: c.Tenant, Path: uint32(c.Index), Worker: uint32(worker),
		Ports: b.ports, Egress: c.Ports, Flows: c.Flows, Budget: c.Budget, TimeEvery: b.timeEvery,
		Grants:  grants,
		Slots:   slots,
		Records: b.records,
		Events:  func(ev wasm.Event) { b.events(c, worker, ev) },
	})
	if err != nil {
		return s, err
	}
	undo.push(s.group.Close)
	return s, nil
}

// claim counts memory of the chain's tenant before it is made. For what is sparse
// that is all that may come to be filled.
func (b *builder) claim(c *chains.Chain, what string, bytes int, undo *undoStack) error {
	release, err := b.rt.ClaimMemory(c.Tenant, what, int64(bytes))
	if err != nil {
		return fmt.Errorf("chain %s: %w", c.Name, err)
	}
	undo.push(func() error { release(); return nil })
	return nil
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
