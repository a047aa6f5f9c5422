package arena

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Errors of [Adopt].
var (
	// ErrNotMemfd means that a descriptor is no memfd.
	ErrNotMemfd = errors.New("not a memfd")
	// ErrUnsealed means that a memfd can still be made shorter or longer.
	ErrUnsealed = errors.New("memfd is not sealed against shrinking and growing")
)

// Adopt maps a memfd that [Open] made, in this process or in another one, with
// what it holds. The size is the memfd's. The descriptor is the region's from
// now on; when Adopt fails it is closed.
//
// Whoever sent the descriptor need not be trusted: a memfd that could still be
// cut short, and so kill its readers with SIGBUS, is refused ([ErrUnsealed]).
// The contents are whatever the sender left there.
func Adopt(name string, fd int, opts Options) (_ *Region, err error) {
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("arena %s: stat descriptor %d: %w", name, fd, err)
	}
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil {
		return nil, fmt.Errorf("arena %s: descriptor %d: %w: %w", name, fd, ErrNotMemfd, err)
	}
	const need = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW
	if seals&need != need {
		return nil, fmt.Errorf("arena %s: seals %#x: %w", name, seals, ErrUnsealed)
	}
	if st.Size <= 0 || st.Size%int64(os.Getpagesize()) != 0 {
		return nil, fmt.Errorf("arena %s: size %d is not a positive multiple of the page size %d", name, st.Size, os.Getpagesize())
	}
	r, err := mapRegion(name, fd, int(st.Size), opts)
	if err != nil {
		return nil, err
	}
	r.huge = st.Blksize == hugeBytes
	return r, nil
}
