package nftest

import (
	"encoding/binary"
	"unsafe"

	"sfc/nf/wasm"
)

// sink is struct sfc_sink of sfc_emit.h.
type sink struct {
	buf        unsafe.Pointer
	size, used uint32
}

// openSink gives a library that has its struct at symbol room for its records;
// room is not Go's memory.
func openSink(symbol unsafe.Pointer, room []byte) {
	*(*sink)(symbol) = sink{buf: unsafe.Pointer(&room[0]), size: uint32(len(room))}
}

// Records is Recorder's.
func (c *Compiled) Records() (lines []string) {
	s := (*sink)(c.sink)
	room := unsafe.Slice((*byte)(s.buf), s.used)
	s.used = 0
	for len(room) > 0 {
		n := 4 + int(binary.LittleEndian.Uint32(room))
		r := wasm.Record{Function: c.manifest.Name, Data: room[4:n]}
		if r.Layout = c.manifest.RecordLayout(r.Data); r.Layout == nil {
			lines = append(lines, "a record of no layout")
		} else {
			lines = append(lines, string(r.AppendJSON(nil)))
		}
		room = room[n:]
	}
	return lines
}
