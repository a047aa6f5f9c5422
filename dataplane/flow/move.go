package flow

// Record is a flow on its way from one table to another: keys, state, times.
// It has no pointers. Functions' state, which the worker keeps by slot, travels
// beside it.
type Record struct {
	key    key
	bound  [MaxBindings]boundKey
	hash   uint32
	seen   uint32
	cookie uint16
	kind   kind
	bits   uint8
	nbound uint8
}

// boundKey is a secondary key in a Record.
type boundKey struct {
	key  key
	hash uint32
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

// Extract takes a flow out of the table. Its slot is free at once, with no flow
// end: the caller takes functions' state along and clears the slot before the
// next Lookup. ok is false when there is no flow in the slot.
//
// To move an ownership bucket, extract First(bucket) until it is NoSlot. Flows
// that have ended and wait for Drain are in no bucket and do not move.
func (t *Table) Extract(slot uint32) (r Record, ok bool) {
	if slot >= t.top || !t.entries[slot].kind.live() {
		return r, false
	}
	e := &t.entries[slot]
	r = Record{key: e.key, hash: e.hash, seen: e.seen, cookie: e.cookie, kind: e.kind, bits: e.bits}
	for n := e.bind; n != 0; n = t.bindings[n-1].next {
		b := &t.bindings[n-1]
		r.bound[r.nbound] = boundKey{b.key, b.hash, b.swap}
		r.nbound++
	}
	t.detach(slot)
	t.enter(slot, unused)
	t.release(slot)
	t.count.Extracted[r.kind.class()]++
	return r, true
}

// Insert puts a flow that Extract took out of another table of the same secret
// into this one, and returns its new slot, whose state the caller fills in.
// Like a new flow it may cost another one its slot, and is refused (NoSlot)
// where a new one would be, or when its key is already here.
//
// Secondary keys that have no room here or are another flow's are left behind
// and counted as conflicts.
func (t *Table) Insert(r *Record) uint32 {
	c := r.kind.class()
	if t.find(&r.key, r.hash) != 0 {
		t.count.Refused[c]++
		return NoSlot
	}
	slot, ok := t.allocate(r.seen)
	if !ok {
		t.count.Refused[c]++
		return NoSlot
	}
	t.entries[slot] = entry{key: r.key, hash: r.hash, seen: r.seen, cookie: r.cookie, bits: r.bits, kind: makeKind(c, unused)}
	if !t.idx.insert(r.hash, slot+1, t) {
		t.release(slot)
		t.count.Refused[c]++
		return NoSlot
	}
	t.enter(slot, r.kind.state())
	t.linkBucket(slot, r.hash)
	t.live++
	t.count.Inserted[c]++
	for i := int(r.nbound) - 1; i >= 0; i-- {
		b := &r.bound[i]
		if t.bindKey(slot, &b.key, b.hash, b.swap) != Bound {
			t.count.BindConflicts++
		}
	}
	return slot
}
