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

// The layout that steering program and C read.
var (
	_ [pinBucketBytes - unsafe.Sizeof(pinBucket{})]byte
	_ [unsafe.Sizeof(pinBucket{}) - pinBucketBytes]byte
	_ [HolderSize - unsafe.Sizeof(Holder{})]byte
	_ [unsafe.Sizeof(Holder{}) - HolderSize]byte
)

// pinBucketsOf returns memory as buckets of [Pins]; ok is false when it is not
// aligned to their words.
func pinBucketsOf(mem []byte) (buckets []pinBucket, ok bool) {
	first := unsafe.Pointer(unsafe.SliceData(mem))
	if uintptr(first)%8 != 0 {
		return nil, false
	}
	return unsafe.Slice((*pinBucket)(first), len(mem)/pinBucketBytes), true
}

// Raw returns the memory of buckets and share for code in C that works on them
// too, and the number of buckets. Both live as long as p; the share is in the
// Go heap, and so are the buckets when the memory given to NewPins is: pin
// them.
func (p *Pins) Raw() (buckets, share unsafe.Pointer, n int) {
	return unsafe.Pointer(unsafe.SliceData(p.buckets)), unsafe.Pointer(p.share), len(p.buckets)
}

// Raw returns the memory of a ledger for code in C that works on it too, and
// its number of slots. It lives as long as the ledger's.
func (l *Ledger) Raw() (head, flows unsafe.Pointer, slots int) {
	return unsafe.Pointer(l.Head), unsafe.Pointer(unsafe.SliceData(l.Flows)), len(l.Flows)
}
