package wasm

// #include "shim.h"
import "C"

import (
	"sync/atomic"
	"unsafe"
)

// recordRing is where sfc.emit puts records until they are read: see emit.c.
type recordRing struct{ c *C.struct_sfc_records }

// newRecordRing returns an empty ring; it has no memory when there is none.
func newRecordRing() recordRing { return recordRing{C.sfc_records_new()} }

func (r recordRing) close() { C.sfc_records_delete(r.c) }

// setRecords chooses the ring that sfc.emit writes to, and the number that stands
// for the layouts in what it writes.
func (i *instance) setRecords(r recordRing, layouts uint32) {
	i.c.records, i.c.layouts = r.c, C.uint32_t(layouts)
}

// next copies the oldest record to buf, of nf.RecordMax bytes. Only one
// goroutine may call it at a time.
func (r recordRing) next(buf []byte) (layouts uint32, record []byte, ok bool) {
	head, tail := (*atomic.Uint64)(unsafe.Pointer(&r.c.head)), (*atomic.Uint64)(unsafe.Pointer(&r.c.tail))
	t := tail.Load()
	if t == head.Load() {
		return 0, nil, false
	}
	data := (*[C.SFC_RECORDS_SIZE]byte)(unsafe.Pointer(&r.c.data[0]))
	at := int(t % C.SFC_RECORDS_SIZE)
	h := (*C.struct_sfc_record_head)(unsafe.Pointer(&data[at]))
	layouts, record = uint32(h.layouts), buf[:h.len]
	at = (at + C.sizeof_struct_sfc_record_head) % C.SFC_RECORDS_SIZE
	first := copy(record, data[at:])
	copy(record[first:], data[:])
	tail.Store(t + C.sizeof_struct_sfc_record_head + uint64(len(record)+7)&^7)
	return layouts, record, true
}

// lost returns how many records were no records or found no room.
func (r recordRing) lost() uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(&r.c.lost)).Load()
}
