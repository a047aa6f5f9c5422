package dataplane

import (
	"github.com/HdrHistogram/hdrhistogram-go"

	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
)

// MaxHeld is how many packets a worker may hold for flows on their way to it.
const MaxHeld = 4096

// moving is a worker's part in flows that change hands.
type moving struct {
	// leaving is the flows that are to leave; nil: none. There is one move at a
	// time.
	leaving *transfer
	held    []item
	since   []uint64 // when held packets came
	// holds is for how long packets were held, in ns.
	holds *hdrhistogram.Histogram
}

func (m *moving) setUp(many bool) {
	m.holds = hdrhistogram.New(1, 60_000_000_000, 3)
	if many {
		m.held = make([]item, 0, MaxHeld)
		m.since = make([]uint64, 0, MaxHeld)
	}
}

// foreign takes a packet that was sent here and is not to be processed now.
func (w *Worker) foreign(it *item) {
	c := w.lanes[it.meta.Path].chain
	if c.buckets[it.meta.Bucket&(steer.Buckets-1)]&stateBits == arriving {
		w.hold(it)
		return
	}
	// Sent before the flows left, and very late: their owner gets it.
	if owner := w.cfg.Owners.Take(c.index, it.meta.Bucket); owner != w.cfg.Index {
		w.handTo(owner, it)
		return
	}
	w.place(w.lanes[it.meta.Path], it)
}

// hold keeps a packet until its flow has come.
func (w *Worker) hold(it *item) {
	m := &w.moves
	if len(m.held) == cap(m.held) {
		w.drop(it, packet.ReasonHeldFull)
		return
	}
	w.local.Held++
	m.held = append(m.held, *it)
	m.since = append(m.since, w.clock.Now())
}

// letGo processes what was held for a bucket.
func (w *Worker) letGo(chain, bucket uint16) {
	m, now, kept := &w.moves, w.clock.Now(), 0
	for i := range m.held {
		it := &m.held[i]
		if l := w.lanes[it.meta.Path]; l.Chain == chain && it.meta.Bucket == bucket {
			_ = m.holds.RecordValue(int64(max(now-m.since[i], 1))) // a minute is out of range, and not worth an error
			w.put(l, it)                                           // before those that come from now on, which may have to wait
			continue
		}
		m.held[kept], m.since[kept] = *it, m.since[i]
		kept++
	}
	m.held, m.since = m.held[:kept], m.since[:kept]
	w.finish()
}

// end is what the worker does last: nobody can leave it anything afterwards,
// flows on their way go on, and what it holds is dropped.
func (w *Worker) end() {
	w.inbox.close()
	if t := w.moves.leaving; t != nil {
		w.moves.leaving = nil
		w.pack(t)
	}
	for _, c := range w.list {
		w.eachQueued(c, func(*item) bool { return true }, func(it *item) { w.drop(it, packet.ReasonShutdown) })
	}
	for i := range w.early.n {
		w.drop(&w.early.items[i], packet.ReasonShutdown)
	}
	w.early.n = 0
	for i := range w.moves.held {
		w.drop(&w.moves.held[i], packet.ReasonShutdown)
	}
	w.moves.held, w.moves.since = w.moves.held[:0], w.moves.since[:0]
	w.finish()
	for i := range w.ports {
		if w.phase != parked { // then the rings are another's by now
			w.ports[i].Flush()
		}
	}
	w.shared.publish(&w.local)
}
