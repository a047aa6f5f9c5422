package keep

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sfc/dataplane/arena"
	"sfc/testbed/gate"
)

func TestMain(m *testing.M) { os.Exit(gate.Main(m)) }

const page = 4096

// other is somebody else who holds what is kept.
type other struct {
	fds    map[string]*os.File
	forgot []string
	err    error
}

func (o *other) keep(name string, fd int) error {
	if o.err != nil {
		return o.err
	}
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	o.fds[name] = os.NewFile(uintptr(own), name)
	return nil
}

// handOver is what the next process gets.
func (o *other) handOver(t *testing.T) map[string]*os.File {
	t.Helper()
	files := map[string]*os.File{}
	for name, f := range o.fds {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = os.NewFile(uintptr(fd), name)
	}
	return files
}

func (o *other) forget(name string) error {
	if o.err != nil {
		return o.err
	}
	o.forgot = append(o.forgot, name)
	err := o.fds[name].Close()
	delete(o.fds, name)
	return err
}

func open(t *testing.T, s Store, name string, size int, want bool) *arena.Region {
	t.Helper()
	r, kept, err := s.Open(name, size, arena.Options{})
	if err != nil || kept != want {
		t.Fatalf("open %s: kept %v, want %v: %v", name, kept, want, err)
	}
	return r
}

// What one store kept, the next one opens with its contents, whatever became of
// the regions and the store of the first.
func TestNextProcess(t *testing.T) {
	gate.Leaks(t)
	o := &other{fds: map[string]*os.File{}}
	first := Adopted(nil, o.keep, o.forget)
	r := open(t, first, "flows/acme/edge/0", page, false)
	copy(r.Bytes(), "hello")
	again := open(t, first, "flows/acme/edge/0", page, true)
	r.Bytes()[0] = 'j'
	if got := string(again.Bytes()[:5]); got != "jello" {
		t.Errorf("opened twice: %q", got)
	}
	if err := errors.Join(r.Close(), again.Close(), first.Close(), first.Close()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := first.Open("x", page, arena.Options{}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a closed store: %v", err)
	}

	second := Adopted(o.handOver(t), o.keep, o.forget)
	r = open(t, second, "flows/acme/edge/0", page, true)
	if got := string(r.Bytes()[:5]); got != "jello" {
		t.Errorf("kept: %q", got)
	}
	if _, _, err := second.Open("flows/acme/edge/0", 2*page, arena.Options{}); !errors.Is(err, ErrSize) {
		t.Errorf("another size: %v", err)
	}
	fresh := open(t, second, "claims", 2*page, false)
	if got := second.Names(); !slices.Equal(got, []string{"claims", "flows/acme/edge/0"}) {
		t.Errorf("names %v", got)
	}
	if err := errors.Join(second.Forget("flows/acme/edge/0"), second.Forget("never/seen")); err != nil {
		t.Error(err)
	}
	if !slices.Equal(o.forgot, []string{"flows/acme/edge/0"}) {
		t.Errorf("told to forget %v", o.forgot)
	}
	if got := string(r.Bytes()[:5]); got != "jello" {
		t.Errorf("an open region after its name was forgotten: %q", got)
	}
	renewed := open(t, second, "flows/acme/edge/0", 2*page, false)
	for _, r := range []*arena.Region{r, fresh, renewed} {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	for _, f := range o.fds {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Memory that could not be handed over is not given out, and one that could not
// be given up stays.
func TestOtherSideFails(t *testing.T) {
	gate.Leaks(t)
	o := &other{fds: map[string]*os.File{}}
	s := Adopted(nil, o.keep, o.forget)
	r := open(t, s, "a", page, false)
	o.err = errors.New("it is gone")
	if _, _, err := s.Open("b", page, arena.Options{}); !errors.Is(err, o.err) {
		t.Errorf("open: %v", err)
	}
	if err := s.Forget("a"); !errors.Is(err, o.err) {
		t.Errorf("forget: %v", err)
	}
	if got := s.Names(); !slices.Equal(got, []string{"a"}) {
		t.Errorf("names %v", got)
	}
	if err := errors.Join(r.Close(), s.Close(), o.fds["a"].Close()); err != nil {
		t.Error(err)
	}
}

// What is no sealed memfd is refused and left where it is.
func TestBadDescriptor(t *testing.T) {
	gate.Leaks(t)
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(page); err != nil {
		t.Fatal(err)
	}
	s := Adopted(map[string]*os.File{"a": f}, nil, nil)
	if _, _, err := s.Open("a", page, arena.Options{}); !errors.Is(err, arena.ErrNotMemfd) {
		t.Errorf("a plain file: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestLocal(t *testing.T) {
	gate.Leaks(t)
	s := Local()
	for range 2 {
		r := open(t, s, "umem", page, false)
		if r.Bytes()[0] != 0 {
			t.Error("something was kept")
		}
		r.Bytes()[0] = 1
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := s.Forget("umem"); err != nil || len(s.Names()) != 0 {
		t.Errorf("names %v: %v", s.Names(), err)
	}
	if _, _, err := s.Open("../umem", page, arena.Options{}); !errors.Is(err, ErrName) {
		t.Errorf("a bad name: %v", err)
	}
}

func TestNames(t *testing.T) {
	for _, name := range []string{"umem", "flows/acme/edge/0", "slots/a/b/fw/0/00ff", "a:b/v1.2@10", "...", strings.Repeat("x", MaxName)} {
		if err := CheckName(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "a b", "a\x00", "ä", strings.Repeat("x", MaxName+1)} {
		if err := CheckName(name); !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", name, err)
		}
	}
}
