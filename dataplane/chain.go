package dataplane

import (
	"slices"

	"sfc/chains"
	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
)

// chain is what the paths of a chain have in common on a worker.
type chain struct {
	// open is the lane whose burst lies in the chain's descriptors.
	open *lane
	// buckets says what this worker has to do with the flows of each bucket;
	// nil when it is the only one.
	buckets *[steer.Buckets]bucketWord
	share   *Share // of its tenant
	// lookup is what looking flows up needs; nil without.
	lookup *flowLookup
	// nextTick is when the chain's periodic call is due.
	nextTick uint64
	bursts   uint64
	probes   []*probe
	index    uint16
	// draining says that the chain is in Worker.draining.
	draining bool
	// shut says that packets without a flow are dropped; see Set.Shut.
	shut bool

	runner chains.Runner // of the first path: it ticks, and has the flows
	flows  *flow.Table
	pins   *steer.Pins
	binder Binder
	lanes  []*lane
	trace  *packet.HopTrace // what the functions write to for probes; nil: nobody wants it

	account Account
}

// lane is a path and the burst under way on it.
type lane struct {
	Path
	chain  *chain
	active bool   // in Worker.active
	bytes  uint64 // of the burst
	b      packet.Burst
	// umem is where each packet lies in the worker's region when the path has
	// an arena of its own.
	umem [packet.BurstSize]packet.Frame
}

// IndexedPath is a path and its index, by which steering names it.
type IndexedPath struct {
	Index uint16
	Path
}

// newChain makes a chain of its paths; the first of them decides. It touches
// nothing of the worker, so anyone may call it.
func (w *Worker) newChain(paths []IndexedPath) *chain {
	p, owners := &paths[0].Path, w.cfg.Owners
	c := &chain{index: p.Chain, runner: p.Runner, flows: p.Flows, pins: p.Pins, share: p.Tenant}
	if c.share == nil {
		c.share = &w.sched.nobody
	}
	if p.Flows != nil {
		c.lookup = new(flowLookup)
		if c.binder = p.Binder; c.binder != nil {
			c.binder.ApplyBinds(p.Flows) // it learns of the room there is
		}
	}
	if owners != nil {
		c.buckets = new([steer.Buckets]bucketWord)
		for b := range c.buckets {
			if owners.Owner(c.index, uint16(b)) != w.cfg.Index {
				c.buckets[b] = away
			}
		}
	}
	for i := range paths {
		l := &lane{Path: paths[i].Path, chain: c}
		l.b.Path = paths[i].Index
		c.lanes = append(c.lanes, l)
	}
	return c
}

// install gives the worker a chain, between two bursts.
func (w *Worker) install(c *chain) {
	w.chains[c.index] = c
	w.list = append(w.list, c)
	w.sched.join(c.share)
	for _, l := range c.lanes {
		w.lanes[l.b.Path] = l
	}
	w.flows = w.flows || c.flows != nil
}

// uninstall takes a chain away, between two bursts. What the worker still keeps
// of its packets is dropped: no_path.
func (w *Worker) uninstall(c *chain) {
	w.purge(c)
	w.sched.leave(c.share)
	w.chains[c.index] = nil
	for _, l := range c.lanes {
		w.lanes[l.b.Path] = nil
	}
	for _, list := range []*[]*chain{&w.list, &w.draining} {
		if i := slices.Index(*list, c); i >= 0 {
			*list = slices.Delete(*list, i, i+1)
		}
	}
	w.flows = slices.ContainsFunc(w.list, func(c *chain) bool { return c.flows != nil })
}

// lane returns the lane of a path; nil when there is none.
func (w *Worker) lane(path uint16) *lane {
	if int(path) >= len(w.lanes) {
		return nil
	}
	return w.lanes[path]
}

// keeps returns how many packets of a chain the worker keeps outside bursts and
// rings.
func (w *Worker) keeps(c *chain) (n int) {
	for i := range w.early.n {
		if w.of(&w.early.items[i], c) {
			n++
		}
	}
	for i := range w.moves.held {
		if w.of(&w.moves.held[i], c) {
			n++
		}
	}
	w.eachQueued(c, func(*item) bool { n++; return false }, nil)
	return n
}

// of says whether a packet is one of a chain's.
func (w *Worker) of(it *item, c *chain) bool {
	l := w.lane(it.meta.Path)
	return l != nil && l.chain == c
}

// purge drops what the worker keeps of a chain.
func (w *Worker) purge(c *chain) {
	for i := 0; i < w.early.n; {
		if it := &w.early.items[i]; w.of(it, c) {
			w.drop(it, packet.ReasonNoPath)
			w.early.remove(i)
			continue
		}
		i++
	}
	w.eachQueued(c, func(*item) bool { return true }, func(it *item) { w.drop(it, packet.ReasonNoPath) })
	m, kept := &w.moves, 0
	for i := range m.held {
		if w.of(&m.held[i], c) {
			w.drop(&m.held[i], packet.ReasonNoPath)
			continue
		}
		m.held[kept], m.since[kept] = m.held[i], m.since[i]
		kept++
	}
	m.held, m.since = m.held[:kept], m.since[:kept]
}
