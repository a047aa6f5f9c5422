package flow

import (
	"sfc/dataplane/packet"
)

// create makes the flow of a packet that has none.
func (t *Table) create(q *Query, r *Result) {
	k, bits := begin(q)
	var slot uint32
	ok := !t.shut
	if ok {
		slot, ok = t.allocate(q.at)
	}
	if ok {
		t.entries[slot] = entry{key: q.key, hash: q.hash, seen: q.at, bits: bits, kind: makeKind(k.class(), unused)}
		ok = t.idx.insert(q.hash, slot+1, t)
		if !ok {
			t.release(slot)
		}
	}
	if !ok {
		t.count.Refused[k.class()]++
		r.Status = Refused
		return
	}
	t.enter(slot, k.state())
	t.linkBucket(slot, q.hash)
	t.enroll(slot)
	t.live++
	t.count.Created[k.class()]++
	*r = Result{Slot: slot, Flags: packet.FlagNewFlow, Status: Created}
}

// Shut has the table refuse new flows, or let them in again. Those that are there
// go on.
func (t *Table) Shut(on bool) { t.shut = on }

// allocate takes a free slot, and evicts a flow when only the reserve is left.
func (t *Table) allocate(at uint32) (slot uint32, ok bool) {
	if t.slots()-t.live-t.leavingList.n <= t.reserve {
		t.evict(at)
	}
	if t.spare != 0 {
		slot = t.spare - 1
		t.spare = t.entries[slot].next
		return slot, true
	}
	if t.top < t.slots() {
		t.top++
		t.head.top = t.top
		return t.top - 1, true
	}
	return 0, false
}

// release makes a slot free.
func (t *Table) release(slot uint32) {
	t.entries[slot] = entry{next: t.spare}
	t.spare = slot + 1
}

// end ends a flow: nothing finds it any more, its slot waits for Drain. In
// memory it has ended before anybody else can get what it held.
func (t *Table) end(slot uint32) {
	t.enter(slot, ended)
	t.giveBack(slot)
	t.detach(slot)
	for e := &t.entries[slot]; e.bind != 0; {
		t.unbind(e)
	}
	t.strike(slot)
	t.pending++
}

// detach takes a flow out of the index and its ownership bucket.
func (t *Table) detach(slot uint32) {
	e := &t.entries[slot]
	t.idx.remove(e.hash, slot+1)
	for n := e.bind; n != 0; n = t.bindings[n-1].next {
		t.idx.remove(uint32(t.bindings[n-1].hash), t.slots()+n)
	}
	t.unlinkBucket(slot)
	t.live--
}

// Drain takes the slots of ended flows, the oldest first, and returns how many
// it wrote to slots. They may be given out by the next Lookup: before that,
// tell the functions and clear what they kept. Call it until it returns 0, at
// least once per burst, after the burst's packets are through.
func (t *Table) Drain(slots []uint32) int {
	n := 0
	for ; n < len(slots) && t.endedList.first != 0; n++ {
		slot := t.endedList.first - 1
		t.endedList.unlink(t.entries, slot)
		t.release(slot)
		t.pending--
		slots[n] = slot
	}
	return n
}

// Bounds of the work of one eviction.
const (
	openingTries = 8
	idleTries    = 16
)

// evict ends a flow to make room: one that is over; else the oldest half-open
// or one-way flow, passing over those that had another packet since they were
// last looked at; else an idle one. Flows that both sides have spoken in are
// safe while they are active within the floor.
func (t *Table) evict(at uint32) bool {
	if t.closed.first != 0 {
		return t.evictSlot(t.closed.first - 1)
	}
	if t.opening.first != 0 {
		for range openingTries {
			slot := t.opening.first - 1
			e := &t.entries[slot]
			if e.bits&again == 0 {
				break
			}
			e.bits &^= again
			t.opening.unlink(t.entries, slot)
			t.opening.push(t.entries, slot)
		}
		return t.evictSlot(t.opening.first - 1)
	}
	for range min(idleTries, t.top) {
		slot := t.hand
		if t.hand++; t.hand >= t.top {
			t.hand = 0
		}
		if e := &t.entries[slot]; e.kind.live() && int32(at-e.seen) > t.floor {
			return t.evictSlot(slot)
		}
	}
	return false
}

func (t *Table) evictSlot(slot uint32) bool {
	t.count.Evicted[t.entries[slot].kind.class()]++
	t.end(slot)
	return true
}

// Age looks for flows that have been idle for too long, and ends them. It looks
// at no more than budget slots, and at as few as a pass per Options.Sweep
// needs: call it every burst, and every few ms without packets. It returns how
// many flows it ended; Drain has their slots. nowNs is the packets' clock.
func (t *Table) Age(nowNs uint64, budget int) int {
	elapsed := min(nowNs-t.agedNs, t.sweepNs)
	if nowNs < t.agedNs {
		elapsed = 0 // the clock was set back
	}
	t.agedNs = nowNs
	t.credit += elapsed * uint64(t.top)
	due := t.credit / t.sweepNs
	t.credit -= due * t.sweepNs
	at := uint32(nowNs / 1e6)
	n := 0
	for range min(due, uint64(max(budget, 0))) {
		slot := t.sweepAt
		if t.sweepAt++; t.sweepAt >= t.top {
			t.sweepAt = 0
		}
		e := &t.entries[slot]
		switch {
		case !e.kind.live():
		case t.expired(e, at):
			t.count.Expired[e.kind.class()]++
			t.end(slot)
			n++
		case int32(at-e.seen) < -lateMs:
			e.seen = at // from before the clock was set back: age from here on
		}
	}
	return n
}
