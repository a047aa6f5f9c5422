package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"sfc/ctrl/agent"
	"sfc/ctrl/child"
	"sfc/ctrl/confine"
	"sfc/ctrl/ipc"
	"sfc/ctrl/kernelipc"
	"sfc/ctrl/plane"
	"sfc/ctrl/planeipc"
	"sfc/dataplane/keep"
)

// dataplaneParts is what a data plane is made of.
type dataplaneParts struct {
	config  config
	process *child.Process // the supervisor
	store   keep.Store     // memory that outlives this process
	start   kernelipc.Start
}

// orphanTime is how long a data plane of --dev outlives its supervisor.
const orphanTime = time.Minute

// runDataplane is the data plane's process.
func runDataplane(ctx context.Context) error {
	c, err := inherited()
	if err != nil {
		return err
	}
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP) // the supervisor says when
	log := c.logger(kernelipc.RoleDataplane)
	peers := make(chan *os.File, 4)
	var running atomic.Pointer[agent.Dataplane] // once it does
	o := child.Options{
		Role: kernelipc.RoleDataplane, Interfaces: map[string]int{planeipc.Interface: plane.Version},
		Log: log, Peer: func(_ string, s *os.File) { peers <- s },
		Alive: func(ctx context.Context) error {
			if d := running.Load(); d != nil {
				return d.Alive(ctx)
			}
			return nil
		},
	}
	if c.Dev {
		o.Orphan = orphanTime
	}
	p, err := child.Open(ctx, o)
	if err != nil {
		return err
	}
	defer p.Close()
	if err := confine.Seal(confine.DataPlane(), confine.Limits{}); err != nil {
		return err
	}
	var start kernelipc.Start
	select {
	case start = <-p.Started():
	case <-p.Stopping():
		return nil
	}
	store, err := p.Recover(ctx)
	if err != nil {
		return err
	}
	d, err := startPlane(dataplaneParts{c, p, store, start})
	if err != nil {
		return err
	}
	running.Store(d)
	mux := ipc.NewMux()
	planeipc.Serve(mux, d)
	if err := p.Ready(ctx); err != nil {
		return err
	}
	for {
		select {
		case <-p.Stopping():
			return d.Close()
		case s := <-peers:
			go servePeer(ctx, s, ipc.Options{
				Name: kernelipc.RoleDataplane, Interfaces: map[string]int{planeipc.Interface: plane.Version}, Mux: mux,
			}, log)
		}
	}
}

// servePeer answers control until that ends.
func servePeer(ctx context.Context, s *os.File, o ipc.Options, log *slog.Logger) {
	conn, err := ipc.Open(ctx, s, o)
	if err != nil {
		log.Warn("control was not connected", "error", err)
		return
	}
	<-conn.Done()
	conn.Close()
}

// startPlane makes the data plane of what an earlier one left, if anything. Its
// Close leaves everything in what is kept.
func startPlane(parts dataplaneParts) (*agent.Dataplane, error) {
	return agent.OpenPlane(agent.PlaneOptions{
		Kernel: agent.RemoteKernel(parts.process, parts.store), Keep: parts.store,
		Workers: parts.config.Workers, Cores: parts.config.Cores,
		Restarts: parts.start.Restarts, Began: parts.start.Began, Because: parts.start.Because,
	})
}
