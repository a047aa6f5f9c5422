package flow

import (
	"sync/atomic"

	"sfc/dataplane/steer"
)

// MaxBindings is how many secondary keys a flow may have.
const MaxBindings = steer.MaxBinds

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
// With Options.Pins steering is told too, so that answers reach this worker; a
// tuple that a flow on another worker has bound is a conflict as well.
func (t *Table) Bind(slot uint32, tuple *Tuple) BindResult {
	r := t.bind(slot, tuple)
	t.countBind(r)
	return r
}

func (t *Table) countBind(r BindResult) {
	if r == BindConflict {
		t.count.BindConflicts++
	} else if r != Bound {
		t.count.BindRefused++
	}
}

func (t *Table) bind(slot uint32, tuple *Tuple) BindResult {
	if slot >= t.top || !t.entries[slot].kind.live() {
		return BindNoFlow
	}
	k, swap, ok := tuple.normalise()
	if !ok {
		return BindBadTuple
	}
	hash := k.hash64(t.secret)
	had := t.entries[slot].bind
	r := t.bindKey(slot, &k, hash, swap)
	if r != Bound || t.entries[slot].bind == had {
		return r
	}
	switch t.pin(slot, hash) {
	case steer.PinTaken:
		r = BindConflict
	case steer.PinFull:
		r = BindFull
	case steer.PinOK, steer.PinHeld:
		return r
	}
	t.idx.remove(uint32(hash), t.slots()+t.entries[slot].bind)
	t.unbind(&t.entries[slot])
	return r
}

// Adopt binds a tuple that a function asked for while the burst was under way,
// when steering was told already: ident and raw are what nf/wasm noted. The
// function has been promised the tuple, so a flow that has it as its own first
// one ends: its packets are the answers of this flow from now on. Whatever
// comes of it, afterwards the flow has the tuple or steering has forgotten it.
func (t *Table) Adopt(slot, ident uint32, raw *[TupleSize]byte) {
	tuple, ok := ParseTuple(raw)
	if !ok || t.ledger == nil {
		t.count.BindRefused++
		return
	}
	k, swap, _ := tuple.normalise()
	hash := k.hash64(t.secret)
	r := BindNoFlow
	fresh := false
	if slot < t.top && t.entries[slot].kind.live() && t.ledger.Flows[slot].Ident == ident {
		t.ledger.Flows[slot].Pending = 0
		had := t.entries[slot].bind
		r = t.takeKey(slot, &k, hash, swap)
		fresh = t.entries[slot].bind != had
	}
	if !fresh {
		t.unpin(hash)
	}
	t.countBind(r)
}

// takeKey is bindKey, except that a flow whose own tuple it is ends.
func (t *Table) takeKey(slot uint32, k *key, hash uint64, swap uint8) BindResult {
	r := t.bindKey(slot, k, hash, swap)
	if r != BindConflict {
		return r
	}
	ref := t.find(k, uint32(hash))
	if ref > t.slots() {
		return r
	}
	t.count.Replaced[t.entries[ref-1].kind.class()]++
	t.end(ref - 1)
	return t.bindKey(slot, k, hash, swap)
}

// bindKey finds a flow by one more normalised tuple.
func (t *Table) bindKey(slot uint32, k *key, hash64 uint64, swap uint8) BindResult {
	hash := uint32(hash64)
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
		t.head.bindTop = t.bindTop
		n = t.bindTop
	default:
		return BindFull
	}
	b := &t.bindings[n-1]
	b.write(k, hash64, slot, swap)
	b.next, e.bind = e.bind, n
	if !t.idx.insert(hash, t.slots()+n, t) {
		e.bind = b.next
		t.freeBinding(n)
		return BindFull
	}
	t.count.Bindings++
	t.note(slot, +1)
	return Bound
}

// unbind frees the first binding of e, which is no longer in the index.
func (t *Table) unbind(e *entry) {
	n := e.bind
	b := &t.bindings[n-1]
	slot := b.slot
	e.bind = b.next
	t.freeBinding(n)
	t.count.Bindings--
	t.note(slot, -1)
}

func (t *Table) freeBinding(n uint32) {
	b := &t.bindings[n-1]
	b.erase()
	b.next = t.bindSpare
	t.bindSpare = n
}

// write makes a free binding one of a flow, except for its place among the
// flow's.
func (b *binding) write(k *key, hash uint64, slot uint32, swap uint8) {
	b.key, b.slot, b.swap = *k, slot, swap
	atomic.StoreUint64(&b.hash, hash)
}

// erase makes a binding a free one.
func (b *binding) erase() {
	atomic.StoreUint64(&b.hash, 0)
	b.key, b.slot, b.swap = key{}, NoSlot, 0
}

// OwnerOf returns the hash whose low bits say which ownership bucket the flow
// in a slot is in; ok is false when there is no flow.
func (t *Table) OwnerOf(slot uint32) (owner uint32, ok bool) {
	if slot >= t.top || !t.entries[slot].kind.live() {
		return 0, false
	}
	return t.entries[slot].hash, true
}
