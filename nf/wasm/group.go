package wasm

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sfc/dataplane/arena"
	"sfc/dataplane/packet"
	"sfc/nf"
)

// maxHops is how many functions a path may have (SFC_MAX_HOPS).
const maxHops = 16

// Memory is the arena of one path on one worker. The caller owns both regions
// and closes them after the Group.
type Memory struct {
	// Control holds the control page and the descriptors: nf.ControlSize
	// bytes, private to the path.
	Control *arena.Region
	// Frames is the frame region: the UMEM itself when only one tenant uses
	// the port, else a region of the path's own. At most nf.FramesMax bytes.
	Frames *arena.Region
}

// NewControl makes the control region of a path.
func NewControl() (*arena.Region, error) {
	return arena.Open("control", nf.ControlSize, arena.Options{})
}

// Descs returns the path's descriptors, for the worker to fill.
func (m Memory) Descs() *[packet.BurstSize]packet.Desc {
	return packet.DescsAt(m.Control.Bytes()[nf.DescStart-nf.WindowStart:])
}

// Hop is one function of a path.
type Hop struct {
	// Name is the function's name in its chain.
	Name   string
	Module *Module
	// Config is the JSON given to sfc_configure; it has been checked against
	// the manifest's schema.
	Config []byte
	// Open is the fault policy: when the function faults, the packets it held
	// go on as they were (true) or are dropped (false).
	Open bool
}

// GroupOptions configure a [Group]. The zero value selects the defaults.
type GroupOptions struct {
	// Tenant owns the functions; those of one tenant share scrap memory
	// and limits: see SetTenant.
	Tenant string
	// Path and Worker are told to the functions through the control page.
	Path, Worker uint32
	// Ports is the number of ports, at most 64. Default 1.
	Ports int
	// Egress is the set of ports that the functions may send on, bit i for
	// port i: those their tenant has a say in. Default: all ports.
	Egress uint64
	// Flows is the number of slots that functions with flow state have; slot
	// numbers are below. Default 0: a function with flow state is refused.
	Flows int
	// Slots says where their memory lies. Default: this process's own.
	Slots Slots
	// Budget is the CPU time one function may take for one burst. Default
	// 1 ms.
	Budget time.Duration
	// ConfigureBudget is the same for sfc_configure and start functions.
	// Default 1 s.
	ConfigureBudget time.Duration
	// Spares is the number of warm instances kept per function. Default 1.
	Spares int
	// TimeEvery takes the time of one burst in so many; a power of two.
	// Default 16; 1 times every burst.
	TimeEvery int
	// Grants are what functions may give their flows. Default: nothing, and
	// a function with nf.CapabilityBind is refused.
	Grants Grants
	// Records receives what functions export with sfc.emit, from a goroutine of
	// the group's own; those of different groups run side by side. It must not
	// block for long, or records are lost. Default: nobody does, and sfc.emit
	// does nothing.
	Records func(Record)
	// Events receives log lines, faults and alarms, from a goroutine of the
	// group's own, from one that prepares a replacement, or from NewGroup when
	// that fails; never from two at a time. It must not call Prepare,
	// Reconfigure, Discard or Close. Default: they are dropped.
	Events func(Event)
}

func (o GroupOptions) withDefaults() GroupOptions {
	if o.Ports == 0 {
		o.Ports = 1
	}
	if o.Egress == 0 {
		o.Egress = 1<<o.Ports - 1
	}
	if o.Budget == 0 {
		o.Budget = time.Millisecond
	}
	if o.ConfigureBudget == 0 {
		o.ConfigureBudget = time.Second
	}
	if o.Spares == 0 {
		o.Spares = 1
	}
	if o.TimeEvery == 0 {
		o.TimeEvery = 16
	}
	o.Slots = o.Slots.withDefaults()
	if o.Events == nil {
		o.Events = func(Event) {}
	}
	return o
}

// Group is the functions of one chain on one worker. They run in one crossing
// from Go to C per burst. It implements chains.Runner for a path through all of
// them; [Group.Runner] gives those of other paths.
//
// Process, Tick, FlowEnd, FlowBytes, TakeFlow, ClearFlow, GiveFlow and ReasonName belong to
// the worker, and so does Replacement.Install. Prepare and Reconfigure belong to
// any other goroutine; Stats may be called by anyone; Close is called when the
// worker has stopped.
type Group struct {
	c      chain
	all    order // every function, as given
	hops   []*hop
	opts   GroupOptions
	rt     *Runtime
	mem    Memory
	tenant *tenant
	// binder is what functions give their flows with; nil: nothing.
	binder *binder

	trace     *packet.HopTrace // nil: nobody follows packets; the worker's
	suspended uint32           // hops without an instance; the worker's
	trials    uint32           // hops whose version is on probation; the worker's
	flowBytes atomic.Int64

	janitor janitor
	records *exporter
	closing sync.Once

	preparing sync.Mutex // held while a replacement is made or discarded
	closed    bool       // preparing guards it
	telling   sync.Mutex // held while events are passed on

	// mu guards the lists of versions and replacements, and keeps what Stats
	// reads alive.
	mu           sync.Mutex
	replacements []*Replacement // those that are not settled
}

