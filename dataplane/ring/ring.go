// Package ring passes values from one goroutine to another through memory of
// fixed size: no lock, no allocation, no system call.
package ring

import (
	"fmt"
	"math/bits"
	"sync/atomic"
)

// Ring is a queue for one producer and one consumer (Lamport, 1983). Each side
// keeps a copy of the other's index and looks at the real one only when the
// copy says that there is nothing to do, so that a burst costs a cache miss
// and not each value.
//
// Indices run freely through 2^32; the size is a power of two, so subtraction
// and mask stay true when they wrap.
type Ring[T any] struct {
	slots []T
	mask  uint32

	_        [64]byte // the sides do not share a cache line
	head     atomic.Uint32
	seenTail uint32 // the producer's copy
	_        [64]byte
	tail     atomic.Uint32
	seenHead uint32 // the consumer's copy
	_        [64]byte
}

// New makes a ring of a power of two of slots.
func New[T any](size int) (*Ring[T], error) {
	if size < 1 || size > 1<<30 || bits.OnesCount(uint(size)) != 1 {
		return nil, fmt.Errorf("ring of %d slots: want a power of two up to 2^30", size)
	}
	return &Ring[T]{slots: make([]T, size), mask: uint32(size - 1)}, nil
}

// Push appends a copy of *v; false when the ring is full. Only the producer
// calls it.
func (r *Ring[T]) Push(v *T) bool {
	h := r.head.Load()
	if h-r.seenTail > r.mask {
		if r.seenTail = r.tail.Load(); h-r.seenTail > r.mask {
			return false
		}
	}
	r.slots[h&r.mask] = *v
	r.head.Store(h + 1) // release: the value is there before the index
	return true
}

// Pop takes values, at most len(out), and returns how many. Only the consumer
// calls it.
func (r *Ring[T]) Pop(out []T) int {
	t := r.tail.Load()
	if r.seenHead == t {
		if r.seenHead = r.head.Load(); r.seenHead == t {
			return 0
		}
	}
	n := min(int(r.seenHead-t), len(out))
	for i := range n {
		out[i] = r.slots[(t+uint32(i))&r.mask]
	}
	r.tail.Store(t + uint32(n)) // release: the slots have been read
	return n
}

// Len returns how many values wait. Either side may call it; the other may
// change it any time.
func (r *Ring[T]) Len() int { return int(r.head.Load() - r.tail.Load()) }
