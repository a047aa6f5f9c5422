package xsk

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// desc is what a ring holds: a frame (RX, TX) or the address of a chunk in the
// UMEM in bytes (fill, completion).
type desc interface{ unix.XDPDesc | uint64 }

// consRing is a ring the kernel fills and we drain: RX or completion. See
// linux/if_xdp.h, and xsk_ring_cons in libxdp.
//
// Owner: the worker goroutine (RX), or who holds the queue's lock (completion).
// Not safe for concurrent use.
// Indices run freely through 2^32; the ring's size is a power of two, so that
// subtraction and mask stay true when they wrap.
type consRing[T desc] struct {
	descs []T    // len(descs) is a power of two
	mask  uint32 // len(descs)-1

	producer *atomic.Uint32 // written by the kernel only
	consumer *atomic.Uint32 // written by us only

	cachedProd uint32 // producer as last loaded; reloaded only when drained
	cachedCons uint32 // next descriptor to read; published by release
}

// peek returns how many descriptors are ready, at most limit, and the index of
// the first. The caller reads them with at, then calls release exactly once.
func (r *consRing[T]) peek(limit uint32) (n, idx uint32) {
	n = r.cachedProd - r.cachedCons
	if n == 0 {
		// Acquire: descriptors written before the kernel's producer store
		// are visible after this load.
		r.cachedProd = r.producer.Load()
		n = r.cachedProd - r.cachedCons
	}
	n = min(n, limit)
	idx = r.cachedCons
	r.cachedCons += n
	return n, idx
}

func (r *consRing[T]) at(idx uint32) T { return r.descs[idx&r.mask] }

// release returns all peeked slots to the kernel with one store.
func (r *consRing[T]) release() { r.consumer.Store(r.cachedCons) }

// idle says, from the shared words alone, that there is nothing to peek. Unlike
// the rest it may be called without owning the ring.
func (r *consRing[T]) idle() bool { return r.producer.Load() == r.consumer.Load() }

// resync forgets what was cached: another view of the ring was used meanwhile.
func (r *consRing[T]) resync() { r.cachedProd, r.cachedCons = r.producer.Load(), r.consumer.Load() }

// ready returns how many descriptors wait to be peeked.
func (r *consRing[T]) ready() uint32 { return r.producer.Load() - r.cachedCons }

// prodRing is a ring we fill and the kernel drains: fill or TX. See
// xsk_ring_prod in libxdp.
//
// Owner: the worker goroutine (TX), or who holds the queue's lock (fill). Not
// safe for concurrent use.
type prodRing[T desc] struct {
	descs []T    // len(descs) is a power of two
	mask  uint32 // len(descs)-1

	producer *atomic.Uint32 // written by us only
	consumer *atomic.Uint32 // written by the kernel only
	flags    *atomic.Uint32 // written by the kernel only: XDP_RING_NEED_WAKEUP

	cachedProd uint32 // next slot to write; published by submit
	cachedCons uint32 // consumer as last loaded; reloaded only when short of slots
}

// room returns how many slots may be written, at most limit.
func (r *prodRing[T]) room(limit uint32) uint32 {
	size := r.mask + 1
	n := size - (r.cachedProd - r.cachedCons)
	if n < limit {
		// Acquire: the kernel has read every descriptor before its consumer
		// store, so the slots may be overwritten after this load.
		r.cachedCons = r.consumer.Load()
		n = size - (r.cachedProd - r.cachedCons)
	}
	return min(n, limit)
}

// reserve returns how many slots may be written, at most limit, and the index
// of the first. The caller writes all of them with put, then calls submit
// exactly once.
func (r *prodRing[T]) reserve(limit uint32) (n, idx uint32) {
	n = r.room(limit)
	idx = r.cachedProd
	r.cachedProd += n
	return n, idx
}

func (r *prodRing[T]) at(idx uint32) T { return r.descs[idx&r.mask] }

func (r *prodRing[T]) put(idx uint32, d T) { r.descs[idx&r.mask] = d }

// submit hands all reserved slots to the kernel with one store (release: the
// descriptors are visible before the new producer).
func (r *prodRing[T]) submit() { r.producer.Store(r.cachedProd) }

// resync forgets what was cached: another view of the ring was used meanwhile.
func (r *prodRing[T]) resync() { r.cachedProd, r.cachedCons = r.producer.Load(), r.consumer.Load() }

// waiting returns how many descriptors the kernel has not taken yet.
func (r *prodRing[T]) waiting() uint32 { return r.cachedProd - r.consumer.Load() }

// needWakeup says whether the kernel asks for a system call before it looks at
// the ring.
func (r *prodRing[T]) needWakeup() bool {
	return r.flags.Load()&unix.XDP_RING_NEED_WAKEUP != 0
}
