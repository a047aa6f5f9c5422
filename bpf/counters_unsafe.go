package bpf

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapMemory maps n bytes of the values of an array map made with
// BPF_F_MMAPABLE, for the given protection, unix.PROT_*. The kernel refuses more
// bytes than there are. It needs the descriptor and no capability.
func mapMemory(name string, fd, n, prot int) ([]byte, error) {
	mem, err := unix.Mmap(fd, 0, n, prot, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes of %s: %w", n, name, err)
	}
	return mem, nil
}

// counters sums the slots of all CPUs.
func (v *counterView) counters() (c Counters) {
	if v.slots == nil {
		return v.last
	}
	for i := range unsafe.Slice((*steerSfcCounters)(unsafe.Pointer(&v.slots[0])), v.cpus) {
		slot := (*steerSfcCounters)(unsafe.Pointer(&v.slots[i*int(unsafe.Sizeof(steerSfcCounters{}))]))
		for _, f := range []struct{ to, from *uint64 }{
			{&c.Redirected, &slot.Redirected},
			{&c.Passed, &slot.Passed},
			{&c.Forwarded, &slot.Forwarded},
			{&c.NoPath, &slot.NoPath},
			{&c.TooLong, &slot.TooLong},
			{&c.Malformed, &slot.Malformed},
			{&c.ExtHeaders, &slot.ExtHeaders},
			{&c.NoSocket, &slot.NoSocket},
			{&c.NoPair, &slot.NoPair},
			{&c.NoMeta, &slot.NoMeta},
			{&c.NotIP, &slot.NotIp},
			{&c.NeighbourDiscovery, &slot.Nd},
			{&c.Unmatched, &slot.Unmatched},
		} {
			*f.to += atomic.LoadUint64(f.from)
		}
	}
	return c
}

// seq returns the sequence number of the next frame.
func (v *counterView) seq() uint32 {
	if v.next == nil {
		return v.lastSeq
	}
	return uint32(atomic.LoadUint64((*uint64)(unsafe.Pointer(&v.next[0]))))
}
