package ipc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Options describe this side of a connection.
type Options struct {
	// Name is this process's role, for the other side's messages.
	Name string
	// Interfaces are the versions of what this side calls or answers, by name.
	Interfaces map[string]int
	// Mux answers the other side's calls. Nil: none is answered.
	Mux *Mux
}

// Conn is a connection. Its methods and [Call] may be used from any goroutine.
type Conn struct {
	sock *net.UnixConn
	mux  *Mux
	name string // of the other side
	turn chan struct{}
	// notes are small frames that nobody waits for: cancellations, refusals.
	notes chan *frame
	done  chan struct{}
	wg    sync.WaitGroup

	mu      sync.Mutex
	err     error // why it ended; nil while it runs
	next    uint64
	calls   map[uint64]chan *reply
	running map[uint64]context.CancelFunc // the other side's calls
}

// reply is an answer to one of our calls.
type reply struct {
	body  []byte
	err   *Error
	files *Files
}

// open exchanges hellos and starts reading.
func open(ctx context.Context, sock *net.UnixConn, o Options) (_ *Conn, err error) {
	r := &reader{receive: receiver(sock)}
	defer func() {
		if err != nil {
			r.close()
			sock.Close()
		}
	}()
	ours := &hello{Version: version, Name: o.Name, Interfaces: o.Interfaces}
	theirs, err := greet(ctx, sock, r, ours)
	if err != nil {
		return nil, err
	}
	c := &Conn{
		sock: sock, mux: o.Mux, name: theirs.Name,
		turn: make(chan struct{}, 1), notes: make(chan *frame, 4*MaxCalls), done: make(chan struct{}),
		calls: map[uint64]chan *reply{}, running: map[uint64]context.CancelFunc{},
	}
	c.wg.Add(2)
	go c.read(r)
	go c.write()
	return c, nil
}

