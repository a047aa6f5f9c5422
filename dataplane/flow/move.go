package flow

import "sfc/dataplane/steer"

// Record is a flow on its way from one table to another: keys, state, times.
// It has no pointers. Functions' state, which the worker keeps by slot, travels
// beside it.
type Record struct {
	key    key
	bound  [MaxBindings]boundKey
	claims [steer.MaxClaims]uint64
	hash   uint32
	seen   uint32
	ident  uint32
	cookie uint16
	kind   kind
	bits   uint8
	nbound uint8
	slot   uint32 // where it came from
	// owns says that what the flow holds outside of tables goes with the record.
	owns bool
}

// boundKey is a secondary key in a Record.
type boundKey struct {
	key  key
	hash uint64
	swap uint8
}

// Owner returns the hash whose low bits are the flow's ownership bucket.
func (r *Record) Owner() uint32 { return r.hash }

// First returns the slot of the first flow of an ownership bucket, NoSlot
// when it has none. See Next.
func (t *Table) First(bucket uint32) uint32 {
	if bucket >= uint32(len(t.heads)) {
		return NoSlot
	}
	return t.heads[bucket] - 1 // 0, none, becomes NoSlot
}

// Next returns the flow behind slot in its ownership bucket, NoSlot when slot
// is the last or has no flow. Between two calls flows may come and go, but
// slot itself must not.
func (t *Table) Next(slot uint32) uint32 {
	if slot >= t.top || !t.entries[slot].kind.live() {
		return NoSlot
	}
	return t.links[slot].next - 1
}

// Extract takes a flow out of the table: nothing finds it any more. Its slot,
// and what functions keep in it, stay as they are until Leave, so that whenever
// the process ends one table has all of the flow. There is no flow end. ok is
// false when there is no flow in the slot.
//
//	r, ok := from.Extract(slot)   functions' state is copied
//	to.Insert(&r)                 and put into the new slot
//	to.Arrive(slot)
//	from.Leave(&r)                it is cleared in the old one
//
// To move an ownership bucket, extract First(bucket) until it is NoSlot. Flows
// that have ended and wait for Drain are in no bucket and do not move.
func (t *Table) Extract(slot uint32) (r Record, ok bool) {
	if slot >= t.top || !t.entries[slot].kind.live() {
		return r, false
	}
	r = t.record(slot)
	r.owns = true
	t.enter(slot, leaving)
	t.detach(slot)
	t.count.Extracted[r.kind.class()]++
	return r, true
}

// record tells everything of the flow in a slot.
func (t *Table) record(slot uint32) Record {
	e := &t.entries[slot]
	r := Record{key: e.key, hash: e.hash, seen: e.seen, cookie: e.cookie, kind: e.kind, bits: e.bits &^ arriving, slot: slot}
	if t.ledger != nil {
		h := &t.ledger.Flows[slot]
		r.ident, r.claims = h.Ident, h.Claims
	}
	for n := e.bind; n != 0; n = t.bindings[n-1].next {
		b := &t.bindings[n-1]
		r.bound[r.nbound] = boundKey{b.key, b.hash, b.swap}
		r.nbound++
	}
	return r
}

// Leave is told when a flow that Extract took is where it goes, or is over. It
// returns the slot that the flow had, which is free: the caller clears what
// functions kept there before the next Lookup. ok is false when the flow has
// left before.
func (t *Table) Leave(r *Record) (slot uint32, ok bool) {
	if r.slot >= t.top {
		return NoSlot, false
	}
	e := &t.entries[r.slot]
	if e.kind.state() != leaving || !e.key.equal(&r.key) {
		return NoSlot, false
	}
	t.leave(r.slot)
	return r.slot, true
}

func (t *Table) leave(slot uint32) {
	t.enter(slot, unused)
	for e := &t.entries[slot]; e.bind != 0; {
		t.unbind(e)
	}
	t.strike(slot)
	t.release(slot)
}

// Insert puts a flow that Extract took out of another table of the same secret
// into this one, and returns its new slot, whose state the caller fills in and
// then calls Arrive.
// Like a new flow it may cost another one its slot, and is refused (NoSlot)
// where a new one would be, or when its key is already here.
//
// What the flow holds outside of tables comes along; of a flow that is refused
// it is given back: that flow is over. Secondary keys that have no room here or
// are another flow's are left behind and counted as conflicts.
func (t *Table) Insert(r *Record) uint32 {
	slot, ok := t.place(r)
	if !ok {
		t.count.Refused[r.kind.class()]++
		t.Abandon(r)
		return NoSlot
	}
	t.enter(slot, r.kind.state())
	t.linkBucket(slot, r.hash)
	t.live++
	t.count.Inserted[r.kind.class()]++
	if t.ledger != nil {
		t.ledger.Flows[slot] = steer.Holder{Ident: r.ident, Bucket: steer.Bucket(r.hash), Claims: r.claims}
	}
	for i := int(r.nbound) - 1; i >= 0; i-- {
		b := &r.bound[i]
		if t.takeKey(slot, &b.key, b.hash, b.swap) != Bound {
			t.unpin(b.hash)
			t.count.BindConflicts++
		}
	}
	r.owns = false
	return slot
}

// Arrive is told when what functions keep of a flow that was inserted is in its
// slot. Until then Restore takes the flow from the table that it came from.
func (t *Table) Arrive(slot uint32) { t.entries[slot].bits &^= arriving }

// place gives a record a slot, and its key a place in the index.
func (t *Table) place(r *Record) (slot uint32, ok bool) {
	if t.find(&r.key, r.hash) != 0 {
		return 0, false
	}
	if slot, ok = t.allocate(r.seen); !ok {
		return 0, false
	}
	t.entries[slot] = entry{key: r.key, hash: r.hash, seen: r.seen, cookie: r.cookie, bits: r.bits | arriving, kind: makeKind(r.kind.class(), unused)}
	if !t.idx.insert(r.hash, slot+1, t) {
		t.release(slot)
		return 0, false
	}
	return slot, true
}

// Abandon gives back what a flow that was extracted, and is not to be inserted
// anywhere, holds outside of tables. It may be called of any table of the
// flow's chain, and again.
func (t *Table) Abandon(r *Record) {
	if !r.owns {
		return
	}
	r.owns = false
	for i := range r.bound[:r.nbound] {
		t.unpin(r.bound[i].hash)
	}
	t.unclaim(&r.claims)
}
