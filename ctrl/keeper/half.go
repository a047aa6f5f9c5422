package keeper

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path"
	"sync"
	"syscall"
	"time"

	"sfc/bpf"
	"sfc/ctrl/ipc"
	"sfc/ctrl/kernelipc"
	"sfc/dataplane"
	"sfc/dataplane/classify"
	"sfc/dataplane/route"
	"sfc/dataplane/xsk"
)

// ErrNotOpen says that the data plane has not opened the kernel's half.
var ErrNotOpen = errors.New("the kernel's half is not open: call " + kernelipc.MethodOpen + " first")

// Half is the [Kernel] of the real one: package bpf's steering, sockets of
// package dataplane/xsk, and a TAP device. Everything lies in the network
// namespace of the process.
type Half struct {
	kept       *Kept
	log        *slog.Logger
	interfaces []string // patterns of those that ports may be on; none: all

	mu       sync.Mutex
	steer    *bpf.Steering // nil: not open
	opened   kernelipc.Open
	region   uint64 // inode of the memfd that frames are in
	key      [2]uint64
	ports    map[int]*halfPort
	rules    kernelipc.Update // in force, or to be when a data plane is there
	attended bool
	stack    *kernelipc.Stacked
	answers  *route.Proxies // nil: nothing was asked for yet
	exported exported

	// unbound leaves binding to the data plane: see xsk.Grant. The first socket
	// shows whether the kernel demands it.
	unbound bool
}

// halfPort is a port that is attached.
type halfPort struct {
	Asked   kernelipc.AddPort
	Port    kernelipc.Port
	Answers []netip.Prefix `json:",omitzero"` // that it is answered for

	handles []*xsk.Handle
	nic     *xsk.NIC
}

// NewHalf returns the kernel's half, which keeps its descriptors in kept. Ports
// may be on interfaces whose name matches one of the patterns (path.Match) only,
// whatever the data plane asks for; without patterns on any.
func NewHalf(kept *Kept, log *slog.Logger, interfaces ...string) *Half {
	return &Half{kept: kept, log: log, ports: map[int]*halfPort{}, attended: true, interfaces: interfaces}
}

// ErrForbidden says that a port may not be on an interface.
var ErrForbidden = errors.New("interface is not for ports")

// allowed says whether ports may be on an interface.
func (h *Half) allowed(name string) error {
	for _, pattern := range h.interfaces {
		if ok, err := path.Match(pattern, name); err == nil && ok {
			return nil
		}
	}
	if len(h.interfaces) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s matches none of %q: the daemon's configuration says which do (interfaces)", ErrForbidden, name, h.interfaces)
}

// Serve implements [Kernel].
func (h *Half) Serve(m *ipc.Mux) {
	handle(h, m, kernelipc.MethodOpen, h.open)
	handle(h, m, kernelipc.MethodAddPort, h.addPort)
	handle(h, m, kernelipc.MethodRemovePort, h.removePort)
	handle(h, m, kernelipc.MethodUpdate, h.update)
	handle(h, m, kernelipc.MethodStack, h.openStack)
	handle(h, m, kernelipc.MethodAnswer, h.answer)
	ipc.Handle(m, kernelipc.MethodNeighbours, h.neighbours)
	ipc.Handle(m, kernelipc.MethodGrace, func(context.Context, kernelipc.None, *ipc.Files) (kernelipc.None, []*os.File, error) {
		h.mu.Lock()
		steer := h.steer
		h.mu.Unlock()
		if steer == nil {
			return kernelipc.None{}, nil, ErrNotOpen
		}
		return kernelipc.None{}, nil, steer.Grace()
	})
}

// handle makes fn answer a method, one at a time, and has the caller hold what
// came of it.
func handle[Req, Resp any](h *Half, m *ipc.Mux, method string, fn func(Req) (Resp, error)) {
	ipc.Handle(m, method, func(ctx context.Context, r Req, _ *ipc.Files) (resp Resp, _ []*os.File, err error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.steer == nil && method != kernelipc.MethodOpen {
			return resp, nil, ErrNotOpen
		}
		if resp, err = fn(r); err != nil {
			return resp, nil, err
		}
		return resp, nil, h.export(ctx, ipc.Caller(ctx))
	})
}

