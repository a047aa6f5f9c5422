package dataplane

import (
	"time"

	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
)

// odd marks packets that do not show their flow's tuple the way others do, so
// that steering sends them by their addresses alone: fragments and ICMP errors.
const odd = packet.FlagFragment | packet.FlagLaterFrag | packet.FlagICMPError

// sortOdd finds the flow of an odd packet and gives it to the flow's owner. It
// does so for all chains when one of them keeps flows: the first fragment of a
// packet may be of another chain than steering thinks the others are of.
func (w *Worker) sortOdd(l *lane, f packet.Frame, m *packet.Meta) {
	it := item{frame: f, meta: *m, known: true}
	w.cfg.Tuples.Read(f.Bytes(w.cfg.Region), m, &it.query)
	switch it.query.Kind() {
	case flow.UnknownFragment:
		w.early.hold(w, &it)
		return
	case flow.NoFlow:
		w.place(l, &it) // decided without state, here or anywhere
		return
	}
	w.dispatch(&it)
	if m.Flags&(packet.FlagFragment|packet.FlagLaterFrag) == packet.FlagFragment && w.early.n > 0 {
		w.early.release(w, it.query.Group())
	}
}

// dispatch gives a packet whose flow was read to the owner of the flow, and
// counts it as steering does.
func (w *Worker) dispatch(it *item) {
	it.meta.Path = it.query.Path() // of a later fragment: its first one's
	l := w.lane(it.meta.Path)
	if l == nil {
		w.noPath(it.frame, it.meta.Seq)
		return
	}
	c := l.chain
	bucket := steer.Bucket(it.query.Owner())
	if c.pins != nil {
		if v, ok := c.pins.Lookup(steer.PinKey(w.cfg.Tuples.Hash64(&it.query), c.index)); ok {
			if chain, pinned := steer.PinOwner(v); chain == c.index {
				bucket = pinned & (steer.Buckets - 1)
			}
		}
	}
	it.meta.Bucket = bucket
	if c.buckets == nil || c.flows == nil {
		w.place(l, it) // the only worker, or as good as its owner
		return
	}
	w.handTo(w.cfg.Owners.Take(c.index, bucket), it)
}

// place takes a packet whose flow may have been read: to be processed now, or
// when it is its tenant's turn.
func (w *Worker) place(l *lane, it *item) {
	if l.chain.share.divert {
		w.queued(l, it)
		return
	}
	w.put(l, it)
}

// put adds a packet to the burst of its path.
func (w *Worker) put(l *lane, it *item) {
	k := w.add(l, it.frame, &it.meta)
	if look := l.chain.lookup; look != nil && it.known {
		look.queries[k] = it.query
		look.known |= 1 << k
	}
}

// Bounds of what waits for a first fragment: a datagram of 64 KiB is 45
// fragments of an Ethernet frame's size, and those that are out of order are
// microseconds apart, not more.
const (
	maxEarly  = 256
	earlyHold = 100 * time.Millisecond
)

// earlyFragments are fragments that came before the first one of their packet.
type earlyFragments struct {
	n int
	// asked is when time was up for the oldest, and the worker noted what lay in
	// its RX rings; 0: it was not.
	asked uint64
	items [maxEarly]item
	since [maxEarly]uint64
}

// hold keeps a fragment until its first one has come, or until it has waited
// for earlyHold and the worker had what lay in its RX rings then: who stood
// still for that long has yet to look. When there is no room the oldest goes on
// as it is.
func (e *earlyFragments) hold(w *Worker, it *item) {
	if e.n == maxEarly {
		e.take(w, 0)
	}
	e.items[e.n] = *it
	e.since[e.n] = w.clock.Now()
	e.n++
	w.local.Held++
}

// release gives the fragments of a packet to their flow.
func (e *earlyFragments) release(w *Worker, group uint32) {
	for i := 0; i < e.n; {
		if e.items[i].query.Group() != group {
			i++
			continue
		}
		it := e.items[i]
		e.remove(i)
		w.cfg.Tuples.Read(it.frame.Bytes(w.cfg.Region), &it.meta, &it.query)
		if it.query.Kind() == flow.LaterFragment {
			w.dispatch(&it)
		} else { // another packet's, with a group that is the same by accident
			w.place(w.lanes[it.meta.Path], &it)
		}
	}
}

// take lets a fragment go on without a flow.
func (e *earlyFragments) take(w *Worker, i int) {
	it := e.items[i]
	e.remove(i)
	w.place(w.lanes[it.meta.Path], &it)
}

func (e *earlyFragments) remove(i int) {
	copy(e.items[i:e.n], e.items[i+1:e.n])
	copy(e.since[i:e.n], e.since[i+1:e.n])
	e.n--
}

// earlyRest is how long the oldest fragment has to wait, in whole milliseconds.
func (w *Worker) earlyRest() time.Duration {
	waited := w.clock.Now() - w.early.since[0]
	return (earlyHold - min(time.Duration(waited), earlyHold)).Truncate(time.Millisecond) + time.Millisecond
}

// expireEarly lets fragments go on that have waited long enough.
func (w *Worker) expireEarly() (n int) {
	e := &w.early
	if e.asked == 0 {
		now := w.clock.Now()
		if e.since[0]+uint64(earlyHold) >= now {
			return 0
		}
		e.asked = now
		for i := range w.ports {
			p := &w.ports[i]
			rx, _ := p.Waiting()
			p.due = p.taken + uint64(rx)
		}
	}
	for i := range w.ports {
		if p := &w.ports[i]; p.taken < p.due {
			return 0
		}
	}
	for e.n > 0 && e.since[0]+uint64(earlyHold) < e.asked {
		e.take(w, 0)
		n++
	}
	e.asked = 0
	if n > 0 {
		w.finish()
	}
	return n
}
