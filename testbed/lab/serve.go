package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Run is a lab's life: it opens one, calls ready once packets flow and requests
// are answered, and takes it down when ctx ends.
func Run(ctx context.Context, opts Options, ready func(Status)) (err error) {
	opts = opts.withDefaults()
	if err := opts.Validate(); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return ErrNotRoot
	}
	listener, release, err := siteOf(opts.Dir, opts.Name).claim()
	if err != nil {
		return fmt.Errorf("lab %s: %w", opts.Name, err)
	}
	defer func() { err = errors.Join(err, release()) }()
	if opts.LogFile != "" {
		if err := os.Truncate(opts.LogFile, 0); err != nil {
			return fmt.Errorf("empty the log: %w", err)
		}
	}
	l, err := Open(opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	s := &server{lab: l, listener: listener}
	done := make(chan error, 1)
	go func() { done <- s.serve(ctx) }()
	ready(l.Status())
	select {
	case <-ctx.Done():
		return errors.Join(listener.Close(), <-done)
	case err := <-done: // it cannot be asked any more
		return err
	}
}

// server answers requests.
type server struct {
	lab      *Lab
	listener *net.UnixListener
}

// requestTimeout is how long a client may take to say what it wants, and to
// take the answer.
const requestTimeout = 10 * time.Second

// serve answers until the listener is closed, and waits for answers under way.
// Who has not said by the end of ctx what it wants is not answered.
func (s *server) serve(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		conn, err := s.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept requests: %w", err)
		}
		all.Go(func() {
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })()
			s.answer(conn)
		})
	}
}

// answer serves one connection. Whoever asked may be gone by then, which is no
// concern of the lab's.
func (s *server) answer(conn *net.UnixConn) {
	if err := conn.SetDeadline(time.Now().Add(requestTimeout)); err != nil {
		return
	}
	var req request
	var result any
	var file *os.File
	err := json.NewDecoder(io.LimitReader(conn, maxRequest)).Decode(&req)
	switch {
	case err != nil:
		err = fmt.Errorf("read request: %w", err)
	case req.Version != Version:
		err = fmt.Errorf("the lab speaks version %d of the requests, not %d: use the sfcctl that started it, or take it down and start it anew", Version, req.Version)
	default:
		result, file, err = s.handle(&req)
	}
	rep := reply{Version: Version}
	if err == nil {
		rep.Result, err = json.Marshal(result)
	}
	if err != nil {
		rep.Error = err.Error()
	}
	text, err := json.Marshal(rep)
	if err != nil {
		return
	}
	if file != nil {
		defer file.Close()
		_, _, _ = conn.WriteMsgUnix(text, unix.UnixRights(int(file.Fd())), nil)
		return
	}
	_, _ = conn.Write(text)
}

// handle does what is asked; file, if any, goes with the answer.
func (s *server) handle(req *request) (result any, file *os.File, err error) {
	l := s.lab
	switch req.Op {
	case opStats, opFlows, opMove, opSwap:
		if l.eng == nil {
			return nil, nil, ErrNoEngine
		}
	}
	switch req.Op {
	case opStatus:
		return l.Status(), nil, nil
	case opStats:
		stats, err := l.Stats()
		return stats, nil, err
	case opFlows:
		return serve(req, l.Flows)
	case opMove:
		return serve(req, l.Move)
	case opSwap:
		return serve(req, l.Swap)
	case opEnter:
		var args enterArgs
		if err := readArgs(req, &args); err != nil {
			return nil, nil, err
		}
		return l.enter(args.Host)
	}
	return nil, nil, fmt.Errorf("unknown request %q", req.Op)
}

// serve reads the arguments of a request and does it.
func serve[A, R any](req *request, do func(A) (R, error)) (any, *os.File, error) {
	var args A
	if err := readArgs(req, &args); err != nil {
		return nil, nil, err
	}
	result, err := do(args)
	return result, nil, err
}

func readArgs(req *request, to any) error {
	if err := json.Unmarshal(req.Args, to); err != nil {
		return fmt.Errorf("arguments of %s: %w", req.Op, err)
	}
	return nil
}

// enter returns a host's addresses, and a descriptor of its namespace.
func (l *Lab) enter(h Host) (any, *os.File, error) {
	ns, err := l.host(h)
	if err != nil {
		return nil, nil, err
	}
	var f *os.File
	err = ns.Do(func() (err error) {
		f, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	return l.hosts(), f, err
}
