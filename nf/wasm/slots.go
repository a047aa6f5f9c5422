package wasm

import (
	"fmt"
	"os"

	"sfc/dataplane/arena"
	"sfc/nf"
)

// Flow state: every function that declares flow_state_bytes has an array of
// slots in its window, at nf.SlotsStart, indexed by a descriptor's Slot. It is
// the host's memory: it survives the instance, and only this function sees it.

// newSlots makes the slots of a function; nil when it keeps no flow state.
func newSlots(spec Hop, flows int) (*arena.Region, error) {
	size := spec.Module.Manifest.FlowState(spec.Config)
	switch most := (nf.DataStart - nf.SlotsStart) / max(size, 1); {
	case size == 0:
		return nil, nil
	case flows <= 0:
		return nil, fmt.Errorf("function %s keeps %d bytes per flow, and its path has no flows: give it a number of flows", spec.Name, size)
	case flows > most:
		return nil, fmt.Errorf("function %s keeps %d bytes per flow: %d flows do not fit its window, at most %d do", spec.Name, size, flows, most)
	}
	page := os.Getpagesize()
	return arena.Open("slots", (size*flows+page-1)/page*page, arena.Options{Sparse: true})
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
		if h.slots == nil {
			continue
		}
		for _, s := range slots {
			clear(h.flowState(s))
		}
	}
}

// FlowBytes is how many bytes the functions together keep per flow; see
// chains.Runner.
func (g *Group) FlowBytes() int {
	n := 0
	for _, h := range g.hops {
		if h.slots != nil {
			n += h.spec.Module.Manifest.FlowStateBytes
		}
	}
	return n
}

// TakeFlow moves what the functions keep of a flow to dst; see chains.Runner.
func (g *Group) TakeFlow(slot uint32, dst []byte) {
	for _, h := range g.hops {
		if h.slots == nil {
			continue
		}
		state := h.flowState(slot)
		dst = dst[copy(dst, state):]
		clear(state)
	}
}

// GiveFlow puts it into an empty slot; see chains.Runner.
func (g *Group) GiveFlow(slot uint32, src []byte) {
	for _, h := range g.hops {
		if h.slots != nil {
			src = src[copy(h.flowState(slot), src):]
		}
	}
}

// flowState is what the function keeps of the flow in a slot.
func (h *hop) flowState(slot uint32) []byte {
	size := h.spec.Module.Manifest.FlowStateBytes
	return h.slots.Bytes()[int(slot)*size : int(slot+1)*size]
}

// FlowState returns what the function keeps of all flows, slot by slot, each of
// the manifest's flow_state_bytes; nil when it keeps nothing. The memory is the
// group's: it is valid until Close, and functions write into it.
func (g *Group) FlowState(hop int) []byte {
	if g.hops[hop].slots == nil {
		return nil
	}
	return g.hops[hop].slots.Bytes()
}

func (h *hop) closeSlots() {
	if h.slots != nil {
		// Every mapping in a guest is gone with the layout; an error here
		// would mean that the descriptor was not ours.
		_ = h.slots.Close()
	}
}
