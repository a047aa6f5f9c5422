package steer

import (
	"sync/atomic"
	"unsafe"
)

// wordsOf returns memory as 64-bit words; ok is false when it is not aligned
// to them.
func wordsOf(mem []byte) (words []atomic.Uint64, ok bool) {
	first := unsafe.Pointer(unsafe.SliceData(mem))
	if uintptr(first)%8 != 0 {
		return nil, false
	}
	return unsafe.Slice((*atomic.Uint64)(first), len(mem)/8), true
}
