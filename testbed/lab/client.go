package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Client asks a lab. It connects for every request.
type Client struct {
	name string
	site site
}

// Dial returns a client of a lab that runs. An empty dir or name selects the
// default.
func Dial(dir, name string) (*Client, error) {
	o := Options{Dir: dir, Name: name}.withDefaults()
	if err := CheckName(o.Name); err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return nil, ErrNotRoot
	}
	return &Client{name: o.Name, site: siteOf(o.Dir, o.Name)}, nil
}

// connect opens a connection. When nobody listens it says why.
func (c *Client) connect() (*net.UnixConn, error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: c.site.socket, Net: "unix"})
	switch {
	case err == nil:
		return conn, nil
	case errors.Is(err, unix.ECONNREFUSED):
		return nil, fmt.Errorf("lab %s: %w: its process was killed; start it anew", c.name, ErrNoLab)
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("lab %s: %w; start one with: sfcctl testbed up", c.name, ErrNoLab)
	}
	return nil, fmt.Errorf("lab %s: %w", c.name, err)
}

// call asks for op and reads the result into out. A descriptor that comes with
// it is returned; the caller closes it.
func (c *Client) call(ctx context.Context, op string, args, out any) (_ *os.File, err error) {
	conn, err := c.connect()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	// Whatever hangs, ends with ctx.
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	req := request{Version: Version, Op: op}
	if args != nil {
		if req.Args, err = json.Marshal(args); err != nil {
			return nil, err
		}
	}
	var text []byte
	var file *os.File
	if err = json.NewEncoder(conn).Encode(req); err == nil {
		text, file, err = receive(conn)
	}
	switch {
	case errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.EPIPE), err == nil && len(text) == 0:
		err = fmt.Errorf("%w: its process has ended", ErrNoLab)
	case err == nil:
		err = decode(text, out)
	}
	if err != nil {
		if file != nil {
			file.Close()
		}
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("lab %s: %w", c.name, err)
	}
	return file, nil
}

// receive reads a reply, and the descriptor that may come with its first byte.
func receive(conn *net.UnixConn) (text []byte, file *os.File, err error) {
	buf, oob := make([]byte, 64<<10), make([]byte, unix.CmsgSpace(4))
	var whole bytes.Buffer
	for whole.Len() < maxReply {
		n, oobn, _, _, err := conn.ReadMsgUnix(buf, oob)
		if oobn > 0 && file == nil {
			file = descriptor(oob[:oobn])
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, file, fmt.Errorf("read reply: %w", err)
		}
		whole.Write(buf[:n])
	}
	return whole.Bytes(), file, nil
}

// descriptor takes a file out of a control message.
func descriptor(oob []byte) *os.File {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for _, m := range messages {
		if fds, err := unix.ParseUnixRights(&m); err == nil && len(fds) == 1 {
			return os.NewFile(uintptr(fds[0]), "network namespace")
		}
	}
	return nil
}

func decode(text []byte, out any) error {
	var rep reply
	if err := json.Unmarshal(text, &rep); err != nil {
		return fmt.Errorf("bad reply: %w", err)
	}
	if rep.Error != "" {
		return errors.New(rep.Error)
	}
	return json.Unmarshal(rep.Result, out)
}

// Status asks what the lab is.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	_, err = c.call(ctx, opStatus, nil, &s)
	return s, err
}

// Stats asks for the counters.
func (c *Client) Stats(ctx context.Context) (s *Stats, err error) {
	_, err = c.call(ctx, opStats, nil, &s)
	return s, err
}

// downTimeout is how long a lab may take to end.
const downTimeout = 15 * time.Second

// Down ends the lab's process and returns when all it had is gone. dead says
// that the process had died before and only its socket was left.
func (c *Client) Down(ctx context.Context) (dead bool, err error) {
	conn, err := c.connect()
	if errors.Is(err, ErrNoLab) {
		if on, lockErr := c.site.held(); lockErr != nil || on {
			return false, errors.Join(err, lockErr)
		}
		if dead, clearErr := c.site.clear(); dead || clearErr != nil {
			return dead, clearErr
		}
	}
	if err != nil {
		return false, err
	}
	defer conn.Close()
	pid, err := listenerPID(conn)
	if err != nil {
		return false, fmt.Errorf("lab %s: %w", c.name, err)
	}
	// The connection is open, so the process was there a moment ago; from here
	// on the descriptor names it and no other.
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false, fmt.Errorf("lab %s: process %d: %w", c.name, pid, err)
	}
	defer unix.Close(fd)
	conn.Close() // it would wait for a request
	if err := unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return false, fmt.Errorf("lab %s: end process %d: %w", c.name, pid, err)
	}
	return false, c.waitEnd(ctx, fd, pid)
}

// waitEnd waits for the process behind a pidfd.
func (c *Client) waitEnd(ctx context.Context, fd, pid int) error {
	for end := time.Now().Add(downTimeout); ctx.Err() == nil; {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 100)
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("lab %s: wait for process %d: %w", c.name, pid, err)
		case n > 0:
			return nil
		case time.Now().After(end):
			return fmt.Errorf("lab %s: process %d does not end within %v: end it with kill -9 %d", c.name, pid, downTimeout, pid)
		}
	}
	return ctx.Err()
}

// listenerPID returns the process that listens at the other end.
func listenerPID(conn *net.UnixConn) (pid int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, credErr); err != nil {
		return 0, fmt.Errorf("ask who listens: %w", err)
	}
	return int(cred.Pid), nil
}