// NewGroup instantiates and configures every function of a path, with its
// spares. Errors name the function and say what it did.
func (rt *Runtime) NewGroup(mem Memory, hops []Hop, opts GroupOptions) (_ *Group, err error) {
	opts = opts.withDefaults()
	if err := checkGroup(mem, hops, opts); err != nil {
		return nil, err
	}
	owner, err := rt.enter(opts.Tenant)
	if err != nil {
		return nil, err
	}
	writeControl(mem.Control.Bytes(), nf.ControlPage{
		ABI: nf.ABIVersion, Burst: packet.BurstSize, Path: opts.Path, Worker: opts.Worker,
		Ports: uint32(opts.Ports), ChunkLen: packet.ChunkSize,
	})
	g := &Group{
		c:    newChain(mem.Control.Bytes(), mem.Frames.Bytes(), opts.Egress, len(hops), uint64(opts.TimeEvery)),
		all:  everyHop(len(hops)),
		opts: opts, rt: rt, mem: mem, tenant: owner,
		records: newExporter(opts.Records),
	}
	defer func() {
		if err != nil {
			// With log lines, which may say why.
			err = errors.Join(err, g.freeAll())
		}
	}()
	g.openBinder()
	for i, spec := range hops {
		h := &hop{name: spec.Name, index: i, runLog: newLogRing(owner.log, g.c)}
		g.hops = append(g.hops, h)
		g.c.setBudget(rt.eng, i, opts.Budget)
		v, err := g.newVersion(h, spec, nil, false)
		if err != nil {
			return nil, err
		}
		if err := g.fill(v); err != nil {
			return nil, err
		}
		v.current.Store(<-v.spares)
		h.cur.Store(v)
		g.c.setVersion(i, v, nil)
	}
	if err := g.keptState(); err != nil {
		return nil, fmt.Errorf("flow state of before: %w", err)
	}
	g.countFlowBytes()
	g.janitor.start(g)
	rt.attend(g)
	g.records.start()
	return g, nil
}

func checkGroup(mem Memory, hops []Hop, opts GroupOptions) error {
	if err := checkHops(hops, opts); err != nil {
		return err
	}
	for i, h := range hops {
		if opts.Slots.keeps() && slices.ContainsFunc(hops[:i], func(o Hop) bool { return o.Name == h.Name }) {
			return fmt.Errorf("two functions have the name %s: what they keep of flows needs two names", h.Name)
		}
	}
	switch n := len(mem.Frames.Bytes()); {
	case len(hops) > maxHops:
		return fmt.Errorf("path %d has %d functions, at most %d fit: split the chain", opts.Path, len(hops), maxHops)
	case len(mem.Control.Bytes()) != nf.ControlSize:
		return fmt.Errorf("control region has %d bytes, want %d", len(mem.Control.Bytes()), nf.ControlSize)
	case n > nf.FramesMax || n%packet.ChunkSize != 0:
		return fmt.Errorf("frame region of %d bytes: at most %d, in chunks of %d", n, nf.FramesMax, packet.ChunkSize)
	case opts.Spares < 0:
		return fmt.Errorf("%d spares: 0 selects the default", opts.Spares)
	case opts.Ports < 0 || opts.Ports > 64:
		return fmt.Errorf("%d ports: 1 to 64 can be named", opts.Ports)
	case bits.OnesCount(uint(opts.TimeEvery)) != 1:
		return fmt.Errorf("TimeEvery %d is not a power of two", opts.TimeEvery)
	}
	return nil
}

// checkHops checks what functions ask for, whether they are new or replace
// others.
func checkHops(hops []Hop, opts GroupOptions) error {
	for _, h := range hops {
		if n := len(h.Config); n > nf.ConfigMax {
			return fmt.Errorf("function %s: config of %d bytes, at most %d fit", h.Name, n, nf.ConfigMax)
		}
	}
	return checkBinds(hops, opts.Grants)
}

// install makes inst the instance of hop i.
func (g *Group) install(i int, inst *instance) {
	g.hops[i].cur.Load().current.Store(inst)
	g.c.setInstance(i, inst)
}

// Process takes a burst through all functions in the order they were given;
// see chains.Runner.
func (g *Group) Process(b *packet.Burst) { g.process(b, &g.all) }

func (g *Group) process(b *packet.Burst, o *order) {
	if g.suspended|g.trials != 0 {
		g.attend(burstShare)
	}
	var faulted uint32
	if g.trace == nil {
		faulted = g.c.process(b, o)
	} else {
		faulted = g.c.processTraced(b, o, g.trace)
	}
	if faulted != 0 {
		g.replace(faulted)
	}
}

// SetHopTrace has packets followed through the functions, whatever their path;
// see chains.HopTracer.
func (g *Group) SetHopTrace(t *packet.HopTrace) { g.trace = t }

// Tick calls sfc_tick of the functions that have one.
func (g *Group) Tick(nowNs uint64) {
	if g.suspended|g.trials != 0 {
		g.attend(tickShare)
	}
	if faulted := g.c.tick(nowNs); faulted != 0 {
		g.replace(faulted)
	}
}

// Close stops the group's goroutine and frees every instance. It may be called
// again.
func (g *Group) Close() (err error) {
	g.closing.Do(func() {
		g.preparing.Lock()
		defer g.preparing.Unlock()
		g.closed = true
		g.rt.neglect(g)
		g.janitor.stop()
		g.records.stop()
		err = g.freeAll()
	})
	return err
}

// freeAll frees every version of every function, whatever it waits for.
func (g *Group) freeAll() error {
	g.mu.Lock()
	hops, replacements := g.hops, g.replacements
	g.hops, g.replacements = nil, nil
	g.mu.Unlock()
	for _, r := range replacements {
		r.phase.CompareAndSwap(int32(Prepared), int32(Discarded))
		r.releaseMigration()
		if r.canary != nil {
			r.canary.close()
		}
	}
	for _, h := range hops {
		g.emit(lines(h.name, h.runLog)...)
		for len(h.versions) > 0 {
			g.free(h.versions[0])
		}
		h.runLog.close()
	}
	g.records.close()
	g.c.close()
	g.closeBinder()
	return g.rt.leave(g.tenant)
}
