package xsk

import (
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
)

// start is where test rings begin, so that every index wraps within a few
// descriptors.
const start = ^uint32(0) - 3

// layout places a ring's words as the kernel does: each on a cache line of its
// own, the descriptors behind.
var layout = unix.XDPRingOffset{Producer: 0, Consumer: 64, Flags: 128, Desc: 192}

// fakeRing makes the memory of a ring whose indices begin at start.
func fakeRing[T desc](size uint32) ringMem[T] {
	m := viewRing[T](make([]byte, ringBytes[T](layout, size)), layout, size)
	m.producer.Store(start)
	m.consumer.Store(start)
	return m
}

func TestProducerRingAgainstQueue(t *testing.T) {
	for _, size := range []uint32{1, 2, 8, 64} {
		rng := rand.New(rand.NewPCG(1, uint64(size)))
		mem := fakeRing[uint64](size)
		ring := newProdRing(mem)
		kernel := start // the kernel's own consumer index
		var model []uint64
		var next uint64
		for step := range 20_000 {
			if rng.IntN(2) == 0 {
				limit := uint32(rng.IntN(int(size) + 3))
				n, idx := ring.reserve(limit)
				if free := size - uint32(len(model)); n > min(limit, free) {
					t.Fatalf("size %d step %d: reserved %d of %d free", size, step, n, free)
				} else if n < min(limit, free) {
					t.Fatalf("size %d step %d: reserved only %d, limit %d, %d free", size, step, n, limit, free)
				}
				for i := range n {
					ring.put(idx+i, next)
					model = append(model, next)
					next++
				}
				ring.submit()
			} else {
				ready := mem.producer.Load() - kernel
				if int(ready) != len(model) || ring.waiting() != ready {
					t.Fatalf("size %d step %d: kernel sees %d, waiting %d, model %d", size, step, ready, ring.waiting(), len(model))
				}
				for range rng.IntN(int(ready) + 1) {
					if got := mem.descs[kernel&(size-1)]; got != model[0] {
						t.Fatalf("size %d step %d: kernel reads %d, want %d", size, step, got, model[0])
					}
					model = model[1:]
					kernel++
				}
				mem.consumer.Store(kernel)
			}
		}
		if next < 1000 {
			t.Errorf("size %d: only %d descriptors went through", size, next)
		}
	}
}

func TestConsumerRingAgainstQueue(t *testing.T) {
	for _, size := range []uint32{1, 2, 8, 64} {
		rng := rand.New(rand.NewPCG(2, uint64(size)))
		mem := fakeRing[unix.XDPDesc](size)
		ring := newConsRing(mem)
		kernel := start // the kernel's own producer index
		var model []unix.XDPDesc
		var next, got uint64
		for step := range 20_000 {
			if rng.IntN(2) == 0 {
				for range rng.IntN(int(size-(kernel-mem.consumer.Load())) + 1) {
					d := unix.XDPDesc{Addr: next, Len: uint32(next)}
					mem.descs[kernel&(size-1)] = d
					model = append(model, d)
					kernel++
					next++
				}
				mem.producer.Store(kernel)
				if int(ring.ready()) != len(model) {
					t.Fatalf("size %d step %d: ready %d, model %d", size, step, ring.ready(), len(model))
				}
			} else {
				limit := uint32(rng.IntN(int(size) + 3))
				n, idx := ring.peek(limit)
				if n > limit || int(n) > len(model) || n == 0 && limit > 0 && len(model) > 0 {
					t.Fatalf("size %d step %d: peeked %d, limit %d, %d there", size, step, n, limit, len(model))
				}
				for i := range n {
					if d := ring.at(idx + i); d != model[0] {
						t.Fatalf("size %d step %d: read %v, want %v", size, step, d, model[0])
					}
					model = model[1:]
					got++
				}
				if mem.consumer.Load() != start+uint32(got)-n {
					t.Fatalf("size %d step %d: slots given back before release", size, step)
				}
				ring.release()
				if mem.consumer.Load() != start+uint32(got) {
					t.Fatalf("size %d step %d: slots not given back", size, step)
				}
			}
		}
		if got < 1000 {
			t.Errorf("size %d: only %d descriptors went through", size, got)
		}
	}
}

func TestNeedWakeupFollowsFlag(t *testing.T) {
	mem := fakeRing[uint64](8)
	ring := newProdRing(mem)
	for _, flags := range []uint32{0, unix.XDP_RING_NEED_WAKEUP, 0} {
		mem.flags.Store(flags)
		if ring.needWakeup() != (flags != 0) {
			t.Errorf("flags %#x: needWakeup = %v", flags, ring.needWakeup())
		}
	}
}
