package flow

import (
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
)

// Restored says what [Restore] found in a table's memory.
type Restored struct {
	// Flows are there, with Bindings.
	Flows, Bindings int
	// Ended had ended, or had not quite begun: Drain has them.
	Ended int
	// Leaving were on their way to another table, Arriving had not come
	// completely: what these are is in the table that they came from. See
	// [Reconcile].
	Leaving, Arriving int
	// Torn are slots in the middle of a write, or that make no sense. LostBinds
	// are bindings without a flow, torn, or somebody else's by now; LostClaims
	// are keys that flows held and that are gone.
	Torn, LostBinds, LostClaims int
}

// Restore makes a table of what another one left in Options.Memory, whose
// process may have been killed at any instant. The other options are those that
// it was made with, except for the timeouts and the number of ownership
// buckets, which may be new. Memory that holds no such table is ErrNoTable.
//
// Every flow is checked by itself, and what it holds outside of the table is
// entered again in Pins and Claims (see [steer.OpenPins]). Whatever is in the
// memory, the table is sound. What functions keep is the caller's: it is to be
// cleared in slots without a flow, see Vacant.
//
// The tables of a chain are all to be restored, and then [Reconcile]d, before
// any of them is used.
func Restore(opts Options) (*Table, Restored, error) {
	var r Restored
	if opts.Memory == nil {
		return nil, r, fmt.Errorf("flow table: restore: %w: there is no memory", ErrNoTable)
	}
	t, err := newTable(&opts)
	if err != nil {
		return nil, r, err
	}
	if err := t.head.fits(&opts); err != nil {
		return nil, r, errors.Join(fmt.Errorf("flow table: restore: %w", err), t.Detach())
	}
	t.restore(&r)
	return t, r, nil
}

func (t *Table) restore(r *Restored) {
	t.top = min(t.head.top, t.slots())
	t.bindTop = min(t.head.bindTop, uint32(len(t.bindings)))
	t.head.top, t.head.bindTop = t.top, t.bindTop
	t.count.Bindings = 0
	t.serial = rand.Uint32() // idents of new flows are to differ from those there are
	t.restoreFlows(r)
	t.restoreBindings(r)
	t.restoreHolders(r)
	t.restoreCounters()
}

// restoreStage is how many flows or bindings are looked at before they are
// entered in other tables, so that the waits for their places there overlap.
const restoreStage = 64

// restoreFlows enters what flows there are, and puts every slot in its list.
func (t *Table) restoreFlows(r *Restored) {
	ages := new(agedLists)
	for first := uint32(0); first < t.top; first += restoreStage {
		stage := t.entries[first:min(first+restoreStage, t.top)]
		for i := range stage {
			e := &stage[i]
			e.bind, e.prev, e.next = 0, 0, 0
			if !t.plausible(e, first+uint32(i), r) {
				*e = entry{}
			}
		}
		sum, x := t.touched, t.idx
		for i := range stage {
			b, _ := x.place(stage[i].hash)
			sum += x.buckets[b].tags[0]
		}
		t.touched = sum
		for i := range stage {
			t.restoreFlow(first+uint32(i), ages, r)
		}
	}
	ages.join(t)
}

// plausible says whether an entry is whole, and counts it unless it is live.
func (t *Table) plausible(e *entry, slot uint32, r *Restored) bool {
	s := e.kind.state()
	switch {
	case s == unused:
		return false
	case s == ended:
		e.kind = makeKind(e.kind.class(), ended)
		return true
	case !e.key.plausible() || e.hash != e.key.hash(t.secret) || e.kind.class() != classOf(e.key.proto()):
		r.Torn++
		return false
	case s == leaving:
		if was := e.kind.was(); was < Opening || t.timeouts[makeKind(e.kind.class(), was)] == 0 {
			r.Torn++
			return false
		}
		return true
	case e.kind >= numKinds || t.timeouts[e.kind&(numKinds-1)] == 0:
		r.Torn++
		return false
	case e.bits&arriving != 0:
		r.Arriving++
		return false
	case s == Opening && t.ledger != nil && t.ledger.Flows[slot].Pending != 0:
		// Its first burst was under way: functions were promised a tuple, and
		// nothing that they sent has left.
		e.kind = makeKind(e.kind.class(), ended)
	}
	return true
}

// plausible says whether a packet can show the key.
func (k *key) plausible() bool {
	if k.ipv4() {
		return k[1]|k[2]|k[3] == 0 && k[4]>>56 == 0
	}
	return uint8(k[4]>>wordIP) == 6 && k[4]>>56 == 0
}

// restoreFlow puts a slot, whose entry is plausible, where it belongs.
func (t *Table) restoreFlow(slot uint32, ages *agedLists, r *Restored) {
	e := &t.entries[slot]
	s := e.kind.state()
	if s >= Opening && (t.find(&e.key, e.hash) != 0 || !t.idx.insert(e.hash, slot+1, t)) {
		r.Torn++ // a second one of its kind
		*e, s = entry{}, unused
	}
	switch s {
	case unused:
		t.release(slot)
		return
	case ended:
		r.Ended++
		t.pending++
	case leaving:
		r.Leaving++
	case Opening, Open, Closing, Closed, Reset:
		r.Flows++
		t.live++
		t.linkBucket(slot, e.hash)
	}
	switch l := t.listOf(s); l {
	case nil:
	case &t.opening:
		ages.of(&ages.opening, e).push(t.entries, slot)
	case &t.closed:
		ages.of(&ages.closed, e).push(t.entries, slot)
	default:
		l.push(t.entries, slot)
	}
}

// agedLists sort slots by the time of their last packets, so that those which
// are evicted first are about the oldest ones again.
type agedLists struct {
	opening, closed [ageClasses]list
	newest          uint32
	any             bool
}

// A class of ages is about a second. Flows in these lists have four minutes by
// default; where timeouts are longer, the oldest may be taken for younger ones.
const (
	ageClasses = 512
	ageShift   = 10
)

// of returns the list for an entry.
func (a *agedLists) of(lists *[ageClasses]list, e *entry) *list {
	if !a.any || int32(e.seen-a.newest) > 0 {
		a.newest, a.any = e.seen, true
	}
	return &lists[e.seen>>ageShift%ageClasses]
}

// join makes the table's lists of them, the oldest first.
func (a *agedLists) join(t *Table) {
	for i := range uint32(ageClasses) {
		at := (a.newest>>ageShift + 1 + i) % ageClasses
		t.opening.append(t.entries, &a.opening[at])
		t.closed.append(t.entries, &a.closed[at])
	}
}

// restoreCounters makes the counters add up: the process may have ended between
// a flow's coming or going and its being counted.
func (t *Table) restoreCounters() {
	var live [NumClasses]uint64
	for i := range t.entries[:t.top] {
		if k := t.entries[i].kind; k.live() {
			live[k.class()]++
		}
	}
	c := t.count
	for k := range NumClasses {
		in := c.Created[k] + c.Inserted[k]
		out := c.Expired[k] + c.Evicted[k] + c.Replaced[k] + c.Extracted[k] + c.Lost[k] + live[k]
		if more := in - out; int64(more) >= 0 {
			c.Lost[k] += more
		} else {
			c.Created[k] -= more
		}
	}
}

// Vacant are the slots that have no flow and may have had one: after [Restore]
// and [Reconcile], what functions keep there is left over and is to be cleared.
// Those that wait for Drain are not among them.
func (t *Table) Vacant() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for slot := range t.top {
			if t.entries[slot].kind.state() == unused && !yield(slot) {
				return
			}
		}
	}
}
