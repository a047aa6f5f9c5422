package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sfc/ctrl/ipc"
	"sfc/ctrl/kernelipc"
)

// Keeper is the supervisor.
type Keeper struct {
	opts   Options
	kept   *Kept
	kernel Kernel // nil: none
	locks  []*os.File
	// listeners are control's sockets, from its descriptor 4 on.
	listeners []*os.File
	serial    int // of data planes; the data plane's minder alone uses it

	mu       sync.Mutex
	exe      *os.File // the binary of further children; nil: our own
	minders  []*minder
	live     map[string]*process // ready to be introduced, by role
	restarts int                 // of data planes that found what an earlier one left
	began    time.Time
}

// Open locks the directories, and then makes the sockets that control serves; nil
// is none. Run does the rest.
func Open(o Options, listen func() ([]*os.File, error)) (_ *Keeper, err error) {
	o = o.withDefaults()
	k := &Keeper{opts: o, kept: newKept(), live: map[string]*process{}, began: time.Now()}
	defer func() {
		if err != nil {
			k.close()
		}
	}()
	// Others may reach the API's socket in it; the data plane's is for its owner.
	lock, err := lockDir(o.RunDir, 0o755, nil)
	if err != nil {
		return nil, fmt.Errorf("run directory %s: %w", o.RunDir, err)
	}
	k.locks = append(k.locks, lock)
	if o.DataDir != "" {
		if lock, err = lockDir(o.DataDir, 0o700, o.Identity); err != nil {
			return nil, fmt.Errorf("data directory %s: %w", o.DataDir, err)
		}
		k.locks = append(k.locks, lock)
	}
	if err := raiseFiles(); err != nil {
		return nil, err
	}
	if listen != nil {
		if k.listeners, err = listen(); err != nil {
			return nil, err
		}
	}
	if o.Kernel != nil {
		k.kernel = o.Kernel(k.kept)
	}
	k.minders = []*minder{newMinder(k, kernelipc.RoleDataplane)}
	if o.Control {
		k.minders = append(k.minders, newMinder(k, kernelipc.RoleControl))
	}
	return k, nil
}

// raiseFiles lets the process have as many descriptors as it may: it keeps
// several for every chain and worker.
func raiseFiles() error {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("limit of descriptors: %w", err)
	}
	l.Cur = l.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("limit of descriptors: %w", err)
	}
	return nil
}

// Run runs the children until ctx ends; then all of them end in order, control
// first. A data plane that an earlier supervisor left is taken over.
func (k *Keeper) Run(ctx context.Context) error {
	adopted, err := k.find(ctx)
	if err != nil {
		return errors.Join(err, k.close())
	}
	k.minders[0].current = adopted
	var wg sync.WaitGroup
	dataplane, stop := context.WithCancel(context.Background())
	defer stop()
	wg.Go(func() { k.minders[0].run(dataplane) })
	var others sync.WaitGroup
	for _, m := range k.minders[1:] {
		others.Go(func() { m.run(ctx) })
	}
	<-ctx.Done()
	others.Wait()
	stop()
	wg.Wait()
	return k.close()
}

// close gives everything up.
func (k *Keeper) close() (err error) {
	if k.kernel != nil {
		err = k.kernel.Close()
	}
	k.kept.close()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.exe != nil {
		err = errors.Join(err, k.exe.Close())
		k.exe = nil
	}
	for _, l := range append(k.listeners, k.locks...) {
		err = errors.Join(err, l.Close())
	}
	k.listeners, k.locks = nil, nil
	return err
}

// find looks for a data plane in the run directory, and takes back what it
// holds. Of two, which a supervisor leaves that dies during a replacement, the
// one that works stays.
func (k *Keeper) find(ctx context.Context) (*process, error) {
	paths, err := filepath.Glob(filepath.Join(k.opts.RunDir, "dataplane-*.sock"))
	if err != nil {
		return nil, err
	}
	var found *process
	for _, path := range paths {
		hello, cancel := context.WithTimeout(ctx, k.opts.StopWait)
		p, err := k.adopt(hello, path)
		cancel()
		if err != nil {
			if !errors.Is(err, unix.ECONNREFUSED) { // refused: long dead
				k.opts.Log.Error("a data plane could not be taken over", "socket", path, "error", err)
			}
			os.Remove(path)
			continue
		}
		state, err := ipc.Do[kernelipc.Adopted](ctx, p.conn, kernelipc.MethodAdopt, kernelipc.None{})
		if err == nil && state.Started && found == nil {
			err = k.kept.takeBack(ctx, p.conn)
		}
		if err != nil || !state.Started || found != nil {
			k.opts.Log.Warn("a data plane that does not work is stopped", "pid", p.pid, "error", err)
			p.stop(k.opts.StopWait)
			continue
		}
		found = p
		k.mu.Lock()
		k.restarts, k.began = state.Start.Restarts, state.Start.Began
		k.mu.Unlock()
		if state.Ready {
			p.isReady()
		}
		k.opts.Log.Info("took over a running data plane", "pid", p.pid, "kept", k.kept.Len())
	}
	if found != nil && k.kernel != nil {
		if err := k.kernel.Recover(); err != nil {
			k.opts.Log.Error("the kernel's half could not be taken over: the data plane starts again", "error", err)
			found.stop(k.opts.StopWait)
			return nil, nil
		}
	}
	return found, nil
}

