package flow

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The table counts on these: one cache line each.
var (
	_ [64 - unsafe.Sizeof(entry{})]byte
	_ [unsafe.Sizeof(entry{}) - 64]byte
	_ [64 - unsafe.Sizeof(bucket{})]byte
	_ [unsafe.Sizeof(bucket{}) - 64]byte
	_ [64 - unsafe.Sizeof(binding{})]byte
	_ [unsafe.Sizeof(binding{}) - 64]byte
	_ [64 - unsafe.Sizeof(Query{})]byte
	_ [unsafe.Sizeof(Query{}) - 64]byte
	_ [64 - unsafe.Sizeof(fragment{})]byte
	_ [unsafe.Sizeof(fragment{}) - 64]byte
)

// hugeBytes is the size of the pages that the kernel is asked to use.
const hugeBytes = 2 << 20

// memory is zeroed memory outside the Go heap, handed out piece by piece.
type memory struct {
	mapped []byte // as mapped, for Munmap
	free   []byte // not handed out yet
}

// mapMemory maps size bytes. A table is accessed at random: with huge pages
// most misses in the cache are not also misses in the TLB.
func mapMemory(size int, sparse bool) (_ *memory, err error) {
	mapped, err := unix.Mmap(-1, 0, size+hugeBytes, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("flow table: map %d bytes: %w", size, err)
	}
	m := &memory{mapped: mapped}
	start := -uintptr(unsafe.Pointer(&mapped[0])) & (hugeBytes - 1)
	m.free = mapped[start:][:size]
	// A kernel without transparent huge pages says EINVAL: then without.
	_ = unix.Madvise(m.free, unix.MADV_HUGEPAGE)
	if sparse {
		return m, nil
	}
	if err := unix.Madvise(m.free, unix.MADV_POPULATE_WRITE); err != nil {
		_ = m.unmap()
		return nil, fmt.Errorf("flow table: populate %d bytes: %w: choose a smaller table, or a sparse one", size, err)
	}
	return m, nil
}

// unmap gives the memory back. Every slice taken from it is gone with it.
func (m *memory) unmap() error {
	if m.mapped == nil {
		return nil
	}
	err := unix.Munmap(m.mapped)
	m.mapped, m.free = nil, nil
	return err
}

// bytesFor returns the size in bytes of n values of T, rounded up to cache lines.
func bytesFor[T any](n uint32) int {
	var v T
	return (int(n)*int(unsafe.Sizeof(v)) + 63) &^ 63
}

// take hands out the next n values of T, which must hold no pointers.
func take[T any](m *memory, n uint32) []T {
	if n == 0 {
		return nil
	}
	piece := m.free[:bytesFor[T](n)]
	m.free = m.free[len(piece):]
	return unsafe.Slice((*T)(unsafe.Pointer(&piece[0])), n)
}

// lineAligned says whether memory begins at a cache line.
func lineAligned(b []byte) bool { return uintptr(unsafe.Pointer(unsafe.SliceData(b)))%64 == 0 }
