package arena

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"sfc/testbed/gate"
)

func TestMain(m *testing.M) { os.Exit(gate.Main(m)) }

// A region cannot be made shorter or longer by anyone who has its descriptor,
// and a second mapping shows the same bytes.
func TestRegion(t *testing.T) {
	gate.Leaks(t)
	for _, opts := range []Options{{}, {Sparse: true}, {Huge: true}, {Transparent: true}, {Transparent: true, Sparse: true}} {
		const size = 4 << 20
		r, err := Open("test", size, opts)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Bytes()) != size {
			t.Errorf("%+v: %d bytes", opts, len(r.Bytes()))
		}
		for _, n := range []int64{0, size - 4096, size + 4096} {
			if err := unix.Ftruncate(r.FD(), n); !errors.Is(err, unix.EPERM) {
				t.Errorf("%+v: truncate to %d: %v, want EPERM", opts, n, err)
			}
		}
		second, err := unix.Mmap(r.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			t.Fatal(err)
		}
		r.Bytes()[size-1] = 7
		second[0] = 9
		if second[size-1] != 7 || r.Bytes()[0] != 9 {
			t.Errorf("%+v: the mappings differ", opts)
		}
		if err := errors.Join(unix.Munmap(second), r.Close(), r.Close()); err != nil {
			t.Error(err)
		}
	}
}

func TestSparse(t *testing.T) {
	blocks := func(opts Options) int64 {
		r, err := Open("test", 4<<20, opts)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		var st unix.Stat_t
		if err := unix.Fstat(r.FD(), &st); err != nil {
			t.Fatal(err)
		}
		return st.Blocks * 512
	}
	if n := blocks(Options{Sparse: true}); n != 0 {
		t.Errorf("a sparse region has %d bytes before it is touched", n)
	}
	if n := blocks(Options{}); n != 4<<20 {
		t.Errorf("a region has %d of its bytes", n)
	}
}

func TestBadSizes(t *testing.T) {
	for _, size := range []int{0, -4096, 1, 4097} {
		if r, err := Open("test", size, Options{}); err == nil {
			r.Close()
			t.Errorf("%d bytes were taken", size)
		}
	}
}

// Memory of one's own is zero, of the size asked for, and gone when closed.
func TestPrivate(t *testing.T) {
	for _, size := range []int{1, 4096, 3<<20 + 128} {
		p, err := OpenPrivate("test", size)
		if err != nil {
			t.Fatal(err)
		}
		b := p.Bytes()
		if len(b) != size || cap(b) != size || !bytes.Equal(b, make([]byte, size)) {
			t.Errorf("%d bytes: len %d, cap %d, or not zero", size, len(b), cap(b))
		}
		b[0], b[size-1] = 1, 2
		if err := errors.Join(p.Close(), p.Close()); err != nil || p.Bytes() != nil {
			t.Errorf("close: %v", err)
		}
	}
	if _, err := OpenPrivate("test", 0); err == nil {
		t.Error("nothing was mapped")
	}
}
