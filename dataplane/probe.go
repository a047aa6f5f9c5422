package dataplane

import (
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"sync"

	"golang.org/x/net/bpf"

	"sfc/chains"
	"sfc/dataplane/packet"
)

// ProbeOptions say which packets of a chain to see, and where.
type ProbeOptions struct {
	// Points are where, bit i for Point i. Default: AtIngress.
	Points uint8
	// Hops are the functions at AtHop, bit h for the one with index h in the
	// chain. Default: all.
	Hops uint32
	// Sides says which bytes are wanted at AtHop: packet.TraceBefore, TraceAfter
	// or both. Default: both.
	Sides uint16
	// Filter chooses frames; nil: all. Workers call it, several at a time: it
	// must not allocate, block or keep the frame. See [Filter].
	Filter func(frame []byte) bool
	// Follow says that a packet is chosen when it comes in, and then seen at
	// all points. Else each point chooses by the bytes that it sees, except
	// AtHop, where packets are always chosen when they come in.
	Follow bool
	// Snap is how many bytes of each frame are copied, at most
	// packet.ChunkSize. Default 256.
	Snap int
	// Slots is how many records wait for the reader, per worker; a power of
	// two. Default 1024.
	Slots int
}

func (o ProbeOptions) withDefaults() ProbeOptions {
	if o.Points == 0 {
		o.Points = 1 << AtIngress
	}
	if o.Hops == 0 {
		o.Hops = 1<<maxTraced - 1
	}
	if o.Sides == 0 {
		o.Sides = packet.TraceBefore | packet.TraceAfter
	}
	if o.Snap == 0 {
		o.Snap = 256
	}
	if o.Slots == 0 {
		o.Slots = 1024
	}
	return o
}

// maxTraced is how many functions a chain may have (nf/wasm).
const maxTraced = 16

func (o *ProbeOptions) validate() error {
	switch {
	case o.Points>>numPoints != 0:
		return fmt.Errorf("points %#x: there are %d", o.Points, numPoints)
	case o.Snap < 1 || o.Snap > packet.ChunkSize:
		return fmt.Errorf("snap of %d bytes: want 1 to %d", o.Snap, packet.ChunkSize)
	case o.Slots < 1 || o.Slots > 1<<16 || bits.OnesCount(uint(o.Slots)) != 1:
		return fmt.Errorf("%d slots: want a power of two up to %d", o.Slots, 1<<16)
	}
	return nil
}

// Filter makes a filter of a classic BPF program, as tcpdump -ddd prints it for
// Ethernet frames.
func Filter(program []bpf.RawInstruction) (func(frame []byte) bool, error) {
	list, ok := bpf.Disassemble(program)
	if !ok {
		return nil, errors.New("filter: an instruction is unknown")
	}
	vm, err := bpf.NewVM(list)
	if err != nil {
		return nil, fmt.Errorf("filter: %w", err)
	}
	return func(frame []byte) bool {
		n, err := vm.Run(frame)
		return err == nil && n > 0
	}, nil
}

// maxProbes is how many probes a chain can have at a time.
const maxProbes = 8

// Errors of [Set.Probe].
var (
	// ErrProbes means that the chain has as many probes as it can have.
	ErrProbes = errors.New("too many probes on this chain")
	// ErrUntraceable means that the chain's runner does not show its functions.
	ErrUntraceable = errors.New("the chain's functions cannot be followed")
)

// Probe copies packets of a chain as they pass a point. Workers never wait for
// it: what its reader does not take in time is lost, and counted. One goroutine
// at a time reads it.
type Probe struct {
	set     *Set
	chain   uint16
	parts   []*probe // by worker
	closing sync.Once
	err     error
}

// probe is a Probe's part on a worker.
type probe struct {
	ProbeOptions
	records
	chosen uint64 // packets of the burst that are followed
}

func (p *probe) at(pt Point) bool { return p.Points>>pt&1 != 0 }

// Probe begins to copy packets of a chain, on all workers.
func (s *Set) Probe(chain uint16, o ProbeOptions) (*Probe, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("probe chain %d: %w", chain, err)
	}
	p := &Probe{set: s, chain: chain}
	for range s.workers {
		part := &probe{ProbeOptions: o}
		part.setUp(o.Slots, o.Snap)
		p.parts = append(p.parts, part)
	}
	hops := o.Points>>AtHop&1 != 0
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopped:
		return nil, fmt.Errorf("probe chain %d: %w", chain, ErrStopped)
	case !s.has(chain):
		return nil, fmt.Errorf("probe chain %d: %w", chain, ErrAbsent)
	}
	traces := make([]*packet.HopTrace, len(s.workers))
	if hops {
		if _, ok := s.workers[0].chains[chain].runner.(chains.HopTracer); !ok {
			return nil, fmt.Errorf("probe chain %d: %w", chain, ErrUntraceable)
		}
		for i := range traces {
			traces[i] = new(packet.HopTrace)
		}
	}
	full := make([]error, len(s.workers)) // all or none of them
	err := s.each(func(w *Worker) {
		i, c := w.cfg.Index, w.chains[chain]
		if len(c.probes) == maxProbes {
			full[i] = ErrProbes
			return
		}
		c.attach(p.parts[i], traces[i])
	})
	if err = cmp.Or(err, full[0]); err != nil {
		return nil, fmt.Errorf("probe chain %d: %w", chain, err)
	}
	return p, nil
}

// attach adds a probe, with memory to follow packets with when it needs any.
func (c *chain) attach(p *probe, trace *packet.HopTrace) {
	c.probes = append(c.probes, p)
	if trace != nil && c.trace == nil {
		c.trace = trace
		c.runner.(chains.HopTracer).SetHopTrace(trace)
	}
	c.tracing()
}

// tracing tells the functions what is wanted of them.
func (c *chain) tracing() {
	if c.trace == nil {
		return
	}
	t := c.trace
	t.Want, t.Hops, t.Snap, t.Sides = 0, 0, 0, 0
	for _, p := range c.probes {
		if p.at(AtHop) {
			t.Hops |= p.Hops
			t.Snap = max(t.Snap, uint16(p.Snap))
			t.Sides |= p.Sides
		}
	}
	if t.Hops == 0 {
		c.runner.(chains.HopTracer).SetHopTrace(nil)
		c.trace = nil
	}
}

// detach removes a probe, if it is there.
func (c *chain) detach(p *probe) {
	for i := range c.probes {
		if c.probes[i] == p {
			c.probes = append(c.probes[:i:i], c.probes[i+1:]...)
			c.tracing()
			return
		}
	}
}

// Read calls visit with every record that waits, those of a worker in order, and
// returns how many there were.
func (p *Probe) Read(visit func(*Record)) (n int) {
	for _, part := range p.parts {
		n += part.visit(visit)
	}
	return n
}

// Counts returns how many times packets were chosen, and how many of these
// found no room for a record.
func (p *Probe) Counts() (seen, lost uint64) {
	for _, part := range p.parts {
		seen += part.seen.Load()
		lost += part.lost.Load()
	}
	return seen, lost
}

// Close ends it. What was copied can still be read. It may be called again, and
// after the chain has gone.
func (p *Probe) Close() error {
	p.closing.Do(func() {
		p.set.mu.Lock()
		defer p.set.mu.Unlock()
		p.err = p.set.each(func(w *Worker) {
			if c := w.chains[p.chain]; c != nil {
				c.detach(p.parts[w.cfg.Index])
			}
		})
		if errors.Is(p.err, ErrStopped) {
			p.err = nil // nothing is copied any more
		}
	})
	return p.err
}
