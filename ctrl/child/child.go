// Package child is a process that has a supervisor (ctrl/keeper): the connection
// to it, what it is told by it, and what it keeps there.
//
//	p, err := child.Open(ctx, child.Options{Role: kernelipc.RoleDataplane})
//	...                     // set up, confine
//	start := <-p.Started()  // the one before is gone
//	store, err := p.Recover(ctx) // its memory
//	...                     // run
//	p.Ready(ctx)
//	<-p.Stopping()          // leave everything in what is kept, exit with 0
//
// A data plane goes on when its supervisor dies. The next one finds it and gets
// everything back that it kept.
package child

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sfc/ctrl/ipc"
	"sfc/ctrl/kernelipc"
	"sfc/dataplane/keep"
)

// ErrAlone says that there is no supervisor right now.
var ErrAlone = errors.New("no supervisor")

// patience is how long a call waits for the next supervisor.
const patience = 5 * time.Second

// Options describe a child.
type Options struct {
	// Role is one of kernelipc's.
	Role string
	// Interfaces are versions of further interfaces, see ipc.Options.
	Interfaces map[string]int
	// Peer receives sockets to other children, which are its own then. Nil: they
	// are refused.
	Peer func(role string, socket *os.File)
	// Alive returns when all has moved that must not stand still; an error is
	// that it never will again. It is asked once the process is ready. Nil: to
	// answer is enough.
	Alive func(context.Context) error
	// Orphan is how long a data plane goes on without a supervisor. 0: for ever.
	Orphan time.Duration
	// Log is where it says what happens. Nil: nowhere.
	Log *slog.Logger
}

// Process is this process as a child. Its methods may be called from any
// goroutine.
type Process struct {
	opts     Options
	mux      *ipc.Mux
	found    *net.UnixListener // nil but in the data plane
	started  chan kernelipc.Start
	stopping chan struct{}
	stop     sync.Once
	ending   context.Context
	end      context.CancelFunc
	wg       sync.WaitGroup

	mu      sync.Mutex
	conn    *ipc.Conn
	changed chan struct{} // closed when conn changes
	state   kernelipc.Adopted
	held    map[string]*os.File
	store   *keep.Files
}

// Open connects to the supervisor on the descriptors that a child begins with.
func Open(ctx context.Context, o Options) (*Process, error) {
	socket := os.NewFile(kernelipc.SocketFD, "supervisor")
	var found *os.File
	if o.Role == kernelipc.RoleDataplane {
		found = os.NewFile(kernelipc.FoundFD, "found")
	}
	p, err := open(ctx, o, socket, found)
	if err != nil {
		return nil, fmt.Errorf("connect to the supervisor: %w: %s is started by sfcd, not by hand", err, o.Role)
	}
	return p, nil
}

func open(ctx context.Context, o Options, socket, found *os.File) (*Process, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	p := &Process{
		opts: o, mux: ipc.NewMux(), held: map[string]*os.File{},
		started: make(chan kernelipc.Start, 1), stopping: make(chan struct{}), changed: make(chan struct{}),
	}
	p.ending, p.end = context.WithCancel(context.Background())
	p.serve()
	if found != nil {
		l, err := listen(found)
		if err != nil {
			socket.Close()
			return nil, err
		}
		p.found = l
	}
	conn, err := ipc.Open(ctx, socket, p.ipcOptions())
	if err != nil {
		if p.found != nil {
			p.found.Close()
		}
		return nil, err
	}
	p.attach(conn)
	if p.found != nil {
		p.wg.Go(p.await)
	}
	return p, nil
}

func (p *Process) ipcOptions() ipc.Options {
	versions := map[string]int{kernelipc.Interface: kernelipc.Version}
	for name, v := range p.opts.Interfaces {
		versions[name] = v
	}
	return ipc.Options{Name: p.opts.Role, Interfaces: versions, Mux: p.mux}
}

// listen listens on a bound socket.
func listen(found *os.File) (*net.UnixListener, error) {
	defer found.Close()
	if err := unix.Listen(int(found.Fd()), 4); err != nil {
		return nil, fmt.Errorf("listen for supervisors: %w", err)
	}
	l, err := net.FileListener(found)
	if err != nil {
		return nil, fmt.Errorf("listen for supervisors: %w", err)
	}
	u, ok := l.(*net.UnixListener)
	if !ok {
		l.Close()
		return nil, fmt.Errorf("descriptor %d is a %T", kernelipc.FoundFD, l)
	}
	u.SetUnlinkOnClose(false) // the path is the supervisor's
	return u, nil
}

// serve answers the supervisor.
func (p *Process) serve() {
	type none = kernelipc.None
	ipc.Handle(p.mux, kernelipc.MethodStart, func(_ context.Context, s kernelipc.Start, _ *ipc.Files) (none, []*os.File, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.state.Started {
			return none{}, nil, errors.New("started already")
		}
		p.state.Started, p.state.Start = true, s
		p.started <- s // has room: once
		return none{}, nil, nil
	})
	ipc.Handle(p.mux, kernelipc.MethodStop, func(context.Context, none, *ipc.Files) (none, []*os.File, error) {
		p.Stop()
		return none{}, nil, nil
	})
	ipc.Handle(p.mux, kernelipc.MethodPing, func(ctx context.Context, _ none, _ *ipc.Files) (none, []*os.File, error) {
		if p.opts.Alive == nil {
			return none{}, nil, nil
		}
		return none{}, nil, p.opts.Alive(ctx)
	})
	ipc.Handle(p.mux, kernelipc.MethodAdopt, func(context.Context, none, *ipc.Files) (kernelipc.Adopted, []*os.File, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.state, nil, nil
	})
	ipc.Handle(p.mux, kernelipc.MethodPeer, func(_ context.Context, r kernelipc.Peer, in *ipc.Files) (none, []*os.File, error) {
		socket := in.Take(0)
		if socket == nil || p.opts.Peer == nil {
			return none{}, nil, fmt.Errorf("%s takes no peer without a socket", p.opts.Role)
		}
		p.opts.Peer(r.Role, socket)
		return none{}, nil, nil
	})
	ipc.Handle(p.mux, kernelipc.MethodHeld, func(context.Context, none, *ipc.Files) (kernelipc.Held, []*os.File, error) {
		return kernelipc.Held{Names: p.names()}, nil, nil
	})
	ipc.Handle(p.mux, kernelipc.MethodFetch, p.fetch)
	ipc.Handle(p.mux, kernelipc.MethodHold, p.take)
}

