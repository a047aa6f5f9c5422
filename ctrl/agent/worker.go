package agent

import (
	"fmt"

	"sfc/chains"
	"sfc/dataplane"
	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
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

// newWorker makes the functions and tables of a worker.
func (e *Engine) newWorker(index int) (_ *worker, err error) {
	w := &worker{index: index, pool: e.depot.Pool()}
	if w.tuples, err = flow.NewReader(flow.ReaderOptions{Key: e.key}); err != nil {
		return nil, err
	}
	b := e.builder()
	for i := range e.plan.Chains {
		c := &e.plan.Chains[i]
		s, err := b.chain(index, c, e.hops(c), e.grants[i], nil, &e.connected)
		if err != nil {
			return nil, fmt.Errorf("chain %s: %w", c.Title(), err)
		}
		w.chains = append(w.chains, s)
	}
	for i := range e.plan.Paths {
		p := &e.plan.Paths[i]
		w.paths = append(w.paths, w.chains[p.Chain].path(p, p.Chain, e.grants[p.Chain]))
	}
	return w, nil
}

// builder returns what makes the engine's chains.
func (e *Engine) builder() *builder {
	b := &builder{
		rt: e.rt, key: e.key, ports: len(e.plan.Ports), timeEvery: e.opts.TimeEvery, records: e.opts.Records,
		events: func(c *chains.Chain, worker int, ev wasm.Event) {
			e.opts.Events(Event{Event: ev, Chain: c.Name, Worker: worker})
		},
	}
	if !e.shared {
		b.frames = e.region
	}
	return b
}

// hops returns a chain's functions with the modules that were loaded for them.
func (e *Engine) hops(c *chains.Chain) []wasm.Hop {
	hops := make([]wasm.Hop, len(c.Functions))
	for i := range c.Functions {
		hops[i] = hopOf(&c.Functions[i], e.modules[c.Functions[i].Module])
	}
	return hops
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
