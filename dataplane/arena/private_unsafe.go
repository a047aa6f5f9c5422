package arena

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Private is memory of this process alone for a table that is accessed at
// random: outside the Go heap, in huge pages where the kernel has some, so that a
// miss in the cache is not also one in the TLB, and all there from the start, so
// that nobody pays for a page fault later. Whoever opened it closes it.
type Private struct{ mapped, mem []byte }

// OpenPrivate maps size bytes of zeros. The name is for errors.
func OpenPrivate(name string, size int) (*Private, error) {
	if size <= 0 {
		return nil, fmt.Errorf("arena %s: size %d is not positive", name, size)
	}
	mapped, err := unix.Mmap(-1, 0, size+hugeBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("arena %s: map %d bytes: %w", name, size, err)
	}
	p := &Private{mapped: mapped}
	start := -uintptr(unsafe.Pointer(&mapped[0])) & (hugeBytes - 1)
	p.mem = mapped[start:][:size:size]
	// A kernel without transparent huge pages says EINVAL: then without.
	_ = unix.Madvise(p.mem, unix.MADV_HUGEPAGE)
	if err := unix.Madvise(p.mem, unix.MADV_POPULATE_WRITE); err != nil {
		_ = p.Close() // what was mapped can be unmapped
		return nil, fmt.Errorf("arena %s: populate %d bytes: %w", name, size, err)
	}
	return p, nil
}

// Bytes returns the memory. It is valid until Close.
func (p *Private) Bytes() []byte { return p.mem }

// Close gives the memory back. It may be called again.
func (p *Private) Close() error {
	if p.mapped == nil {
		return nil
	}
	err := unix.Munmap(p.mapped)
	p.mapped, p.mem = nil, nil
	return err
}