// ipcOptions are those of a child's connection.
func (k *Keeper) ipcOptions(p *process) ipc.Options {
	m := ipc.NewMux()
	type none = kernelipc.None
	ipc.Handle(m, kernelipc.MethodReady, func(context.Context, none, *ipc.Files) (none, []*os.File, error) {
		p.isReady()
		return none{}, nil, nil
	})
	ipc.Handle(m, kernelipc.MethodStatus, func(context.Context, none, *ipc.Files) (kernelipc.Status, []*os.File, error) {
		return k.Status(), nil, nil
	})
	if p.role == kernelipc.RoleDataplane {
		k.kept.serve(m)
		if k.kernel != nil {
			k.kernel.Serve(m)
		}
	}
	return ipc.Options{Name: "supervisor", Interfaces: map[string]int{kernelipc.Interface: kernelipc.Version}, Mux: m}
}

func (p *process) isReady() { p.said.Do(func() { close(p.ready) }) }

// exePath is the binary that children are started from. Without a replacement
// it is our own, even when another one has its name by now.
func (k *Keeper) exePath() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.exe == nil {
		return "/proc/self/exe"
	}
	return fmt.Sprintf("/proc/self/fd/%d", k.exe.Fd())
}

// Replace replaces the children by those of the binary at a path, the data
// plane without losing anything. When the new one does not start, the old one
// stays, and so does its binary.
func (k *Keeper) Replace(ctx context.Context, path string) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("replace children by %s: %w", path, err)
	}
	// Children get descriptors from 3 on, which must not cover this one.
	high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 1000)
	unix.Close(fd)
	if err != nil {
		return fmt.Errorf("replace children by %s: %w", path, err)
	}
	k.mu.Lock()
	before := k.exe
	k.exe = os.NewFile(uintptr(high), path)
	next := k.exe
	k.mu.Unlock()
	for i, m := range k.minders {
		if err := m.replaceBy(ctx); err != nil {
			if i == 0 { // none is new yet
				k.mu.Lock()
				k.exe = before
				k.mu.Unlock()
				next.Close()
				return err
			}
			k.opts.Log.Error("child not replaced", "role", m.role, "error", err)
		}
	}
	if before != nil {
		before.Close()
	}
	return nil
}

// Status returns how everything is.
func (k *Keeper) Status() kernelipc.Status {
	s := kernelipc.Status{PID: os.Getpid(), Kept: k.kept.Len()}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, m := range k.minders {
		c := m.status
		if c.State == stateReady && time.Since(c.Since) > k.opts.Backoff.Window {
			c.Alarm = false // it has lived long enough
		}
		s.Children = append(s.Children, c)
	}
	return s
}

// introduce connects control and data plane, whenever either is new.
func (k *Keeper) introduce(p *process) {
	k.mu.Lock()
	k.live[p.role] = p
	a, b := k.live[kernelipc.RoleDataplane], k.live[kernelipc.RoleControl]
	k.mu.Unlock()
	if a == nil || b == nil {
		return
	}
	x, y, err := ipc.Pair()
	if err != nil {
		k.opts.Log.Error("control and data plane stay apart", "error", err)
		return
	}
	defer x.Close()
	defer y.Close()
	ctx, cancel := context.WithTimeout(context.Background(), k.opts.StopWait)
	defer cancel()
	_, err = ipc.Do[kernelipc.None](ctx, a.conn, kernelipc.MethodPeer, kernelipc.Peer{Role: b.role}, x)
	if err == nil {
		_, err = ipc.Do[kernelipc.None](ctx, b.conn, kernelipc.MethodPeer, kernelipc.Peer{Role: a.role}, y)
	}
	if err != nil && !errors.Is(err, ipc.ErrLost) { // lost: one is dead, and its successor is introduced
		k.opts.Log.Error("control and data plane stay apart", "error", err)
	}
}

// leaves notes that p is to be introduced no more.
func (k *Keeper) leaves(p *process) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.live[p.role] == p {
		delete(k.live, p.role)
	}
}