// attach makes conn the one to the supervisor, and watches it.
func (p *Process) attach(conn *ipc.Conn) {
	p.mu.Lock()
	old := p.conn
	p.conn = conn
	close(p.changed)
	p.changed = make(chan struct{})
	p.mu.Unlock()
	if old != nil {
		old.Close()
	}
	p.wg.Go(func() {
		select {
		case <-conn.Done():
		case <-p.ending.Done():
			return
		}
		p.mu.Lock()
		current := p.conn == conn
		p.mu.Unlock()
		switch {
		case !current || p.ending.Err() != nil:
		case p.opts.Role == kernelipc.RoleDataplane:
			p.opts.Log.Warn("supervisor is gone, traffic goes on", "error", conn.Err())
			p.orphan(conn)
		default:
			p.opts.Log.Warn("supervisor is gone: ending", "error", conn.Err())
			p.Stop()
		}
	})
}

// orphan ends a data plane that nobody found for too long.
func (p *Process) orphan(lost *ipc.Conn) {
	if p.opts.Orphan == 0 {
		return
	}
	p.mu.Lock()
	changed := p.changed
	current := p.conn == lost
	p.mu.Unlock()
	if !current {
		return
	}
	select {
	case <-changed:
	case <-p.ending.Done():
	case <-time.After(p.opts.Orphan):
		p.opts.Log.Error("no supervisor came: ending", "after", p.opts.Orphan)
		p.Stop()
	}
}

// await takes in supervisors that come later.
func (p *Process) await() {
	for {
		sock, err := p.found.AcceptUnix()
		if err != nil {
			return // closed
		}
		if who, err := ipc.Peer(sock); err != nil || who.UID != 0 && who.UID != os.Getuid() {
			p.opts.Log.Warn("a stranger connected as supervisor", "uid", who.UID, "pid", who.PID, "error", err)
			sock.Close()
			continue
		}
		conn, err := ipc.OpenConn(p.ending, sock, p.ipcOptions())
		if err != nil {
			p.opts.Log.Warn("supervisor refused", "error", err)
			continue
		}
		p.opts.Log.Info("found by a new supervisor")
		p.attach(conn)
	}
}

// Started yields once, when the one before is gone and this one is to take over.
func (p *Process) Started() <-chan kernelipc.Start { return p.started }

// Stopping is closed when the process is to end: it was told so, or it cannot
// be without its supervisor, which is gone.
func (p *Process) Stopping() <-chan struct{} { return p.stopping }

// Stop makes Stopping so.
func (p *Process) Stop() { p.stop.Do(func() { close(p.stopping) }) }

// Ready tells the supervisor that this process does what it is for.
func (p *Process) Ready(ctx context.Context) error {
	p.mu.Lock()
	p.state.Ready = true
	p.mu.Unlock()
	conn, err := p.Supervisor(ctx)
	if err == nil {
		_, err = ipc.Do[kernelipc.None](ctx, conn, kernelipc.MethodReady, kernelipc.None{})
	}
	if errors.Is(err, ErrAlone) || errors.Is(err, ipc.ErrLost) {
		return nil // the next one asks
	}
	return err
}

// Supervisor returns the connection to the supervisor, and waits a while for
// the next one when that is gone.
func (p *Process) Supervisor(ctx context.Context) (*ipc.Conn, error) {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		p.mu.Lock()
		conn, changed := p.conn, p.changed
		p.mu.Unlock()
		if conn.Err() == nil {
			return conn, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrAlone, ctx.Err())
		case <-p.ending.Done():
			return nil, fmt.Errorf("%w: the process ends", ErrAlone)
		case <-limit.C:
			return nil, fmt.Errorf("%w: %w", ErrAlone, conn.Err())
		}
	}
}

// Call calls a method of the supervisor whose answer has no descriptors.
func Call[Resp any](ctx context.Context, p *Process, method string, req any) (resp Resp, err error) {
	conn, err := p.Supervisor(ctx)
	if err != nil {
		return resp, err
	}
	return ipc.Do[Resp](ctx, conn, method, req)
}

// Close ends the connection and gives up what this process holds. What the
// supervisor keeps stays there.
func (p *Process) Close() error {
	p.end()
	if p.found != nil {
		p.found.Close()
	}
	p.mu.Lock()
	conn := p.conn
	p.mu.Unlock()
	conn.Close()
	p.wg.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	var err error
	if p.store != nil {
		err = p.store.Close()
	}
	for name, f := range p.held {
		err = errors.Join(err, f.Close())
		delete(p.held, name)
	}
	return err
}
