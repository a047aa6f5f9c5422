package wasm

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
	"sfc/nf"
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

// BindAnswer is what the imports flow_bind and claim answer, see nf/ABI.md.
type BindAnswer int32

// The answers.
const (
	BindOK     BindAnswer = C.SFC_BIND_OK
	BindTaken  BindAnswer = C.SFC_BIND_TAKEN
	BindFull   BindAnswer = C.SFC_BIND_FULL
	BindNoFlow BindAnswer = C.SFC_BIND_NO_FLOW
	BindLimit  BindAnswer = C.SFC_BIND_LIMIT
	BindBad    BindAnswer = C.SFC_BIND_BAD
)

// Grants is what functions of one chain on one worker may give their flows:
// tuples that find them, and keys that only they hold. All of it must be there
// when a function has nf.CapabilityBind.
type Grants struct {
	// Pins and Claims are the chain's shares of the tables, the same for all
	// its workers, and for its flow tables.
	Pins, Claims *steer.Pins
	// Chain is the chain's number.
	Chain uint16
	// Key is the secret of packet.FlowHash64.
	Key [2]uint64
	// Ledger is that of the flow table of the chain on this worker. It must
	// outlive the Group.
	Ledger *steer.Ledger
}

// Adopter is told which tuples functions were promised for which flows:
// flow.Table.
type Adopter interface {
	Adopt(slot, ident uint32, tuple *[flow.TupleSize]byte)
}

// Binder does for functions what the imports flow_bind, claim and claim_find
// say. A Group has one of its own; it is exported for those who run functions
// without a Group, compiled for this machine.
//
// Owner: one worker. Not safe for concurrent use.
type Binder struct {
	c   *C.struct_sfc_binder
	pin runtime.Pinner // what C points to of the Go heap
}

// NewBinder returns a binder. The caller closes it.
func NewBinder(g Grants) (*Binder, error) {
	if g.Pins == nil || g.Claims == nil || g.Ledger == nil {
		return nil, fmt.Errorf("bind: pins (%v), claims (%v) and ledger (%v) must all be there", g.Pins != nil, g.Claims != nil, g.Ledger != nil)
	}
	b := &Binder{c: (*C.struct_sfc_binder)(C.calloc(1, C.sizeof_struct_sfc_binder))}
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
	return b, nil
}

// table hands a table to C.
func (b *Binder) table(to *C.struct_sfc_pins, p *steer.Pins) {
	buckets, share, n := p.Raw()
	b.pin.Pin(buckets)
	b.pin.Pin(share)
	to.buckets = (*C.struct_sfc_pin_bucket)(buckets)
	to.share = (*C.struct_sfc_pin_share)(share)
	to.mask = C.uint64_t(n - 1)
}

// Close frees the binder, not what it works on.
func (b *Binder) Close() {
	C.free(unsafe.Pointer(b.c))
	b.c = nil
	b.pin.Unpin()
}

// calls are the descriptors of calls that are not a Group's: each is the
// packet of its own number.
var calls = func() (idx [packet.BurstSize]C.uint8_t) {
	for i := range idx {
		idx[i] = C.uint8_t(i)
	}
	return idx
}()

// call runs f as if function hop had been called with packets of these slots.
func (b *Binder) call(hop int, slots []uint32, f func()) {
	var pin runtime.Pinner
	defer pin.Unpin()
	if len(slots) > 0 {
		pin.Pin(&slots[0])
		pin.Pin(&calls[0])
		b.c.slot = (*C.uint32_t)(&slots[0])
		b.c.idx = &calls[0]
	}
	b.c.n, b.c.hop = C.uint32_t(min(len(slots), packet.BurstSize)), C.uint32_t(hop)
	f()
	b.c.n, b.c.slot, b.c.idx = 0, nil, nil
}

// Adopt tells t of every tuple promised since the last time.
func (b *Binder) Adopt(t Adopter) {
	n := int(b.c.nbound)
	for i := range b.c.bound[:n] {
		e := &b.c.bound[i]
		t.Adopt(uint32(e.slot), uint32(e.ident), (*[flow.TupleSize]byte)(unsafe.Pointer(&e.tuple)))
	}
	b.c.nbound = 0
}

// setBinder lets the chain's functions give something to their flows.
func (c chain) setBinder(b *Binder) { c.c.binder = b.c }

// openBinder makes the group's binder, when it has anything to grant.
func (g *Group) openBinder() (err error) {
	if g.opts.Grants.Ledger == nil {
		return nil
	}
	if g.binder, err = NewBinder(g.opts.Grants); err != nil {
		return err
	}
	g.c.setBinder(g.binder)
	return nil
}

// closeBinder frees it.
func (g *Group) closeBinder() {
	if g.binder != nil {
		g.binder.Close()
	}
}

// binds says whether a function gives something to its flows.
func binds(h Hop) bool { return slices.Contains(h.Module.Manifest.Capabilities, nf.CapabilityBind) }

// checkBinds refuses functions that bind where there is nothing to bind to.
func checkBinds(hops []Hop, g Grants) error {
	for _, h := range hops {
		if binds(h) && (g.Pins == nil || g.Claims == nil || g.Ledger == nil) {
			return fmt.Errorf("function %s has the capability %s: its path needs pins, claims and a flow table", h.Name, nf.CapabilityBind)
		}
	}
	return nil
}

// Binds says whether functions of the group may give something to their
// flows: then call ApplyBinds after every Process.
func (g *Group) Binds() bool { return g.binder != nil }

// ApplyBinds tells the flow table of the tuples that functions were promised
// during the last Process. Call it before flows are aged. A function that
// trapped after it was promised a tuple or a key keeps it: it may have written
// so into the flow's state, which outlives it; all of it goes with the flow.
func (g *Group) ApplyBinds(t *flow.Table) {
	if g.binder != nil && g.binder.c.nbound != 0 {
		g.binder.Adopt(t)
	}
}
