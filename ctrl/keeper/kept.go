package keeper

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"sfc/ctrl/ipc"
	"sfc/ctrl/kernelipc"
)

// KernelPrefix begins the names of what the supervisor made itself. The data
// plane may fetch it, but neither keeps nor forgets such names.
const KernelPrefix = "kernel/"

// Kept are descriptors under names. It may be used from any goroutine.
type Kept struct {
	mu    sync.Mutex
	files map[string]*os.File
}

func newKept() *Kept { return &Kept{files: map[string]*os.File{}} }

// Put keeps f, which is its own then, in place of what had the name.
func (k *Kept) Put(name string, f *os.File) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	old := k.files[name]
	switch {
	case name == "" || len(name) > kernelipc.MaxName:
		f.Close()
		return fmt.Errorf("keep a descriptor: name of %d bytes: want 1 to %d", len(name), kernelipc.MaxName)
	case old == nil && len(k.files) >= kernelipc.MaxKept:
		f.Close()
		return fmt.Errorf("keep %s: %d descriptors are kept already: no more", name, len(k.files))
	case old != nil:
		old.Close()
	}
	k.files[name] = f
	return nil
}

// Forget closes what is kept under names.
func (k *Kept) Forget(names ...string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, name := range names {
		if f := k.files[name]; f != nil {
			f.Close()
			delete(k.files, name)
		}
	}
}

// Names returns the names of everything kept, sorted.
func (k *Kept) Names() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Sorted(maps.Keys(k.files))
}

// Len returns how many are kept.
func (k *Kept) Len() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.files)
}

// Get returns a duplicate of a kept descriptor, the caller's own.
func (k *Kept) Get(name string) (*os.File, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f := k.files[name]
	if f == nil {
		return nil, fmt.Errorf("%s is not kept: %w", name, os.ErrNotExist)
	}
	return ipc.Duplicate(f)
}

func (k *Kept) close() {
	k.Forget(k.Names()...)
}

// serve answers a data plane.
func (k *Kept) serve(m *ipc.Mux) {
	type none = kernelipc.None
	ipc.Handle(m, kernelipc.MethodKeep, func(_ context.Context, r kernelipc.Keep, in *ipc.Files) (none, []*os.File, error) {
		f := in.Take(0)
		if f == nil {
			return none{}, nil, fmt.Errorf("keep %.64q: no descriptor came", r.Name)
		}
		if err := isMemory(f); err != nil {
			f.Close()
			return none{}, nil, fmt.Errorf("keep %.64q: %w", r.Name, err)
		}
		if strings.HasPrefix(r.Name, KernelPrefix) {
			f.Close()
			return none{}, nil, fmt.Errorf("keep %.64q: such names are the supervisor's", r.Name)
		}
		return none{}, nil, k.Put(r.Name, f)
	})
	ipc.Handle(m, kernelipc.MethodForget, func(_ context.Context, r kernelipc.Forget, _ *ipc.Files) (none, []*os.File, error) {
		for _, name := range r.Names {
			if strings.HasPrefix(name, KernelPrefix) {
				return none{}, nil, fmt.Errorf("forget %.64q: such names are the supervisor's", name)
			}
		}
		k.Forget(r.Names...)
		return none{}, nil, nil
	})
	ipc.Handle(m, kernelipc.MethodHeld, func(context.Context, none, *ipc.Files) (kernelipc.Held, []*os.File, error) {
		return kernelipc.Held{Names: k.Names()}, nil, nil
	})
	ipc.Handle(m, kernelipc.MethodFetch, func(_ context.Context, r kernelipc.Fetch, _ *ipc.Files) (got kernelipc.Fetched, files []*os.File, err error) {
		if len(r.Names) > kernelipc.MaxFetch {
			return got, nil, fmt.Errorf("%d names: at most %d", len(r.Names), kernelipc.MaxFetch)
		}
		for _, name := range r.Names {
			f, err := k.Get(name)
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err != nil {
				return got, files, err
			}
			got.Names, files = append(got.Names, name), append(files, f)
		}
		return got, files, nil
	})
}

// isMemory says what is wrong with a descriptor that should be a memfd nobody
// can shrink.
func isMemory(f *os.File) error {
	seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if err != nil || seals&unix.F_SEAL_SHRINK == 0 {
		return errors.New("only memfds sealed against shrinking are kept")
	}
	return nil
}

// takeBack fetches everything that a data plane holds.
func (k *Kept) takeBack(ctx context.Context, conn *ipc.Conn) error {
	held, err := ipc.Do[kernelipc.Held](ctx, conn, kernelipc.MethodHeld, kernelipc.None{})
	if err != nil {
		return err
	}
	for part := range slices.Chunk(held.Names, kernelipc.MaxFetch) {
		got, files, err := ipc.Call[kernelipc.Fetched](ctx, conn, kernelipc.MethodFetch, kernelipc.Fetch{Names: part})
		if err != nil {
			return err
		}
		for i, name := range got.Names {
			f := files.Take(i)
			if f == nil {
				continue
			}
			if err == nil && !strings.HasPrefix(name, KernelPrefix) {
				if err = isMemory(f); err != nil {
					err = fmt.Errorf("take back %.64q: %w", name, err)
				}
			}
			if err != nil {
				f.Close()
				continue
			}
			err = k.Put(name, f)
		}
		files.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
