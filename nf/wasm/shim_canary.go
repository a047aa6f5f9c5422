package wasm

// #include "shim.h"
import "C"

import (
	"unsafe"

	"sfc/dataplane/steer"
)

// canary is the C side of a version on trial. The worker's, but for newCanary and
// close.
type canary struct{ c *C.struct_sfc_canary }

// newCanary returns nil when there is no memory. slots is how many flows the
// chain may have.
func newCanary(slots int) *canary {
	c := C.sfc_canary_new(C.uint32_t(slots))
	if c == nil {
		return nil
	}
	return &canary{c}
}

func (y *canary) close() { C.sfc_canary_delete(y.c) }

// word has the bit of a slot. slot is below what newCanary was given.
func (y *canary) word(slot uint32) *uint64 {
	return (*uint64)(unsafe.Add(unsafe.Pointer(y.c.met), slot/64*8))
}

// hasMet reports whether the flow in a slot has met the version on trial.
func (y *canary) hasMet(slot uint32) bool { return *y.word(slot)>>(slot%64)&1 != 0 }

// setMet says that it has, clearMet that it has not.
func (y *canary) setMet(slot uint32) { *y.word(slot) |= 1 << (slot % 64) }

func (y *canary) clearMet(slot uint32) { *y.word(slot) &^= 1 << (slot % 64) }

// setSplit says which flows meet it: those in percent of the buckets.
func (y *canary) setSplit(percent int) { y.c.split = C.uint32_t(percent * steer.Buckets / 100) }

// trap returns the message of its last trap.
func (y *canary) trap() string { return printable(C.GoString(&y.c.hop.trap[0])) }

// leaveUnmet says of every flow that has not met the version on trial that its
// state is left to hand over: it may have come to a slot whose turn was over.
func (m *migration) leaveUnmet(y *canary) {
	words := (int(m.c.slots) + 63) / 64
	copy(unsafe.Slice((*uint64)(m.c.done), words), unsafe.Slice((*uint64)(y.c.met), words))
}

// setCanary puts a version on trial beside that of hop h, until setVersion.
func (c chain) setCanary(h int, y *canary, v *version, m *migration) {
	c.fill(&y.c.hop, v, m)
	y.c.hop.budget_ns = c.c.hop[h].budget_ns
	c.c.hop[h].canary = y.c
}
