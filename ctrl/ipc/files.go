package ipc

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Files are descriptors that came with a call or an answer. What is taken
// belongs to whoever took it; Close closes the rest.
type Files struct {
	mu   sync.Mutex
	list []*os.File // nil: taken or closed
}

// Len returns how many came, those taken included.
func (f *Files) Len() int {
	if f == nil {
		return 0
	}
	return len(f.list)
}

// Take returns the i-th descriptor, which is the caller's from now on; nil when
// there is none or it was taken.
func (f *Files) Take(i int) *os.File {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if i < 0 || i >= len(f.list) {
		return nil
	}
	file := f.list[i]
	f.list[i] = nil
	return file
}

// TakeAll returns all that were not taken; they are the caller's.
func (f *Files) TakeAll() []*os.File {
	var all []*os.File
	for i := range f.Len() {
		if file := f.Take(i); file != nil {
			all = append(all, file)
		}
	}
	return all
}

// Close closes what was not taken. It may be called again.
func (f *Files) Close() { closeAll(f.TakeAll()) }

func closeAll(files []*os.File) {
	for _, file := range files {
		file.Close()
	}
}

// Duplicate returns a further descriptor of f's file, the caller's own. Unlike
// File.Fd it does not make the file block, which other holders would notice.
func Duplicate(f *os.File) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("duplicate %s: %w", f.Name(), err)
	}
	var fd int
	var dupErr error
	if raw.Control(func(n uintptr) { fd, dupErr = unix.FcntlInt(n, unix.F_DUPFD_CLOEXEC, 0) }) != nil {
		dupErr = os.ErrClosed // Control has no other reason
	}
	if dupErr != nil {
		return nil, fmt.Errorf("duplicate %s: %w", f.Name(), dupErr)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}
