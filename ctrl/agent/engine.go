// Package agent makes a data plane of chains: it is the one place that knows
// functions, packets, sockets and the kernel's programs together.
//
//	specs --Open--> plan, modules, frame region          (nothing of the network yet)
//	      --Connect--> steering programs, functions,     (or memory: ConnectMemory)
//	                   flow tables, AF_XDP sockets
//	      --Start--> one pinned worker per core          (or Run, on the caller's goroutine)
//
// Per worker there is one wasm.Group and one flow table per chain, shared by
// the chain's paths, and one socket per port. What is common to all workers:
// the modules' code, the frame region, the steering with its tables of owners
// and pins, and what functions have claimed.
//
// Close gives everything back, in reverse order.
package agent

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"sfc/bpf"
	"sfc/chains"
	"sfc/dataplane"
	"sfc/dataplane/arena"
	"sfc/dataplane/classify"
	"sfc/dataplane/packet"
	"sfc/dataplane/route"
	"sfc/dataplane/steer"
	"sfc/dataplane/xsk"
	"sfc/nf"
	"sfc/nf/wasm"
)

// regionChunks is the number of chunks of the frame region of one worker on two
// queues: enough for their fill rings and a burst in hand.
const regionChunks = 4096

// sizes returns how many chunks the frame region has, and the options of its
// sockets. With several workers one that stalls with all its rings full, and
// all that it may keep, does not starve the others.
func sizes(opts Options) (chunks int, _ xsk.Options, err error) {
	queues := len(opts.Ports) * opts.Queues
	if opts.Workers == 1 && queues <= 2 {
		return regionChunks, xsk.Options{}, nil
	}
	return xsk.Sizing{Queues: queues, Workers: opts.Workers, Held: dataplane.MaxKept(opts.Workers), MaxBytes: nf.FramesMax}.Size()
}

// Engine is a data plane. Its methods are called by one goroutine at a time,
// unless they say otherwise.
type Engine struct {
	opts    Options
	plan    *chains.Plan
	table   *classify.Table
	key     [2]uint64 // of the flow hash
	rt      *wasm.Runtime
	modules map[string]*wasm.Module
	region  *arena.Region
	sockets xsk.Options   // of all sockets
	depot   *packet.Depot // free chunks of region
	shared  bool
	workers []*worker

	// Of Connect.
	steer          *bpf.Steering
	umem           *xsk.UMEM
	stack          *dataplane.Tap
	mode           Mode
	tables         sync.RWMutex  // held while somebody looks at owners, until Disconnect
	owners         *steer.Owners // nil before Connect and after Disconnect
	pins           *steer.Pins   // nil when no chain needs any
	grants         []grant       // by chain
	set            *dataplane.Set
	routed         uint64       // ports
	routes         *route.Table // nil when no port is routed
	began, stopped bool
	final          []ChainStats // what Stats says after Disconnect
	swaps          swaps

	opened, connected undoStack
}

// TryOut makes a data plane with these ports of the chains and gives it back:
// what Open would refuse, this does too, configurations that only the functions
// themselves can judge included.
func TryOut(specs []chains.Spec, ports []string) error {
	e, err := Open(Options{Specs: specs, Ports: ports})
	if err != nil {
		return err
	}
	return errors.Join(e.populate(nil, nil), e.Close())
}

// Open loads, checks and compiles everything the chains name. It needs no
// privilege.
func Open(opts Options) (_ *Engine, err error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	e := &Engine{opts: opts, swaps: swaps{gone: make(chan struct{})}}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close())
		}
	}()
	mods, err := chains.LoadModules(opts.Specs, opts.Limits)
	if err != nil {
		return nil, err
	}
	if e.plan, err = chains.Compile(opts.Specs, opts.Ports, mods); err != nil {
		return nil, err
	}
	if e.table, err = classify.Compile(e.plan.Rules); err != nil {
		return nil, err
	}
	var secret [16]byte
	rand.Read(secret[:])
	e.key = [2]uint64{binary.LittleEndian.Uint64(secret[:]), binary.LittleEndian.Uint64(secret[8:])}

	if e.rt, err = wasm.Open(wasm.Options{Limits: opts.Limits}); err != nil {
		return nil, err
	}
	e.opened.push(e.rt.Close)
	chunks, sockets, err := sizes(opts)
	if err != nil {
		return nil, err
	}
	e.sockets = sockets
	if e.region, err = arena.Open("frames", chunks*packet.ChunkSize, arena.Options{Huge: true}); err != nil {
		return nil, err
	}
	e.opened.push(e.region.Close)
	e.depot = packet.NewDepot(len(e.region.Bytes()))
	if err := e.compile(mods); err != nil {
		return nil, err
	}
	e.shared = sharedPorts(e.plan)
	return e, nil
}

// compile makes code of the modules, once for all workers.
func (e *Engine) compile(mods chains.ModuleSet) error {
	e.modules = make(map[string]*wasm.Module, len(mods))
	for name, m := range mods {
		c, err := e.rt.Compile(m.Wasm)
		if err != nil {
			return fmt.Errorf("module %s: %w", name, err)
		}
		e.opened.push(func() error { c.Close(); return nil })
		e.modules[name] = c
	}
	return nil
}

// sharedPorts reports whether packets must be copied into arenas: all ports
// have one UMEM, so one tenant must have all of them to itself.
func sharedPorts(p *chains.Plan) bool {
	for i := range p.Chains {
		if p.Chains[i].Tenant != p.Chains[0].Tenant {
			return true
		}
	}
	for _, port := range p.Ports {
		if port.Memory == chains.MemoryShared {
			return true
		}
	}
	return false
}

// Close stops the workers and gives everything back. It may be called again.
func (e *Engine) Close() error {
	return errors.Join(e.Disconnect(), e.opened.run())
}

// Plan returns what the chains come to. Not to be changed.
func (e *Engine) Plan() *chains.Plan { return e.plan }

// Table returns the classifier of all ports.
func (e *Engine) Table() *classify.Table { return e.table }

// HashKey returns the secret of the flow hash.
func (e *Engine) HashKey() [2]uint64 { return e.key }

// undoStack holds what gives resources back, in order of acquisition.
type undoStack []func() error

func (u *undoStack) push(f func() error) { *u = append(*u, f) }

// run gives everything back in reverse order.
func (u *undoStack) run() error {
	var errs []error
	for i := len(*u) - 1; i >= 0; i-- {
		errs = append(errs, (*u)[i]())
	}
	*u = nil
	return errors.Join(errs...)
}
