package flow

import (
	"sfc/dataplane/packet"
)

// Result is the answer to a [Query].
type Result struct {
	// Slot is the flow's slot, or NoSlot.
	Slot uint32
	// Flags are packet.FlagNewFlow and packet.FlagReverse.
	Flags uint16
	// Status says how the slot came about, or why there is none.
	Status Status
	_      uint8
}

// Status of a [Result].
type Status uint8

const (
	// Found: the packet belongs to a flow that was there.
	Found Status = iota
	// Created: the packet is the first of its flow.
	Created
	// NotAFlow: not IP, or cut short.
	NotAFlow
	// Refused: a new flow that the table has no room for.
	Refused
	// Unrelated: an ICMP error or a later fragment whose flow is not here.
	Unrelated
	// Unknown: a later fragment whose first one is not known, see
	// [UnknownFragment].
	Unknown
)

// String returns the status's stable name.
func (s Status) String() string {
	return [...]string{"found", "created", "not_a_flow", "refused", "unrelated", "unknown", "invalid", "invalid"}[s&7]
}

// Lookup answers the first n queries of a burst, in order: packets of one new
// flow share it, the first one alone is Created. It makes and ends flows, but
// reuses no slot that has not come out of Drain.
//
// It goes over the burst in stages, so that the cache misses of 64 packets
// overlap: the buckets of all, the entries of all, then the comparisons.
func (t *Table) Lookup(qs *[packet.BurstSize]Query, n int, out *[packet.BurstSize]Result) {
	n = min(n, packet.BurstSize)
	t.touchBuckets(qs, n)
	t.findCandidates(qs, n)
	t.touchEntries(n)
	entries, slots := t.entries, t.slots()
	for k := range n {
		q, r := &qs[k], &out[k]
		slot, swap := t.refs[k]-1, uint8(0)
		switch {
		case slot < slots:
			e := &entries[slot]
			if !e.key.equal(&q.key) {
				t.resolve(q, r)
				continue
			}
			swap = e.bits & startSwap
		case slot == NoSlot:
			t.resolve(q, r)
			continue
		default:
			b := &t.bindings[slot-slots]
			if slot, swap = b.slot, b.swap; slot >= slots || !b.key.equal(&q.key) {
				t.resolve(q, r)
				continue
			}
		}
		// The common case: a packet of an open flow that changes nothing. A
		// flow may have ended since findCandidates saw it: then it is not open.
		e := &entries[slot]
		idle := q.at - e.seen
		if e.kind.state() != Open || q.kind != Packet || q.bits&(tcpFIN|tcpRST) != 0 ||
			idle > uint32(t.timeouts[e.kind&(numKinds-1)]) {
			t.resolve(q, r)
			continue
		}
		if idle != 0 {
			e.seen = q.at
		}
		*r = Result{Slot: slot, Flags: uint16(swap^q.swap()) * packet.FlagReverse}
	}
}

// touchBuckets loads a word of every query's first bucket. The loads depend on
// nothing, so the processor has many of them under way.
func (t *Table) touchBuckets(qs *[packet.BurstSize]Query, n int) {
	var sum uint64
	x := t.idx
	for k := range n {
		b, _ := x.place(qs[k].hash)
		sum += x.buckets[b].tags[0]
	}
	t.touched = sum
}

// findCandidates finds for every query the ref whose tag matches, and loads a
// word of the second bucket where it may be there.
func (t *Table) findCandidates(qs *[packet.BurstSize]Query, n int) {
	sum := t.touched
	x := t.idx
	for k := range n {
		b, tag := x.place(qs[k].hash)
		bk := &x.buckets[b]
		ref := uint32(0)
		if set := bk.match(tag); set != 0 {
			ref = bk.refs[firstPlace(set)]
		} else if bk.spill != 0 {
			sum += x.buckets[x.other(b, tag)].tags[0]
		}
		t.refs[k] = ref
	}
	t.touched = sum
}

