package wasm

import "encoding/binary"

// Flow state: every function that declares flow_state_bytes has an array of
// slots in its window, at nf.SlotsStart, indexed by a descriptor's Slot. It is
// the host's memory: it survives the instance, and only this function sees it.
//
// While a version is on probation whose layout is another than that of the one
// before, both have slots, and a flow is in either, or in both.

// populated bounds flow state that has its memory from the start, in bytes. In
// larger ones a page comes when the first flow that lies in it does, and the
// time that takes is the function's: up to some 50 us where the machine itself
// is virtual.
const populated = 8 << 20

// of is what is kept of the flow in a slot.
func (s *slots) of(slot uint32) []byte {
	return s.mem[int(slot)*s.bytes : int(slot+1)*s.bytes]
}

// slots returns the slots of the version that runs, and those of the one before
// when they are others and it may come back. A version on trial is as one that
// runs, the one beside it as the one before. Either may be nil.
func (h *hop) slots() (cur, old *slots) {
	switch cur = h.cur.Load().slots; {
	case h.trial == nil:
	case h.onTrial() != nil && h.trial.ownSlots():
		return h.trial.to.slots, cur
	case h.trial.from.slots != cur:
		old = h.trial.from.slots
	}
	return cur, old
}

// underWay returns the migration under way, or nil.
func (h *hop) underWay() *migration {
	if h.trial == nil {
		return nil
	}
	return h.trial.migration
}

// FlowEnd tells the functions that the flows in these slots have ended
// (sfc_flow_end) and clears what they kept; see chains.Runner. A function that
// is suspended, or faults, is not told of the rest; its state is cleared all
// the same.
func (g *Group) FlowEnd(slots []uint32) {
	if faulted := g.c.flowEnd(slots); faulted != 0 {
		g.replace(faulted)
	}
	for _, h := range g.hops {
		cur, old := h.slots()
		for _, s := range slots {
			h.clear(s, cur, old)
		}
	}
}

// clear empties a slot.
func (h *hop) clear(slot uint32, cur, old *slots) {
	if cur != nil {
		clear(cur.of(slot))
	}
	if old != nil {
		clear(old.of(slot))
	}
	if m := h.underWay(); m != nil {
		m.setDone(slot)
	}
	if r := h.onTrial(); r != nil {
		r.canary.clearMet(slot)
	}
}

// knows reports whether the newest version's slots have what is known of a
// flow.
func (h *hop) knows(slot uint32) bool {
	if r := h.onTrial(); r != nil && r.ownSlots() {
		return r.canary.hasMet(slot)
	}
	m := h.underWay()
	return m == nil || m.isDone(slot)
}

// A flow on its way between workers is a row of parts: what one version of one
// function keeps of it, behind a head that says whose it is, so that a worker
// that runs another version knows what it gets. A head of zeros ends the row.
//
//	0   layout of the state, see layoutID
//	8   its size in bytes
//	12  index of the function in the chain, plus 1
const partHead = 16

// FlowBytes is how many bytes TakeFlow needs at most; see chains.Runner. It
// changes when functions are replaced, and may be asked by anyone.
func (g *Group) FlowBytes() int { return int(g.flowBytes.Load()) }

// countFlowBytes follows a change of versions.
func (g *Group) countFlowBytes() {
	n := 0
	for _, h := range g.hops {
		cur, old := h.slots()
		for _, s := range [2]*slots{cur, old} {
			if s != nil {
				n += partHead + s.bytes
			}
		}
	}
	g.flowBytes.Store(int64(n))
}

// TakeFlow copies what the functions keep of a flow to dst, of FlowBytes bytes;
// see chains.Runner. The state of the version before goes along while it may
// come back.
func (g *Group) TakeFlow(slot uint32, dst []byte) {
	for _, h := range g.hops {
		cur, old := h.slots()
		if cur != nil && h.knows(slot) {
			dst = putPart(dst, h.index, cur, slot)
		}
		if old != nil {
			dst = putPart(dst, h.index, old, slot)
		}
	}
	clear(dst)
}

// ClearFlow clears what the functions keep in a slot; see chains.Runner. They
// are not told.
func (g *Group) ClearFlow(slot uint32) {
	for _, h := range g.hops {
		cur, old := h.slots()
		h.clear(slot, cur, old)
	}
}

func putPart(dst []byte, hop int, s *slots, slot uint32) []byte {
	binary.LittleEndian.PutUint64(dst, s.layout)
	binary.LittleEndian.PutUint32(dst[8:], uint32(s.bytes))
	binary.LittleEndian.PutUint32(dst[12:], uint32(hop+1))
	return dst[partHead+copy(dst[partHead:], s.of(slot)):]
}

// part is the state of a flow in one layout; without bytes when there is none.
type part struct {
	layout uint64
	hop    int
	state  []byte
}

// nextPart takes the first part off src; its hop is -1 at the end.
func nextPart(src []byte) (p part, rest []byte) {
	if len(src) < partHead || binary.LittleEndian.Uint32(src[12:]) == 0 {
		return part{hop: -1}, nil
	}
	n := partHead + int(binary.LittleEndian.Uint32(src[8:]))
	return part{binary.LittleEndian.Uint64(src), int(binary.LittleEndian.Uint32(src[12:])) - 1, src[partHead:n]}, src[n:]
}

// GiveFlow puts what TakeFlow took, here or on another worker, into an empty
// slot; see chains.Runner. State in the layout of the version before is
// migrated. State that no version here can read, since workers do not replace
// a function at the same moment, is given up and counted.
func (g *Group) GiveFlow(slot uint32, src []byte) {
	p, src := nextPart(src)
	for p.hop >= 0 {
		var second part
		q, rest := nextPart(src)
		if q.hop == p.hop {
			second = q
			q, rest = nextPart(rest)
		}
		g.give(g.hops[p.hop], slot, p, second)
		p, src = q, rest
	}
}

// give puts a flow's state into a slot of one function: what the version that
// ran where it comes from kept, and behind it what the one before had left.
func (g *Group) give(h *hop, slot uint32, p, before part) {
	cur, old := h.slots()
	m, run := h.underWay(), h.cur.Load()
	switch {
	case p.state == nil || cur == nil && old == nil:
	case cur != nil && p.layout == cur.layout:
		copy(cur.of(slot), p.state)
		if m != nil {
			m.setDone(slot)
		}
		if old != nil && before.layout == old.layout {
			copy(old.of(slot), before.state)
		}
		if r := h.onTrial(); r != nil && r.ownSlots() {
			r.canary.setMet(slot)
		}
	case old != nil && p.layout == old.layout:
		copy(old.of(slot), p.state)
		if m != nil {
			m.setLeft(slot)
		}
		if m != nil && h.onTrial() == nil { // else when the flow meets it
			if _, ok := g.c.migrateRange(h.index, slot, slot+1, 1); !ok {
				g.replace(1 << h.index)
			}
		}
	case run.slots != nil && p.layout == run.reads && g.suspended&(1<<h.index) == 0:
		if !g.c.migrateBytes(h.index, p.state, slot) {
			clear(run.slots.of(slot))
			g.replace(1 << h.index)
		}
	case before.state != nil:
		g.give(h, slot, before, part{})
	default:
		h.lost.Add(1)
	}
}

// FlowState returns what the function keeps of all flows, slot by slot, each of
// the manifest's flow_state_bytes; nil when it keeps nothing. The memory is the
// group's: it is valid until Close or the function's replacement, and functions
// write into it.
func (g *Group) FlowState(hop int) []byte {
	if s := g.hops[hop].cur.Load().slots; s != nil {
		return s.mem
	}
	return nil
}
