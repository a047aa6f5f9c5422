package arena

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Gather makes huge pages of those small ones that are there by now, in a region
// that is both Transparent and Sparse: of each 2 MiB of which at least half is
// there, so that memory grows by no more than it has. It returns how many bytes
// lie in huge pages as far as it knows. A kernel that cannot (before Linux 6.1)
// is an error; nothing is lost.
//
// Safe while others use the memory; who touches 2 MiB that are being copied
// waits for it, some 0.2 ms. So call it when a table has grown, from a
// goroutine that is no worker.
func (r *Region) Gather() (huge int, err error) {
	page := os.Getpagesize()
	there := make([]byte, hugeBytes/page)
	for at := 0; at+hugeBytes <= len(r.mem); at += hugeBytes {
		first := unsafe.Pointer(&r.mem[at])
		if _, _, e := unix.Syscall(unix.SYS_MINCORE, uintptr(first), hugeBytes, uintptr(unsafe.Pointer(&there[0]))); e != 0 {
			return huge, fmt.Errorf("arena: ask for pages of %d bytes at %d: %w", hugeBytes, at, e)
		}
		n := 0
		for _, t := range there {
			n += int(t & 1)
		}
		if n < len(there)/2 {
			continue
		}
		if err := unix.Madvise(r.mem[at:at+hugeBytes], unix.MADV_COLLAPSE); err != nil {
			return huge, fmt.Errorf("arena: gather %d bytes at %d: %w", hugeBytes, at, err)
		}
		huge += hugeBytes
	}
	return huge, nil
}
