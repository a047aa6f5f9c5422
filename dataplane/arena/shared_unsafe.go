package arena

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapShared maps a memfd: mem is where it is, mapped what to unmap. Memory that
// may consist of huge pages begins where one can.
func mapShared(fd, size int, opts Options) (mapped, mem []byte, err error) {
	flags := unix.MAP_SHARED
	if !opts.Sparse {
		flags |= unix.MAP_POPULATE
	}
	const prot = unix.PROT_READ | unix.PROT_WRITE
	if !opts.Transparent || size < hugeBytes {
		mem, err = unix.Mmap(fd, 0, size, prot, flags)
		return mem, mem, err
	}
	mapped, err = unix.Mmap(-1, 0, size+hugeBytes, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, nil, err
	}
	start := -uintptr(unsafe.Pointer(&mapped[0])) & (hugeBytes - 1)
	mem = mapped[start:][:size:size]
	if _, err := unix.MmapPtr(fd, 0, unsafe.Pointer(&mem[0]), uintptr(size), prot, flags|unix.MAP_FIXED); err != nil {
		_ = unix.Munmap(mapped) // what was mapped can be unmapped
		return nil, nil, err
	}
	if !opts.Sparse {
		// Where pages are short or the kernel is old: then without.
		_ = unix.Madvise(mem[:size&^(hugeBytes-1)], unix.MADV_COLLAPSE)
	}
	return mapped, mem, nil
}
