// Package arena makes the shared memory that packets live in: sealed memfds
// that are mapped into the host once and over a window of the linear memory of
// every function of a chain.
package arena

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// hugeBytes is the size in bytes of the huge pages asked for.
const hugeBytes = 2 << 20

// Region is one memfd, sealed against shrinking and growing (a mapping longer
// than its file means SIGBUS, which nothing handles), mapped and prefaulted.
// Whoever opened it closes it, after everything that mapped it is gone.
type Region struct {
	fd     int
	mapped []byte // with what lies before mem to align it
	mem    []byte
	huge   bool
	once   sync.Once
	err    error
}

// Options configure a [Region]. The zero value selects the defaults.
type Options struct {
	// Huge asks for 2 MiB pages, used when the machine has enough free and
	// size is a multiple of 2 MiB. [Region.Huge] tells what was given.
	Huge bool
	// Transparent gathers the pages into huge ones once they are there, as far
	// as the kernel can (Linux 6.1; whatever its settings say of shared memory),
	// so that a table in them costs no more misses in the TLB than one in private
	// memory, and a process that maps them again has them at once. It takes the
	// time of a copy, some 2 ms per MiB. With Sparse that is left to Gather.
	// Ignored where Huge was granted.
	Transparent bool
	// Sparse leaves pages unallocated until they are touched. Default false:
	// all pages are there when Open returns.
	Sparse bool
}

// Open makes a region of size bytes, a multiple of the page size. The name
// shows in /proc/PID/maps.
func Open(name string, size int, opts Options) (*Region, error) {
	if size <= 0 || size%os.Getpagesize() != 0 {
		return nil, fmt.Errorf("arena %s: size %d is not a positive multiple of the page size %d", name, size, os.Getpagesize())
	}
	if opts.Huge && size%hugeBytes == 0 {
		if r, err := open(name, size, unix.MFD_HUGETLB, opts); err == nil {
			r.huge = true
			return r, nil
		}
	}
	return open(name, size, 0, opts)
}

func open(name string, size int, flags int, opts Options) (_ *Region, err error) {
	fd, err := unix.MemfdCreate("sfc-"+name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|flags)
	if err != nil {
		return nil, fmt.Errorf("arena %s: memfd_create: %w", name, err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return nil, fmt.Errorf("arena %s: grow to %d bytes: %w", name, size, err)
	}
	seals := unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return nil, fmt.Errorf("arena %s: seal: %w", name, err)
	}
	return mapRegion(name, fd, size, opts)
}

// mapRegion maps a memfd of size bytes, which the region has from now on.
func mapRegion(name string, fd, size int, opts Options) (*Region, error) {
	mapped, mem, err := mapShared(fd, size, opts)
	if err != nil {
		return nil, fmt.Errorf("arena %s: map %d bytes: %w", name, size, err)
	}
	return &Region{fd: fd, mapped: mapped, mem: mem}, nil
}

// Bytes returns the host's mapping. It is valid until Close.
func (r *Region) Bytes() []byte { return r.mem }

// FD returns the memfd, for further mappings. The region keeps it.
func (r *Region) FD() int { return r.fd }

// Huge reports whether the region is made of huge pages.
func (r *Region) Huge() bool { return r.huge }

// Close unmaps the host's mapping and closes the memfd. Mappings elsewhere
// keep the pages alive until they are gone too. Close may be called again.
func (r *Region) Close() error {
	r.once.Do(func() {
		r.err = errors.Join(unix.Munmap(r.mapped), unix.Close(r.fd))
		r.mapped, r.mem = nil, nil
	})
	return r.err
}
