package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"sfc/ctrl/child"
	"sfc/ctrl/confine"
	"sfc/ctrl/ipc"
	"sfc/ctrl/kernelipc"
	"sfc/ctrl/plane"
	"sfc/ctrl/planeipc"
)

// controlParts is what control is made of.
type controlParts struct {
	config    config
	process   *child.Process // the supervisor
	plane     *planeipc.Client
	listeners []listener
	log       *slog.Logger
}

// listener is a socket of the API and its address in the configuration.
type listener struct {
	address string
	net.Listener
}

// firstListener is the descriptor of the first of them.
const firstListener = kernelipc.SocketFD + 1

// runControl is the control process.
func runControl(ctx context.Context) error {
	c, err := inherited()
	if err != nil {
		return err
	}
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP) // the supervisor says when
	log := c.logger(kernelipc.RoleControl)
	parts := controlParts{config: c, plane: planeipc.NewClient(), log: log}
	if parts.listeners, err = listeners(c.Listen); err != nil {
		return err
	}
	versions := map[string]int{planeipc.Interface: plane.Version}
	peers := make(chan *os.File, 4)
	p, err := child.Open(ctx, child.Options{
		Role: kernelipc.RoleControl, Interfaces: versions, Log: log, Peer: func(_ string, s *os.File) { peers <- s },
		Alive: func(ctx context.Context) error { return serves(ctx, c.Listen) },
	})
	if err != nil {
		return err
	}
	defer p.Close()
	parts.process = p
	if err := confine.Seal(confine.Control(), confine.Limits{}); err != nil {
		return err
	}
	// The one before may have the store until then.
	select {
	case <-p.Started():
	case <-p.Stopping():
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go connect(ctx, parts.plane, peers, ipc.Options{Name: kernelipc.RoleControl, Interfaces: versions}, log)
	done := make(chan error, 1)
	go func() { done <- serveControl(ctx, parts, func() error { return p.Ready(ctx) }) }()
	select {
	case err := <-done:
		return err // not asked to: the supervisor starts it again
	case <-p.Stopping():
		cancel()
		return <-done
	}
}

// connect attaches each new data plane.
func connect(ctx context.Context, to *planeipc.Client, peers <-chan *os.File, o ipc.Options, log *slog.Logger) {
	var last *ipc.Conn
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-peers:
			conn, err := ipc.Open(ctx, s, o)
			if err != nil {
				log.Warn("data plane was not connected", "error", err)
				continue
			}
			to.Attach(conn)
			if last != nil {
				last.Close()
			}
			last = conn
		}
	}
}

// listeners takes over the sockets that the supervisor made.
func listeners(addresses []string) (list []listener, err error) {
	for i, address := range addresses {
		f := os.NewFile(uintptr(firstListener+i), address)
		l, err := net.FileListener(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("socket of %s: %w: control is started by sfcd, not by hand", address, err)
		}
		if u, ok := l.(*net.UnixListener); ok && strings.HasPrefix(address, "unix:") {
			u.SetUnlinkOnClose(false) // it is the supervisor's
		}
		list = append(list, listener{address, l})
	}
	return list, nil
}
