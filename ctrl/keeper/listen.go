package keeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"sfc/ctrl/confine"
)

// Listen makes the sockets that control serves. They are the supervisor's, so
// that a client who comes while control is started again waits and is not
// refused, and so that ports below 1024 need no privileges in control.
//
// Addresses are unix:///PATH or https://HOST:PORT. Sockets of the file system
// are for root and for owner's user and group; nil is this process's own.
func Listen(ctx context.Context, addresses []string, owner *confine.Identity) (_ []*os.File, err error) {
	var files []*os.File
	defer func() {
		if err != nil {
			for _, f := range files {
				f.Close()
			}
		}
	}()
	for _, address := range addresses {
		f, err := listen(ctx, address, owner)
		if err != nil {
			return nil, fmt.Errorf("listen on %s: %w", address, err)
		}
		files = append(files, f)
	}
	return files, nil
}

func listen(ctx context.Context, address string, owner *confine.Identity) (*os.File, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	switch {
	case u.Scheme == "unix" && u.Host == "" && filepath.IsAbs(u.Path):
		return listenUnix(u.Path, owner)
	case u.Scheme == "https" && u.Port() != "":
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", u.Host)
		if err != nil {
			return nil, err
		}
		defer l.Close()
		return l.(*net.TCPListener).File()
	}
	return nil, errors.New("want unix:///PATH or https://HOST:PORT")
}

func listenUnix(path string, owner *confine.Identity) (_ *os.File, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := removeDead(path); err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	// The mode is that of the socket before it is bound, less the umask (unix(7)):
	// so nobody is let in before the socket has its owner.
	if err := unix.Fchmod(fd, 0o600); err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return nil, err
	}
	if owner != nil && os.Geteuid() == 0 {
		if err := os.Lchown(path, owner.UID, owner.GID); err != nil {
			return nil, err
		}
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return nil, err
	}
	return f, unix.Listen(fd, 1024)
}

// removeDead removes a socket that nobody listens on.
func removeDead(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode()&os.ModeSocket == 0:
		return errors.New("a file is there that is no socket")
	}
	conn, err := net.Dial("unix", path)
	if err == nil {
		conn.Close()
		return unix.EADDRINUSE
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}
