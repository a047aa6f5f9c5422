package dataplane

import (
	"time"

	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
)

// flowLookup is what a chain needs to look the flows of a burst up.
type flowLookup struct {
	// metas are copies of what steering found out: it must not be read from
	// the frame once functions may have written there.
	metas   [packet.BurstSize]packet.Meta
	queries [packet.BurstSize]flow.Query
	results [packet.BurstSize]flow.Result
	ended   [packet.BurstSize]uint32
	// known has bit k set when queries[k] was read before the packet was
	// added: what its frame does not tell.
	known uint64
}

// How many slots one call looks at for flows that have been idle too long.
const (
	burstSweep = 256
	idleSweep  = 1 << 14
)

// lookup finds the flow of every packet of a burst and writes its slot and
// direction into the descriptors. A packet without a flow keeps
// packet.NoSlot: its functions decide without state.
func (w *Worker) lookup(l *lane) {
	c := l.chain
	f, n := c.lookup, int(l.b.N)
	region := w.cfg.Region
	if l.Arena != nil {
		region = l.Arena
	}
	known := f.known
	f.known = 0
	for k := range n {
		if known>>k&1 != 0 {
			f.queries[k].SetTime(l.b.TimeNs[k])
			continue
		}
		m := &f.metas[k]
		m.RxNs = l.b.TimeNs[k]
		w.cfg.Tuples.Read(l.b.Frames[k].Bytes(region), m, &f.queries[k])
	}
	c.flows.Lookup(&f.queries, n, &f.results)
	for k := range n {
		d := &l.Descs[k]
		slot := f.results[k].Slot
		l.b.Slot[k] = slot
		d.Slot = slot
		d.Flags |= f.results[k].Flags
	}
}

// age ends flows that have been idle for too long, and tells the functions of
// flows that have ended, however they did.
func (w *Worker) age(c *chain, now uint64, sweep int) {
	if c.flows == nil {
		return
	}
	c.flows.Age(now, sweep)
	w.drain(c)
}

// drainTime is how long a worker tells functions of ended flows at a time.
const drainTime = 500 * time.Microsecond

// drain tells the functions of flows that have ended, for no longer than
// drainTime and a call: the slots of the others wait for the next one.
func (w *Worker) drain(c *chain) {
	start := uint64(0)
	for {
		n := c.flows.Drain(c.lookup.ended[:])
		if n > 0 {
			c.runner.FlowEnd(c.lookup.ended[:n])
		}
		if n < len(c.lookup.ended) {
			if c.draining {
				w.drained(c)
			}
			return
		}
		now := w.clock.Now()
		if start == 0 {
			start = now
		} else if now-start > uint64(drainTime) {
			if !c.draining && c.flows.Pending() > 0 {
				c.draining = true
				w.draining = append(w.draining, c)
			}
			return
		}
	}
}

// drained takes a chain off the list of those that have more ended flows to
// tell of.
func (w *Worker) drained(c *chain) {
	c.draining = false
	for i := range w.draining {
		if w.draining[i] == c {
			last := len(w.draining) - 1
			w.draining[i] = w.draining[last]
			w.draining = w.draining[:last]
			return
		}
	}
}