// touchEntries loads a word of every candidate, and of its flow when it is a
// secondary key. The loads have a loop of their own: the fewer instructions
// between them, the more are under way.
func (t *Table) touchEntries(n int) {
	sum := t.touched
	entries, slots, bound := t.entries, t.slots(), false
	for _, ref := range t.refs[:n] {
		if slot := ref - 1; slot < slots {
			sum += entries[slot].key[0]
		} else if ref != 0 {
			sum += t.bindings[slot-slots].key[0]
			bound = true
		}
	}
	if bound {
		sum += t.touchBound(n)
	}
	t.touched = sum
}

// touchBound loads a word of the flows of candidates that are secondary keys.
func (t *Table) touchBound(n int) (sum uint64) {
	slots := t.slots()
	for _, ref := range t.refs[:n] {
		if ref > slots {
			if slot := t.bindings[ref-1-slots].slot; slot < slots {
				sum += t.entries[slot].key[0]
			}
		}
	}
	return sum
}

// find returns the ref of a key, 0 when it is not in the index.
func (t *Table) find(k *key, hash uint32) uint32 {
	b, tag := t.idx.place(hash)
	bk := &t.idx.buckets[b]
	if ref := t.findIn(bk, k, tag); ref != 0 || bk.spill == 0 {
		return ref
	}
	return t.findIn(&t.idx.buckets[t.idx.other(b, tag)], k, tag)
}

func (t *Table) findIn(bk *bucket, k *key, tag uint64) uint32 {
	for set := bk.match(tag); set != 0; set &= set - 1 {
		ref := bk.refs[firstPlace(set)]
		if slot := ref - 1; slot < t.slots() {
			if t.entries[slot].key.equal(k) {
				return ref
			}
		} else if n := slot - t.slots(); n < uint32(len(t.bindings)) && t.bindings[n].key.equal(k) {
			return ref
		}
	}
	return 0
}

// flowOf returns the slot a ref stands for, and whether a packet of the flow's
// direction has the key's higher end as its source.
func (t *Table) flowOf(ref uint32) (slot uint32, swap uint8) {
	if slot = ref - 1; slot < t.slots() {
		return slot, t.entries[slot].bits & startSwap
	}
	b := &t.bindings[slot-t.slots()]
	return b.slot, b.swap
}

// resolve answers a query in the general case.
func (t *Table) resolve(q *Query, r *Result) {
	*r = Result{Slot: NoSlot, Status: NotAFlow}
	switch q.kind {
	case NoFlow:
		return
	case UnknownFragment:
		r.Status = Unknown
		return
	}
	if ref := t.find(&q.key, q.hash); ref != 0 {
		slot, swap := t.flowOf(ref)
		e := &t.entries[slot]
		switch {
		case t.expired(e, q.at):
			t.end(slot)
			t.count.Expired[e.kind.class()]++
		case e.kind.over() && q.bits&(tcpSYN|tcpACK|tcpRST|tcpFIN) == tcpSYN:
			// The same ports again (RFC 9293 section 3.6.1): another
			// connection, which must not see the old one's state.
			t.end(slot)
			t.count.Replaced[e.kind.class()]++
		default:
			reverse := swap ^ q.swap()
			*r = Result{Slot: slot, Flags: uint16(reverse) * packet.FlagReverse}
			if q.kind != QuotedPacket {
				t.see(slot, q, reverse)
			} else {
				t.count.Related++
			}
			return
		}
	}
	if q.kind != Packet {
		r.Status = Unrelated
		t.count.Unrelated++
		return
	}
	t.create(q, r)
}

// lateMs is how far back in time a packet may lie behind another of its flow.
// More means that the clock was set back.
const lateMs = 60_000

// expired says whether a flow has been idle for too long at a packet's time.
func (t *Table) expired(e *entry, at uint32) bool {
	return int32(at-e.seen) > t.timeouts[e.kind&(numKinds-1)]
}

// see takes note of a packet of a flow.
func (t *Table) see(slot uint32, q *Query, reverse uint8) {
	e := &t.entries[slot]
	if d := int32(q.at - e.seen); d > 0 || d < -lateMs {
		e.seen = q.at
	}
	if s := e.advance(q, reverse); s != e.kind.state() {
		t.enter(slot, s)
	}
}
