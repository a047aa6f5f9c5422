package arena

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sfc/testbed/gate"
)

// memfd is a memfd of size bytes with these seals.
func memfd(t *testing.T, size int64, seals int) int {
	t.Helper()
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Ftruncate(fd, size); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		t.Fatal(err)
	}
	return fd
}

// What was written before is there, and what is written now is seen through the
// region that it came from.
func TestAdopt(t *testing.T) {
	gate.Leaks(t)
	for _, opts := range []Options{{}, {Sparse: true}, {Huge: true}, {Transparent: true}, {Transparent: true, Sparse: true}} {
		r, err := Open("test", 4<<20, opts)
		if err != nil {
			t.Fatal(err)
		}
		r.Bytes()[4<<20-1] = 7
		fd, err := unix.Dup(r.FD())
		if err != nil {
			t.Fatal(err)
		}
		a, err := Adopt("test", fd, opts)
		if err != nil {
			t.Fatal(err)
		}
		if len(a.Bytes()) != 4<<20 || a.FD() != fd || a.Huge() != r.Huge() {
			t.Errorf("%+v: %d bytes, descriptor %d, huge %v", opts, len(a.Bytes()), a.FD(), a.Huge())
		}
		a.Bytes()[0] = 9
		if a.Bytes()[4<<20-1] != 7 || r.Bytes()[0] != 9 {
			t.Errorf("%+v: the mappings differ", opts)
		}
		if err := errors.Join(r.Close(), a.Close()); err != nil {
			t.Error(err)
		}
	}
}

func TestAdoptRefuses(t *testing.T) {
	gate.Leaks(t)
	file := func() int {
		f, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		fd, err := unix.Dup(int(f.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	const both = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW
	for name, c := range map[string]struct {
		fd   int
		want error
	}{
		"a file":        {file(), ErrNotMemfd},
		"no seals":      {memfd(t, 4096, 0), ErrUnsealed},
		"may shrink":    {memfd(t, 4096, unix.F_SEAL_GROW), ErrUnsealed},
		"may grow":      {memfd(t, 4096, unix.F_SEAL_SHRINK), ErrUnsealed},
		"empty":         {memfd(t, 0, both), nil},
		"half a page":   {memfd(t, 2048, both), nil},
		"cannot write":  {memfd(t, 4096, both|unix.F_SEAL_WRITE), unix.EPERM},
		"no descriptor": {-1, unix.EBADF},
	} {
		r, err := Adopt("test", c.fd, Options{})
		if err == nil {
			r.Close()
		}
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := unix.FcntlInt(uintptr(c.fd), unix.F_GETFD, 0); err != unix.EBADF {
			t.Errorf("%s: the descriptor is still open", name)
		}
	}
}

// Memory that was gathered into huge pages is so for whoever maps it again.
func TestTransparent(t *testing.T) {
	huge := func() (kib int) {
		b, err := os.ReadFile("/proc/self/smaps")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			var n int
			if _, err := fmt.Sscanf(line, "ShmemPmdMapped: %d kB", &n); err == nil {
				kib += n
			}
		}
		return kib
	}
	r, err := Open("test", 16<<20, Options{Transparent: true, Sparse: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	// All of the first 2 MiB, a bit more than half of the next, too little of
	// the third, none of the others.
	for at := 0; at < 4<<20+100*4096; at += 4096 {
		if at < 2<<20 || at >= 4<<20 || at&(2<<20-1) < 257*4096 {
			r.Bytes()[at] = byte(at >> 12)
		}
	}
	n, err := r.Gather()
	if err != nil {
		t.Skipf("the kernel cannot gather shared memory (Linux 6.1): %v", err)
	}
	if again, err := r.Gather(); n != 4<<20 || again != n || err != nil {
		t.Errorf("gathered %d bytes, then %d: %v", n, again, err)
	}
	for at := 0; at < 4<<20+100*4096; at += 4096 {
		if was := at < 2<<20 || at >= 4<<20 || at&(2<<20-1) < 257*4096; was && r.Bytes()[at] != byte(at>>12) {
			t.Fatalf("byte %d was %d and is %d", at, byte(at>>12), r.Bytes()[at])
		}
	}
	first := huge()
	if first != 4<<10 {
		t.Errorf("%d KiB are mapped in huge pages", first)
	}
	fd, err := unix.Dup(r.FD())
	if err != nil {
		t.Fatal(err)
	}
	a, err := Adopt("test", fd, Options{Transparent: true, Sparse: true})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if a.Bytes()[4096] != 1 || a.Bytes()[2<<20] != 0 {
		t.Errorf("bytes %d and %d", a.Bytes()[4096], a.Bytes()[2<<20])
	}
	if both := huge(); both != 2*first {
		t.Errorf("%d KiB in huge pages, mapped twice %d", first, both)
	}
}