// open finds the half as it is, or makes it.
func (h *Half) open(o kernelipc.Open) (r kernelipc.Opened, err error) {
	if o.Workers < 1 || o.Workers > kernelipc.MaxWorkers || o.Chains < 1 || o.Chains > bpf.MaxChains {
		return r, fmt.Errorf("%d workers and %d chains: want 1 to %d and 1 to %d", o.Workers, o.Chains, kernelipc.MaxWorkers, bpf.MaxChains)
	}
	region, err := h.inode(o.Region)
	if err != nil {
		return r, err
	}
	r.Found = h.steer != nil && h.opened == o && h.region == region
	if !r.Found {
		if err := h.takeDown(); err != nil {
			h.log.Warn("what an earlier data plane left is not all down", "error", err)
		}
		var secret [16]byte
		rand.Read(secret[:])
		h.key = [2]uint64{binary.LittleEndian.Uint64(secret[:]), binary.LittleEndian.Uint64(secret[8:])}
		h.steer, err = bpf.Load(bpf.Config{Dynamic: true, MaxChains: o.Chains, HashKey: h.key, Workers: o.Workers, PinBytes: o.PinBytes})
		if err != nil {
			return r, err
		}
		h.opened, h.region = o, region
	}
	// Sockets that a data plane has bound are of no use to another one then.
	if r.Renewed = h.unbound && len(h.ports) > 0; r.Renewed {
		h.renew()
	}
	d, files, err := h.steer.ExportView()
	if err != nil {
		return r, err
	}
	closeFiles(files)
	r.HashKey, r.CPUs = h.key, d.CPUs
	r.Owners, r.Pins, r.Grace, r.GraceInner = viewName("owners"), viewName("pins"), viewName("grace"), viewName("grace_inner")
	r.OwnersBytes, r.PinsBytes = len(h.steer.OwnerMemory()), d.PinBytes
	for _, p := range h.sorted() {
		r.Ports = append(r.Ports, p.Port)
	}
	return r, nil
}

// inode says which memory is kept under a name.
func (h *Half) inode(name string) (uint64, error) {
	f, err := h.kept.Get(name)
	if err != nil {
		return 0, fmt.Errorf("region of frames: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("region of frames: %w", err)
	}
	return info.Sys().(*syscall.Stat_t).Ino, nil
}

// update puts rules into force. They are written down before that: a supervisor
// that takes over in between has the new ones, whose paths the data plane has
// already, and not those of paths that it may be about to remove.
func (h *Half) update(u kernelipc.Update) (kernelipc.None, error) {
	before := h.rules
	h.rules = u
	if err := h.saveRules(); err != nil {
		h.rules = before
		return kernelipc.None{}, err
	}
	if err := h.enforce(); err != nil {
		h.rules = before
		return kernelipc.None{}, errors.Join(err, h.saveRules())
	}
	return kernelipc.None{}, nil
}

// enforce brings the rules into force, or none while nobody takes packets.
func (h *Half) enforce() error {
	if !h.attended {
		return h.steer.Update(bpf.Rules{})
	}
	var table *classify.Table
	if len(h.rules.Rules) > 0 {
		var err error
		if table, err = classify.Compile(h.rules.Rules); err != nil {
			return err
		}
	}
	return h.steer.Update(bpf.Rules{Table: table, PathChain: h.rules.PathChain, Pins: h.rules.Pins})
}

// Attend implements [Kernel].
func (h *Half) Attend(by *ipc.Conn) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	was := h.attended
	h.attended = by != nil
	if h.steer == nil {
		return nil
	}
	if was != h.attended {
		if err := h.enforce(); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), attendWait)
	defer cancel()
	return h.export(ctx, by)
}

// attendWait is how long a data plane may take to hold what it is given: one that
// hangs must not keep its minder from ending it.
const attendWait = 10 * time.Second

// openStack makes the device to the kernel's stack, or finds it.
func (h *Half) openStack(r kernelipc.Stack) (kernelipc.Stacked, error) {
	if h.stack != nil {
		return *h.stack, nil
	}
	// A TAP device that is there may be somebody else's, and be taken over by its
	// name alone.
	if _, err := net.InterfaceByName(r.Name); err == nil {
		return kernelipc.Stacked{}, fmt.Errorf("device %q to the kernel's stack: there is an interface of that name", r.Name)
	}
	tap, err := dataplane.OpenTap(r.Name, nil)
	if err != nil {
		return kernelipc.Stacked{}, err
	}
	defer tap.Close()
	fd, mac, err := tap.Export()
	if err != nil {
		return kernelipc.Stacked{}, err
	}
	s := kernelipc.Stacked{File: KernelPrefix + "stack", MAC: mac}
	if err := h.kept.Put(s.File, os.NewFile(uintptr(fd), r.Name)); err != nil {
		return kernelipc.Stacked{}, err
	}
	h.stack = &s
	return s, nil
}

// takeDown gives everything up.
func (h *Half) takeDown() (err error) {
	for _, p := range h.sorted() {
		err = errors.Join(err, h.closePort(p))
	}
	if h.steer != nil {
		err = errors.Join(err, h.steer.Close())
	}
	if h.answers != nil {
		h.answers.Close()
	}
	h.steer, h.stack, h.answers, h.rules = nil, nil, nil, kernelipc.Update{}
	h.exported.generation = 0 // the names go on: what has none any more is dropped
	h.kept.forgetPrefix(KernelPrefix)
	return err
}

// Close implements [Kernel].
func (h *Half) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.takeDown()
}
