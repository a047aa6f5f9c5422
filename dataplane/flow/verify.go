package flow

import (
	"errors"
	"fmt"
)

// ErrCorrupt means that the table contradicts itself.
var ErrCorrupt = errors.New("flow table is corrupt")

// Verify checks the whole table: every key is found where it should be and only
// once, every slot is in the lists its state calls for, and the counters add
// up. It takes time in proportion to the table: for tests and after a run.
func (t *Table) Verify() error {
	for _, check := range []func() error{t.verifySlots, t.verifyIndex, t.verifyLists, t.verifyBuckets, t.verifyBindings, t.verifyLedger, t.verifyCounters} {
		if err := check(); err != nil {
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
	}
	return nil
}

// tally counts slots by state.
func (t *Table) tally() (by [8]uint32) {
	for i := range t.entries[:t.top] {
		by[t.entries[i].kind.state()]++
	}
	return by
}

func (t *Table) verifySlots() error {
	by := t.tally()
	live := by[Opening] + by[Open] + by[Closing] + by[Closed] + by[Reset]
	if live != t.live || by[ended] != t.pending {
		return fmt.Errorf("%d live and %d ended slots, counted %d and %d", live, by[ended], t.live, t.pending)
	}
	if t.top > t.slots() || t.head.top != t.top || t.head.bindTop != t.bindTop {
		return fmt.Errorf("%d slots and %d bindings were used, kept are %d and %d", t.top, t.bindTop, t.head.top, t.head.bindTop)
	}
	free := uint32(0)
	for ref := t.spare; ref != 0 && free <= t.top; ref = t.entries[ref-1].next {
		if s := t.entries[ref-1].kind.state(); s != unused {
			return fmt.Errorf("free slot %d is %v", ref-1, s)
		}
		free++
	}
	if free != by[unused] {
		return fmt.Errorf("%d slots are unused, %d of them in the free list", by[unused], free)
	}
	for slot := range t.top {
		e := &t.entries[slot]
		if !e.kind.live() {
			continue
		}
		if ref := t.find(&e.key, e.hash); ref != slot+1 {
			return fmt.Errorf("the key of slot %d finds ref %d", slot, ref)
		}
	}
	return nil
}

func (t *Table) verifyIndex() error {
	spills := make([]uint32, len(t.idx.buckets))
	refs := map[uint32]bool{}
	for b := range t.idx.buckets {
		k := &t.idx.buckets[b]
		for p := range uint32(bucketSize) {
			tag, ref := k.tag(p), k.refs[p]
			if tag == 0 {
				continue
			}
			if ref == 0 || ref > t.slots()+uint32(len(t.bindings)) || refs[ref] {
				return fmt.Errorf("bucket %d place %d: ref %d is out of range or there twice", b, p, ref)
			}
			refs[ref] = true
			home, want := t.idx.place(t.hashOf(ref))
			if tag != want || uint32(b) != home && uint32(b) != t.idx.other(home, tag) {
				return fmt.Errorf("bucket %d place %d: ref %d with tag %#x belongs to bucket %d with tag %#x", b, p, ref, tag, home, want)
			}
			if uint32(b) != home {
				spills[home]++
			}
		}
	}
	for b, n := range spills {
		if t.idx.buckets[b].spill != n {
			return fmt.Errorf("bucket %d: %d keys spilled, counted %d", b, n, t.idx.buckets[b].spill)
		}
	}
	if want := uint64(t.live) + t.count.Bindings - t.leavingBindings(); uint64(len(refs)) != want {
		return fmt.Errorf("%d refs in the index for %d keys", len(refs), want)
	}
	return nil
}

func (t *Table) verifyLists() error {
	by := t.tally()
	for _, l := range []struct {
		name   string
		list   *list
		want   uint32
		states []State
	}{
		{"ended", &t.endedList, by[ended], []State{ended}},
		{"leaving", &t.leavingList, by[leaving], []State{leaving}},
		{"opening", &t.opening, by[Opening], []State{Opening}},
		{"closed", &t.closed, by[Closed] + by[Reset], []State{Closed, Reset}},
	} {
		n, prev := uint32(0), uint32(0)
		for ref := l.list.first; ref != 0 && n <= t.top; ref = t.entries[ref-1].next {
			e := &t.entries[ref-1]
			if e.prev != prev || t.listOf(e.kind.state()) != l.list {
				return fmt.Errorf("list %s: slot %d is %v with prev %d, want %d", l.name, ref-1, e.kind.state(), e.prev, prev)
			}
			prev = ref
			n++
		}
		if n != l.want || n != l.list.n || l.list.last != prev {
			return fmt.Errorf("list %s: %d slots, counted %d, and %d in states %v", l.name, n, l.list.n, l.want, l.states)
		}
	}
	return nil
}

func (t *Table) verifyBuckets() error {
	seen := uint32(0)
	for b := range t.heads {
		prev := uint32(firstOf | b)
		for ref := t.heads[b]; ref != 0; ref = t.links[ref-1].next {
			e := &t.entries[ref-1]
			owner := e.key.hash(t.secret)
			if !e.kind.live() || t.links[ref-1].prev != prev || owner&uint32(len(t.heads)-1) != uint32(b) {
				return fmt.Errorf("ownership bucket %d: slot %d is %v, prev %#x, want %#x, owner %#x", b, ref-1, e.kind.state(), t.links[ref-1].prev, prev, owner)
			}
			prev = ref
			if seen++; seen > t.live {
				return fmt.Errorf("ownership bucket %d: more flows than the %d there are", b, t.live)
			}
		}
	}
	if seen != t.live {
		return fmt.Errorf("%d flows in ownership buckets, %d live", seen, t.live)
	}
	return nil
}

func (t *Table) verifyBindings() error {
	bound := uint32(0)
	for slot := range t.top {
		e := &t.entries[slot]
		own := 0
		for n := e.bind; n != 0; n = t.bindings[n-1].next {
			b := &t.bindings[n-1]
			here := e.kind.live()
			if own++; own > MaxBindings || !here && e.kind.state() != leaving || b.slot != slot {
				return fmt.Errorf("binding %d of slot %d (%v): number %d, of slot %d", n-1, slot, e.kind.state(), own, b.slot)
			}
			if ref := t.find(&b.key, uint32(b.hash)); here && ref != t.slots()+n {
				return fmt.Errorf("binding %d of slot %d is found as ref %d", n-1, slot, ref)
			}
			bound++
		}
	}
	free := uint32(0)
	for n := t.bindSpare; n != 0 && free <= t.bindTop; n = t.bindings[n-1].next {
		free++
	}
	if uint64(bound) != t.count.Bindings || bound+free != t.bindTop {
		return fmt.Errorf("%d bindings and %d free of %d, counted %d", bound, free, t.bindTop, t.count.Bindings)
	}
	return nil
}

// leavingBindings counts the bindings of flows that are leaving: they are there,
// and nothing finds them.
func (t *Table) leavingBindings() (n uint64) {
	for ref := t.leavingList.first; ref != 0; ref = t.entries[ref-1].next {
		for b := t.entries[ref-1].bind; b != 0; b = t.bindings[b-1].next {
			n++
		}
	}
	return n
}

func (t *Table) verifyCounters() error {
	var live [NumClasses]uint64
	for i := range t.entries[:t.top] {
		if k := t.entries[i].kind; k.live() {
			live[k.class()]++
		}
	}
	c := t.count
	for k := range NumClasses {
		in := c.Created[k] + c.Inserted[k]
		out := c.Expired[k] + c.Evicted[k] + c.Replaced[k] + c.Extracted[k] + c.Lost[k]
		if in != out+live[k] {
			return fmt.Errorf("%v flows: %d came, %d went, %d are live", Class(k), in, out, live[k])
		}
	}
	return nil
}
