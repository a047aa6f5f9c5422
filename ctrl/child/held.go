package child

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"sfc/ctrl/ipc"
	"sfc/ctrl/kernelipc"
	"sfc/dataplane/keep"
)

// kernelPrefix begins the names of what the supervisor itself made.
const kernelPrefix = "kernel/"

// Recover fetches everything that is kept and returns the store of memory. A
// data plane calls it once, when it has been started.
func (p *Process) Recover(ctx context.Context) (keep.Store, error) {
	held, err := Call[kernelipc.Held](ctx, p, kernelipc.MethodHeld, kernelipc.None{})
	if err != nil {
		return nil, err
	}
	if err := p.Fetch(ctx, held.Names...); err != nil {
		return nil, err
	}
	memory := map[string]*os.File{}
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, f := range p.held {
		if strings.HasPrefix(name, kernelPrefix) {
			continue
		}
		if memory[name], err = ipc.Duplicate(f); err != nil {
			for _, f := range memory {
				f.Close()
			}
			return nil, fmt.Errorf("take over %s: %w", name, err)
		}
	}
	p.store = keep.Adopted(memory, p.keep, p.forget)
	return p.store, nil
}

// Fetch gets kept descriptors from the supervisor: this process holds them,
// too, from now on. Those that are held already are not fetched again.
func (p *Process) Fetch(ctx context.Context, names ...string) error {
	p.mu.Lock()
	var missing []string
	for _, name := range names {
		if p.held[name] == nil {
			missing = append(missing, name)
		}
	}
	p.mu.Unlock()
	for part := range slices.Chunk(missing, kernelipc.MaxFetch) {
		conn, err := p.Supervisor(ctx)
		if err != nil {
			return err
		}
		got, files, err := ipc.Call[kernelipc.Fetched](ctx, conn, kernelipc.MethodFetch, kernelipc.Fetch{Names: part})
		if err != nil {
			return err
		}
		p.mu.Lock()
		for i, name := range got.Names {
			if f := files.Take(i); f != nil {
				p.hold(name, f)
			}
		}
		p.mu.Unlock()
		files.Close()
	}
	return nil
}

// Held returns a duplicate of a descriptor that is held, the caller's own.
func (p *Process) Held(name string) (*os.File, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.held[name]
	if f == nil {
		return nil, fmt.Errorf("%s is not kept: %w", name, os.ErrNotExist)
	}
	return ipc.Duplicate(f)
}

// Drop closes what is held under names, and has the supervisor forget it, except
// what the supervisor made itself: about that it decides.
func (p *Process) Drop(ctx context.Context, names ...string) error {
	p.mu.Lock()
	for _, name := range names {
		if f := p.held[name]; f != nil {
			f.Close()
			delete(p.held, name)
		}
	}
	p.mu.Unlock()
	names = slices.DeleteFunc(slices.Clone(names), func(n string) bool { return strings.HasPrefix(n, kernelPrefix) })
	if len(names) == 0 {
		return nil
	}
	_, err := Call[kernelipc.None](ctx, p, kernelipc.MethodForget, kernelipc.Forget{Names: names})
	return err
}

// take holds what the supervisor made, and gives up what it has replaced.
func (p *Process) take(_ context.Context, r kernelipc.Hold, in *ipc.Files) (kernelipc.None, []*os.File, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range r.Drop {
		if f := p.held[name]; f != nil {
			f.Close()
			delete(p.held, name)
		}
	}
	for i, name := range r.Names {
		if f := in.Take(i); f != nil {
			p.hold(name, f)
		}
	}
	return kernelipc.None{}, nil, nil
}

// hold holds f under a name. p.mu is held.
func (p *Process) hold(name string, f *os.File) {
	if old := p.held[name]; old != nil {
		old.Close()
	}
	p.held[name] = f
}

// keep gives the supervisor a duplicate of new memory. While there is no
// supervisor this process alone has it: the next one fetches it.
func (p *Process) keep(name string, fd int) error {
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(own), name)
	p.mu.Lock()
	p.hold(name, f)
	conn := p.conn
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(p.ending, patience)
	defer cancel()
	_, err = ipc.Do[kernelipc.None](ctx, conn, kernelipc.MethodKeep, kernelipc.Keep{Name: name}, f)
	if err == nil || errors.Is(err, ipc.ErrLost) {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held[name] == f {
		delete(p.held, name)
		f.Close()
	}
	return err
}

// forget gives a name up. A supervisor that is just missing does not learn of
// it, and what it then fetches does not have the name.
func (p *Process) forget(name string) error {
	p.mu.Lock()
	if f := p.held[name]; f != nil {
		f.Close()
		delete(p.held, name)
	}
	conn := p.conn
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(p.ending, patience)
	defer cancel()
	_, err := ipc.Do[kernelipc.None](ctx, conn, kernelipc.MethodForget, kernelipc.Forget{Names: []string{name}})
	if errors.Is(err, ipc.ErrLost) {
		return nil
	}
	return err
}

// names returns those of everything held, sorted.
func (p *Process) names() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Keys(p.held))
}

// fetch hands held descriptors to a new supervisor.
func (p *Process) fetch(_ context.Context, r kernelipc.Fetch, _ *ipc.Files) (kernelipc.Fetched, []*os.File, error) {
	if len(r.Names) > kernelipc.MaxFetch {
		return kernelipc.Fetched{}, nil, fmt.Errorf("%d names: at most %d", len(r.Names), kernelipc.MaxFetch)
	}
	var got kernelipc.Fetched
	var files []*os.File
	for _, name := range r.Names {
		f, err := p.Held(name)
		if err != nil {
			continue
		}
		got.Names, files = append(got.Names, name), append(files, f)
	}
	return got, files, nil
}
