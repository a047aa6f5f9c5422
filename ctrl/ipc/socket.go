package ipc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Pair returns two connected sockets, one for each side. They are closed on
// exec unless given to a child on purpose.
func Pair() (a, b *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a pair of sockets: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "ipc"), os.NewFile(uintptr(fds[1]), "ipc"), nil
}

// Open begins a connection on a connected socket, which is the connection's
// then, also when Open fails.
func Open(ctx context.Context, socket *os.File, o Options) (*Conn, error) {
	c, err := net.FileConn(socket)
	if closeErr := socket.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, fmt.Errorf("use descriptor as a socket: %w", err)
	}
	return OpenConn(ctx, c, o)
}

// OpenConn is Open for a connection of package net, which must be a unix stream
// socket.
func OpenConn(ctx context.Context, conn net.Conn, o Options) (*Conn, error) {
	sock, ok := conn.(*net.UnixConn)
	if !ok || sock.LocalAddr().Network() != "unix" {
		conn.Close()
		return nil, fmt.Errorf("%w: not a unix stream socket but %T", ErrProtocol, conn)
	}
	return open(ctx, sock, o)
}

// Dial connects to the socket at a path.
func Dial(ctx context.Context, path string, o Options) (*Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	return OpenConn(ctx, conn, o)
}

// Credentials are those of the process that connected or, for a pair, made it.
type Credentials struct{ PID, UID, GID int }

// Peer returns who is at the other end, as the kernel says (SO_PEERCRED).
func Peer(sock *net.UnixConn) (Credentials, error) {
	raw, err := sock.SyscallConn()
	if err != nil {
		return Credentials{}, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return Credentials{}, err
	}
	if credErr != nil {
		return Credentials{}, fmt.Errorf("ask for the peer's credentials: %w", credErr)
	}
	return Credentials{int(cred.Pid), int(cred.Uid), int(cred.Gid)}, nil
}

// receiver returns the reader's receive for a socket.
func receiver(sock *net.UnixConn) func(p []byte) (int, []*os.File, error) {
	oob := make([]byte, unix.CmsgSpace(4*253))
	return func(p []byte) (int, []*os.File, error) {
		// ReadMsgUnix asks for MSG_CMSG_CLOEXEC.
		n, oobn, flags, _, err := sock.ReadMsgUnix(p, oob)
		files, rightsErr := rights(oob[:oobn])
		switch {
		case errors.Is(err, io.EOF):
			err = io.EOF // bare, without what package net puts around it
		case err != nil:
		case rightsErr != nil:
			err = rightsErr
		case flags&unix.MSG_CTRUNC != 0:
			err = fmt.Errorf("%w: descriptors got lost: is the limit of open files (RLIMIT_NOFILE) reached?", ErrProtocol)
		case n == 0:
			err = io.EOF
		}
		return max(n, 0), files, err // -1 with some errors
	}
}

// rights returns the descriptors in control messages.
func rights(oob []byte) (files []*os.File, err error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("%w: control message: %w", ErrProtocol, err)
	}
	for i := range messages {
		if messages[i].Header.Level != unix.SOL_SOCKET || messages[i].Header.Type != unix.SCM_RIGHTS {
			continue
		}
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return files, fmt.Errorf("%w: control message: %w", ErrProtocol, err)
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

// send writes a frame in whole, its descriptors with the first byte.
func send(sock *net.UnixConn, data []byte, files []*os.File) error {
	if err := sock.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return err
	}
	var sent int
	if len(files) > 0 {
		fds, release, err := descriptors(files)
		if err != nil {
			return err
		}
		n, _, err := sock.WriteMsgUnix(data, unix.UnixRights(fds...), nil)
		release()
		if err != nil {
			return err
		}
		sent = n
	}
	for sent < len(data) { // a first write with descriptors may be short
		n, err := sock.Write(data[sent:])
		if err != nil {
			return err
		}
		sent += n
	}
	return nil
}

// descriptors returns the numbers of files, valid until release: duplicates, so
// that a file that is closed meanwhile does not put another one's number here.
func descriptors(files []*os.File) (fds []int, release func(), err error) {
	release = func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
	for _, f := range files {
		raw, err := f.SyscallConn()
		if err != nil {
			release()
			return nil, nil, &fileError{fmt.Errorf("send descriptor %s: %w", f.Name(), err)}
		}
		var fd int
		var dupErr error
		if raw.Control(func(n uintptr) { fd, dupErr = unix.FcntlInt(n, unix.F_DUPFD_CLOEXEC, 0) }) != nil {
			err = os.ErrClosed // Control has no other reason
		} else {
			err = dupErr
		}
		if err != nil {
			release()
			return nil, nil, &fileError{fmt.Errorf("send descriptor %s: %w", f.Name(), err)}
		}
		fds = append(fds, fd)
	}
	return fds, release, nil
}

// fileError says that a file to send cannot be: the frame was not begun, and
// the connection is as good as before.
type fileError struct{ error }

func (e *fileError) Unwrap() error { return e.error }
