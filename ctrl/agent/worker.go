package agent

import (
	"fmt"

	"sfc/chains"
	"sfc/dataplane"
	"sfc/dataplane/arena"
	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
	"sfc/dataplane/xsk"
	"sfc/nf"
	"sfc/nf/wasm"
)

// worker is what one worker has to itself.
type worker struct {
	index  int
	pool   *packet.Pool
	tuples *flow.Reader
	chains []chainState // by chain
	paths  []dataplane.Path

	// Of Connect.
	sockets []*xsk.Socket // by port; none in memory
	queues  []queue       // the ports' other queues
	run     *dataplane.Worker
}

// queue is a socket that a worker only receives from.
type queue struct {
	port   int
	socket *xsk.Socket
}

// chainState is a chain on one worker: what its paths have in common.
type chainState struct {
	mem   wasm.Memory
	arena []byte // its own frames; nil when functions see the port's
	group *wasm.Group
	flows *flow.Table // nil without flow state
}

// newWorker makes the functions and tables of a worker.
func (e *Engine) newWorker(index int) (_ *worker, err error) {
	w := &worker{index: index, pool: e.depot.Pool()}
	if w.tuples, err = flow.NewReader(flow.ReaderOptions{Key: e.key}); err != nil {
		return nil, err
	}
	for i := range e.plan.Chains {
		c := &e.plan.Chains[i]
		s, err := e.newChain(w, c)
		if err != nil {
			return nil, fmt.Errorf("chain %s: %w", c.Title(), err)
		}
		w.chains = append(w.chains, s)
	}
	for i := range e.plan.Paths {
		p := &e.plan.Paths[i]
		s := &w.chains[p.Chain]
		path := dataplane.Path{
			Chain: p.Chain, Runner: s.group.Runner(p.Order), Descs: s.mem.Descs(), Arena: s.arena, Flows: s.flows, Egress: uint16(p.Egress),
			Pins: e.grants[p.Chain].pins,
		}
		if s.group.Binds() {
			path.Binder = s.group
		}
		w.paths = append(w.paths, path)
	}
	return w, nil
}

// newChain makes a chain's functions on a worker.
func (e *Engine) newChain(w *worker, c *chains.Chain) (s chainState, err error) {
	if s.mem.Control, err = wasm.NewControl(); err != nil {
		return s, err
	}
	e.connected.push(s.mem.Control.Close)
	s.mem.Frames = e.region
	if e.shared {
		if s.mem.Frames, err = arena.Open("frames", packet.BurstSize*packet.ChunkSize, arena.Options{}); err != nil {
			return s, err
		}
		e.connected.push(s.mem.Frames.Close)
		s.arena = s.mem.Frames.Bytes()
	}
	hops := make([]wasm.Hop, len(c.Functions))
	for i, f := range c.Functions {
		hops[i] = wasm.Hop{Name: f.Name, Module: e.modules[f.Module], Config: f.Config, Open: f.Fault == chains.FaultOpen}
	}
	g := e.grants[c.Index]
	grants := wasm.Grants{}
	if c.Flows > 0 {
		o := flow.Options{Key: e.key, Max: uint32(c.Flows), Buckets: steer.Buckets, Sparse: true}
		if c.Binds {
			o.Bindings, o.Pins, o.Claims, o.Chain = steer.MaxBinds*o.Max, g.pins, g.claims, c.Index
		}
		if s.flows, err = flow.New(o); err != nil {
			return s, err
		}
		e.connected.push(s.flows.Close)
		if c.Binds {
			grants = wasm.Grants{Pins: g.pins, Claims: g.claims, Chain: c.Index, Key: e.key, Ledger: s.flows.Ledger()}
		}
	}
	s.group, err = e.rt.NewGroup(s.mem, hops, wasm.GroupOptions{
		Tenant: c.Tenant, Path: uint32(c.Index), Worker: uint32(w.index),
		Ports: len(e.plan.Ports), Egress: c.Ports, Flows: c.Flows, Budget: c.Budget, TimeEvery: e.opts.TimeEvery,
		Grants:  grants,
		Records: e.opts.Records,
		Events:  func(ev wasm.Event) { e.opts.Events(Event{Event: ev, Chain: c.Name, Worker: w.index}) },
	})
	if err != nil {
		return s, err
	}
	e.connected.push(s.group.Close)
	return s, nil
}

// config is what workers have in common, whatever their ports are.
func (e *Engine) config(w *worker, ports []dataplane.Port, stack dataplane.Stack) dataplane.Config {
	cfg := dataplane.Config{
		Core: e.opts.Cores[w.index], Region: e.region.Bytes(), Pool: w.pool, Paths: w.paths, GuestBase: nf.FramesStart,
		Tuples: w.tuples, PacketTime: e.opts.PacketTime, Ports: ports, Queues: len(w.queues), Stack: stack,
	}
	if e.routes != nil {
		cfg.Routed, cfg.Routes = e.routed, e.routes.View()
	}
	if e.opts.Observer != nil {
		cfg.Observer = e.opts.Observer(w.index)
	}
	return cfg
}