// greet says hello and hears the other side's.
func greet(ctx context.Context, sock *net.UnixConn, r *reader, ours *hello) (*hello, error) {
	deadline := time.Now().Add(helloTime)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := sock.SetReadDeadline(deadline); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { sock.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	f, err := ours.frame()
	if err != nil {
		return nil, err
	}
	data, err := encode(f, 0)
	if err != nil {
		return nil, err
	}
	if err := send(sock, data, nil); err != nil {
		return nil, fmt.Errorf("say hello: %w", err)
	}
	answer, files, err := r.next()
	if err != nil {
		switch {
		case ctx.Err() != nil:
			err = ctx.Err()
		case errors.Is(err, os.ErrDeadlineExceeded):
			err = context.DeadlineExceeded
		}
		return nil, fmt.Errorf("wait for the other side's hello: %w", err)
	}
	files.Close()
	theirs, err := parseHello(answer)
	if err != nil {
		return nil, err
	}
	if err := ours.agree(theirs); err != nil {
		return nil, err
	}
	if !stop() {
		return nil, ctx.Err()
	}
	return theirs, sock.SetReadDeadline(time.Time{})
}

// Name returns what the other side calls itself.
func (c *Conn) Name() string { return c.name }

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err returns why the connection ended, nil while it has not.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection: calls that wait end with ErrLost, contexts of
// handlers end, and Close waits for these handlers; so they do not call it.
func (c *Conn) Close() {
	c.fail(ErrClosed)
	c.wg.Wait()
}

// fail ends the connection for a reason, the first time.
func (c *Conn) fail(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	if why == io.EOF {
		why = errors.New("the other side closed it or died")
	}
	c.err = fmt.Errorf("%w: %s: %w", ErrLost, c.name, why)
	for _, cancel := range c.running {
		cancel()
	}
	c.sock.Close()
	close(c.done)
}

// read takes frames off the socket until it ends.
func (c *Conn) read(r *reader) {
	defer c.wg.Done()
	defer r.close()
	for {
		f, files, err := r.next()
		if err == nil {
			err = c.take(f, files)
		}
		if err != nil {
			c.fail(err)
			return
		}
	}
}

// take deals with a frame. Files are closed unless they go on to a call.
func (c *Conn) take(f *frame, files *Files) error {
	body, err := bodyOf(f, files)
	if err != nil {
		files.Close()
		return err
	}
	switch f.Kind {
	case kindCall:
		return c.begin(f, body, files)
	case kindReply:
		c.deliver(f.ID, &reply{body: body, err: f.Error, files: files})
		return nil
	case kindCancel:
		files.Close()
		c.mu.Lock()
		defer c.mu.Unlock()
		if cancel := c.running[f.ID]; cancel != nil {
			cancel()
		}
		return nil
	}
	files.Close()
	return fmt.Errorf("%w: a frame of kind %.20q", ErrProtocol, f.Kind)
}

// bodyOf returns the body of a frame, and takes the memfd that it came in.
func bodyOf(f *frame, files *Files) ([]byte, error) {
	if !f.Far {
		if files.Len() > MaxFiles {
			return nil, fmt.Errorf("%w: %d descriptors: at most %d", ErrProtocol, files.Len(), MaxFiles)
		}
		return f.Body, nil
	}
	memfd := files.Take(0)
	if memfd == nil {
		return nil, fmt.Errorf("%w: a far body without its descriptor", ErrProtocol)
	}
	defer memfd.Close()
	files.list = files.list[1:]
	return ReadMemfd(memfd, MaxBody)
}

// begin starts the handler of a call.
func (c *Conn) begin(f *frame, body []byte, in *Files) error {
	h := c.mux.find(f.Method)
	refuse := func(code, format string, args ...any) error {
		in.Close()
		return c.note(&frame{Kind: kindReply, ID: f.ID, Error: &Error{code, fmt.Sprintf(format, args...)}})
	}
	if h == nil {
		return refuse(CodeNoMethod, "no method %.64q", f.Method)
	}
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), callerKey{}, c))
	c.mu.Lock()
	_, twice := c.running[f.ID]
	busy := len(c.running) >= MaxCalls
	ended := c.err != nil
	if !twice && !busy && !ended {
		c.running[f.ID] = cancel
		c.wg.Add(1)
	}
	c.mu.Unlock()
	switch {
	case ended:
		cancel()
		in.Close()
		return nil
	case twice:
		cancel()
		in.Close()
		return fmt.Errorf("%w: two calls with number %d", ErrProtocol, f.ID)
	case busy:
		cancel()
		return refuse(CodeBusy, "%d calls are under way: call again later", MaxCalls)
	}
	go func() {
		defer c.wg.Done()
		defer in.Close()
		answer, out, err := h(ctx, body, in)
		c.answer(f.ID, answer, out, err)
		c.mu.Lock()
		delete(c.running, f.ID)
		c.mu.Unlock()
		cancel()
	}()
	return nil
}

// callerKey is that of the connection in a handler's context.
type callerKey struct{}

// Caller returns the connection whose call a handler answers, by the handler's
// context.
func Caller(ctx context.Context) *Conn {
	c, _ := ctx.Value(callerKey{}).(*Conn)
	return c
}

// note queues a frame that nobody waits for. The other side that makes us write
// more of them than it reads loses the connection.
func (c *Conn) note(f *frame) error {
	select {
	case c.notes <- f:
		return nil
	default:
		return fmt.Errorf("%w: answers are not read", ErrProtocol)
	}
}

// write sends notes until the connection ends.
func (c *Conn) write() {
	defer c.wg.Done()
	for {
		select {
		case f := <-c.notes:
			// An error has ended the connection.
			_ = c.send(context.Background(), f, nil)
		case <-c.done:
			return
		}
	}
}

// send writes a frame when it is its turn. Files stay the caller's.
func (c *Conn) send(ctx context.Context, f *frame, files []*os.File) error {
	data, err := encode(f, len(files))
	if err != nil {
		return err
	}
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-c.done:
		return c.Err()
	}
	defer func() { <-c.turn }()
	if err := send(c.sock, data, files); err != nil {
		var f *fileError
		if !errors.As(err, &f) {
			c.fail(err)
			return c.Err()
		}
		return err
	}
	return nil
}
