package wasm

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"runtime"
	"unsafe"

	"sfc/dataplane/flow"
	"sfc/dataplane/steer"
)

// The layouts that C shares with Go.
var (
	_ [steer.HolderSize - C.sizeof_struct_sfc_holder]byte
	_ [C.sizeof_struct_sfc_holder - steer.HolderSize]byte
	_ [unsafe.Sizeof(steer.LedgerHead{}) - C.sizeof_struct_sfc_ledger_head]byte
	_ [C.sizeof_struct_sfc_ledger_head - unsafe.Sizeof(steer.LedgerHead{})]byte
	_ [flow.TupleSize - C.sizeof_struct_sfc_tuple]byte
	_ [C.sizeof_struct_sfc_tuple - flow.TupleSize]byte
	_ [steer.MaxBinds - C.SFC_MAX_BINDS]byte
	_ [steer.MaxClaims - C.SFC_MAX_CLAIMS]byte
)

// binder does what the imports flow_bind, claim and claim_find say: the C side
// of [Grants], one per Group.
//
// Owner: the worker.
type binder struct {
	c   *C.struct_sfc_binder
	pin runtime.Pinner // what C points to of the Go heap
}

// newBinder returns a binder for grants that are complete. The caller closes it.
func newBinder(g Grants) *binder {
	b := &binder{c: (*C.struct_sfc_binder)(C.calloc(1, C.sizeof_struct_sfc_binder))}
	b.table(&b.c.pins, g.Pins)
	b.table(&b.c.claims, g.Claims)
	b.c.secret = [2]C.uint64_t{C.uint64_t(g.Key[0]), C.uint64_t(g.Key[1])}
	b.c.chain = C.uint16_t(g.Chain)
	head, flows, slots := g.Ledger.Raw()
	b.pin.Pin(head)
	b.pin.Pin(flows)
	b.c.head = (*C.struct_sfc_ledger_head)(head)
	b.c.flows = (*C.struct_sfc_holder)(flows)
	b.c.slots = C.uint32_t(slots)
	return b
}

// table hands a table to C.
func (b *binder) table(to *C.struct_sfc_pins, p *steer.Pins) {
	buckets, share, n := p.Raw()
	b.pin.Pin(buckets)
	b.pin.Pin(share)
	to.buckets = (*C.struct_sfc_pin_bucket)(buckets)
	to.share = (*C.struct_sfc_pin_share)(share)
	to.homes = C.uint64_t(n - C.SFC_PIN_REACH)
}

// close frees the binder, not what it works on.
func (b *binder) close() {
	C.free(unsafe.Pointer(b.c))
	b.pin.Unpin()
}

// apply tells t of every tuple that was promised since the last time.
func (b *binder) apply(t *flow.Table) {
	if b.c.nbound == 0 {
		return
	}
	n := int(b.c.nbound)
	for i := range b.c.bound[:n] {
		e := &b.c.bound[i]
		t.Adopt(uint32(e.slot), uint32(e.ident), (*[flow.TupleSize]byte)(unsafe.Pointer(&e.tuple)))
	}
	b.c.nbound = 0
}

// setBinder lets the chain's functions give something to their flows.
func (c chain) setBinder(b *binder) { c.c.binder = b.c }
