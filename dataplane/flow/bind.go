package flow

// MaxBindings is how many secondary keys a flow may have.
const MaxBindings = 2

// BindResult is the answer to [Table.Bind].
type BindResult uint8

const (
	// Bound: the tuple finds the flow.
	Bound BindResult = iota
	// BindNoFlow: there is no flow in the slot, or not any more.
	BindNoFlow
	// BindConflict: the tuple is another flow's.
	BindConflict
	// BindLimit: the flow has MaxBindings already.
	BindLimit
	// BindFull: the table has no room for another binding.
	BindFull
	// BindBadTuple: the addresses are not of one family.
	BindBadTuple
)

// String returns the result's stable name.
func (r BindResult) String() string {
	return [...]string{"bound", "no_flow", "conflict", "limit", "full", "bad_tuple", "invalid", "invalid"}[r&7]
}

// Bind gives the flow in a slot a secondary key, until the flow ends: what its
// packets look like behind an address translation. tuple is a packet that
// travels in the flow's direction, after translation; packets against it are
// FlagReverse. To bind what already finds the flow is no error.
//
// The steering program is to be told too, so that answers reach this worker:
// [Table.OwnerOf].
func (t *Table) Bind(slot uint32, tuple *Tuple) BindResult {
	r := t.bind(slot, tuple)
	if r == BindConflict {
		t.count.BindConflicts++
	} else if r != Bound {
		t.count.BindRefused++
	}
	return r
}

func (t *Table) bind(slot uint32, tuple *Tuple) BindResult {
	if slot >= t.top || !t.entries[slot].kind.live() {
		return BindNoFlow
	}
	k, swap, ok := tuple.normalise()
	if !ok {
		return BindBadTuple
	}
	return t.bindKey(slot, &k, k.hash(t.secret), swap)
}

// bindKey is Bind of a normalised tuple.
func (t *Table) bindKey(slot uint32, k *key, hash uint32, swap uint8) BindResult {
	if ref := t.find(k, hash); ref != 0 {
		if have, _ := t.flowOf(ref); have == slot {
			return Bound
		}
		return BindConflict
	}
	e := &t.entries[slot]
	if e.bind != 0 && t.bindings[e.bind-1].next != 0 { // has two
		return BindLimit
	}
	n := t.bindSpare
	switch {
	case n != 0:
		t.bindSpare = t.bindings[n-1].next
	case t.bindTop < uint32(len(t.bindings)):
		t.bindTop++
		n = t.bindTop
	default:
		return BindFull
	}
	b := &t.bindings[n-1]
	*b = binding{key: *k, hash: hash, slot: slot, swap: swap, next: e.bind}
	e.bind = n
	if !t.idx.insert(hash, t.slots()+n, t) {
		e.bind = b.next
		t.freeBinding(n)
		return BindFull
	}
	t.count.Bindings++
	return Bound
}

// unbind removes the first binding of e.
func (t *Table) unbind(e *entry) {
	n := e.bind
	b := &t.bindings[n-1]
	t.idx.remove(b.hash, t.slots()+n)
	e.bind = b.next
	t.freeBinding(n)
	t.count.Bindings--
}

func (t *Table) freeBinding(n uint32) {
	t.bindings[n-1] = binding{slot: NoSlot, next: t.bindSpare}
	t.bindSpare = n
}

// OwnerOf returns the hash whose low bits say which ownership bucket the flow
// in a slot is in; ok is false when there is no flow.
func (t *Table) OwnerOf(slot uint32) (owner uint32, ok bool) {
	if slot >= t.top || !t.entries[slot].kind.live() {
		return 0, false
	}
	return t.entries[slot].hash, true
}
