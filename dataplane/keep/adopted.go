package keep

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"sfc/dataplane/arena"
)

// Files is a [Store] over named memfds that somebody else holds as well.
type Files struct {
	mu     sync.Mutex
	files  map[string]*os.File
	keep   func(name string, fd int) error
	forget func(name string) error
	closed bool
}

// Adopted returns a store of files, memfds that [arena.Open] made in another
// process; nil is none. keep is called with each new memory before Open returns,
// so that it outlives this process from then on, and forget when a name is
// given up; an error of keep is Open's, and then the memory is not kept. keep
// must not hold on to fd when it has returned. Calls come one at a time.
//
// The files are the store's from now on, Close closes them.
func Adopted(files map[string]*os.File, keep func(name string, fd int) error, forget func(name string) error) *Files {
	s := &Files{files: maps.Clone(files), keep: keep, forget: forget}
	if s.files == nil {
		s.files = map[string]*os.File{}
	}
	return s
}

// Open is Store's.
func (s *Files) Open(name string, size int, o arena.Options) (r *arena.Region, kept bool, err error) {
	if err := CheckName(name); err != nil {
		return nil, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, false, fmt.Errorf("open %s: %w", name, os.ErrClosed)
	}
	if f := s.files[name]; f != nil {
		r, err := adopt(name, f, size, o)
		return r, err == nil, err
	}
	if r, err = arena.Open(name, size, o); err != nil {
		return nil, false, err
	}
	if err := s.enter(name, r.FD()); err != nil {
		return nil, false, errors.Join(err, r.Close())
	}
	return r, false, nil
}

// adopt maps kept memory once more.
func adopt(name string, f *os.File, size int, o arena.Options) (*arena.Region, error) {
	fd, err := dup(int(f.Fd()))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Size != int64(size) {
		unix.Close(fd)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", name, err)
		}
		return nil, fmt.Errorf("open %s: %d bytes were kept, %d are wanted: %w", name, st.Size, size, ErrSize)
	}
	return arena.Adopt(name, fd, o)
}

// enter keeps new memory.
func (s *Files) enter(name string, fd int) error {
	own, err := dup(fd)
	if err != nil {
		return fmt.Errorf("keep %s: %w", name, err)
	}
	if err := s.keep(name, own); err != nil {
		unix.Close(own)
		return fmt.Errorf("keep %s: %w", name, err)
	}
	s.files[name] = os.NewFile(uintptr(own), name)
	return nil
}

func dup(fd int) (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0) }

// Forget is Store's. When the one who keeps cannot be told, the name stays.
func (s *Files) Forget(name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[name]
	if f == nil {
		return nil
	}
	if err := s.forget(name); err != nil {
		return fmt.Errorf("forget %s: %w", name, err)
	}
	delete(s.files, name)
	return f.Close()
}

// Names is Store's.
func (s *Files) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.files))
}

// Close closes this process's descriptors. What others keep, they keep; regions
// that are open stay valid. It may be called again.
func (s *Files) Close() (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.files {
		err = errors.Join(err, f.Close())
	}
	clear(s.files)
	s.closed = true
	return err
}
