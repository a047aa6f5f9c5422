package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

// maxHeader is the largest header of a request, in bytes. The server's own
// allowance of 4 KiB comes on top.
const maxHeader = 28 << 10

// ListenUnix listens on a unix socket that only its owner and group may connect
// to; gid -1 leaves the group as it is. A socket that a process left behind is
// replaced, one that somebody listens on is not.
func ListenUnix(path string, gid int) (net.Listener, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	case info.Mode()&os.ModeSocket == 0:
		return nil, fmt.Errorf("listen on %s: it is there and no socket: name another path", path)
	default:
		if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
			return nil, errors.Join(fmt.Errorf("listen on %s: another process does: stop it or name another path", path), c.Close())
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("listen on %s: remove the socket left behind: %w", path, err)
		}
	}
	// It is made where nobody but this user can reach it, then moved.
	dir, err := os.MkdirTemp(dirOf(path), ".sock-")
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	defer os.RemoveAll(dir)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dir + "/s", Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false)
	err = os.Chmod(dir+"/s", 0o660)
	if err == nil && gid >= 0 {
		err = os.Chown(dir+"/s", -1, gid)
	}
	if err == nil {
		err = os.Rename(dir+"/s", path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", path, err), l.Close())
	}
	return l, nil
}

// dirOf is the directory of a path, so that a relative one stays relative: the
// names of sockets have 107 bytes at most.
func dirOf(path string) string {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' {
			return path[:i+1]
		}
	}
	return "."
}

// ListenTLS listens on a TCP address for clients with tokens. config has the
// certificate.
func ListenTLS(address string, config *tls.Config) (net.Listener, error) {
	if config == nil || len(config.Certificates) == 0 && config.GetCertificate == nil {
		return nil, fmt.Errorf("listen on %s: a certificate is required: tokens must not be read on the way", address)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return TLS(l, config), nil
}

// TLS makes a TCP socket that somebody else opened one of ListenTLS. config has
// the certificate.
func TLS(l net.Listener, config *tls.Config) net.Listener {
	config = config.Clone()
	config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	config.NextProtos = []string{"h2", "http/1.1"}
	return &tlsListener{Listener: l, config: config}
}

// tlsListener marks a listener whose connections are to be encrypted. They are
// by the HTTP server, which bounds the time of the handshake.
type tlsListener struct {
	net.Listener
	config *tls.Config
}

// Serve answers what comes in by a listener of ListenUnix or ListenTLS until
// Close. The listener is closed then.
func (s *Server) Serve(l net.Listener) error {
	h := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: s.limits.Header,
		IdleTimeout:       s.limits.Idle,
		MaxHeaderBytes:    maxHeader,
		ConnContext:       s.withPeer,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 64},
	}
	s.mu.Lock()
	s.serving = append(s.serving, h)
	ended := s.ending.Err() != nil
	s.mu.Unlock()
	if ended {
		return errors.Join(http.ErrServerClosed, l.Close())
	}
	limited := &limitListener{Listener: l, most: int64(s.limits.Connections)}
	var err error
	if t, ok := l.(*tlsListener); ok {
		h.TLSConfig = t.config
		err = h.ServeTLS(limited, "", "")
	} else {
		err = h.Serve(limited)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve on %s: %w", l.Addr(), err)
}

// limitListener closes connections beyond its limit at once: a client that is
// told so is better off than one that waits.
type limitListener struct {
	net.Listener
	most int64
	open atomic.Int64
}

// Accept implements net.Listener.
func (l *limitListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= l.most {
			if u, ok := c.(*net.UnixConn); ok {
				return &unixConn{UnixConn: u, l: l}, nil
			}
			return &limitedConn{Conn: c, l: l}, nil
		}
		l.open.Add(-1)
		_ = c.Close()
	}
}

// limitedConn gives its place back once.
type limitedConn struct {
	net.Conn
	l      *limitListener
	closed atomic.Bool
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	if !c.closed.Swap(true) {
		c.l.open.Add(-1)
	}
	return c.Conn.Close()
}

// unixConn is a limitedConn whose peer can be asked for.
type unixConn struct {
	*net.UnixConn
	l      *limitListener
	closed atomic.Bool
}

// Close implements net.Conn.
func (c *unixConn) Close() error {
	if !c.closed.Swap(true) {
		c.l.open.Add(-1)
	}
	return c.UnixConn.Close()
}
