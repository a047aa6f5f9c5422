package wasm

// #cgo noescape sfc_migrate_range
// #cgo nocallback sfc_migrate_range
// #cgo noescape sfc_migrate_bytes
// #cgo nocallback sfc_migrate_bytes
// #include "shim.h"
import "C"

import (
	"time"
	"unsafe"

	"sfc/nf"
)

// Where sfc_slot_migrate finds the state it is given.
var (
	_ [nf.OldStateStart - C.SFC_OLD_STATE]byte
	_ [C.SFC_OLD_STATE - nf.OldStateStart]byte
	_ [nf.ConfigStart - nf.OldStateStart - nf.MaxFlowState]byte
)

// setVersion gives hop h what belongs to a version of its function: pointers
// and numbers, no system call. m is nil when no flow state is under way. No
// version is on trial beside it then.
func (c chain) setVersion(h int, v *version, m *migration) {
	c.fill(&c.c.hop[h], v, m)
	c.c.hop[h].canary = nil
}

func (c chain) fill(hop *C.struct_sfc_hop, v *version, m *migration) {
	hop.open = C.bool(v.spec.Open)
	hop.reasons = C.uint32_t(len(v.spec.Module.Manifest.DropReasons))
	hop.stats = v.stats.c
	hop.inst, hop.migration = nil, nil
	if i := v.current.Load(); i != nil {
		hop.inst = i.c
	}
	if m != nil {
		hop.migration = m.c
	}
}

// setMigration says whether flow state of hop h is under way; nil: no.
func (c chain) setMigration(h int, m *migration) {
	if m == nil {
		c.c.hop[h].migration = nil
		return
	}
	c.c.hop[h].migration = m.c
}

// migration is flow state under way from one version of a function to the
// next. The worker's, but for newMigration and close.
type migration struct{ c *C.struct_sfc_migration }

// newMigration begins with nothing handed over; nil when there is no memory.
// old is not Go's memory.
func newMigration(old []byte, oldBytes, slots int) *migration {
	c := C.sfc_migration_new((*C.uint8_t)(unsafe.SliceData(old)), C.uint32_t(oldBytes), C.uint32_t(slots))
	if c == nil {
		return nil
	}
	return &migration{c}
}

func (m *migration) close() { C.sfc_migration_delete(m.c) }

func (m *migration) word(slot uint32) *uint64 {
	return (*uint64)(unsafe.Add(unsafe.Pointer(m.c.done), slot/64*8))
}

// isDone reports whether nothing of the slot is left to hand over.
func (m *migration) isDone(slot uint32) bool { return *m.word(slot)>>(slot%64)&1 != 0 }

// setDone says so.
func (m *migration) setDone(slot uint32) { *m.word(slot) |= 1 << (slot % 64) }

// setLeft says that there is.
func (m *migration) setLeft(slot uint32) { *m.word(slot) &^= 1 << (slot % 64) }

// moved is how many flows were handed over.
func (m *migration) moved() uint64 { return uint64(m.c.moved) }

// migrateRange hands over the flows of hop h in slots [from, to), at most most
// of them, and returns the slot to go on at. The guest failed if ok is false.
func (c chain) migrateRange(h int, from, to, most uint32) (next uint32, ok bool) {
	at := C.uint32_t(from)
	rc := C.sfc_migrate_range(c.c, C.uint32_t(h), &at, C.uint32_t(to), C.uint32_t(most))
	return uint32(at), rc == C.SFC_OK
}

// migrateBytes hands over state that lies in no slot.
func (c chain) migrateBytes(h int, old []byte, slot uint32) (ok bool) {
	return C.sfc_migrate_bytes(c.c, C.uint32_t(h), (*C.uint8_t)(unsafe.SliceData(old)), C.uint32_t(len(old)), C.uint32_t(slot)) == C.SFC_OK
}

// reconfigure calls sfc_configure again on an instance that serves packets, and
// says how it went; msg is where the guest's message goes, memory that the
// caller made.
func (i *instance) reconfigure(json []byte, budget time.Duration, msg *errBuf) (code int32, f fault) {
	var c C.int32_t
	rc := C.sfc_instance_configure(i.c, (*C.char)(unsafe.Pointer(unsafe.SliceData(json))), C.uint32_t(len(json)),
		C.uint64_t(budget), &c, &msg[0])
	return int32(c), fault(rc)
}
