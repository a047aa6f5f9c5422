package replay

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"sfc/chains"
	"sfc/dataplane"
	"sfc/dataplane/arena"
	"sfc/dataplane/classify"
	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
	"sfc/nf"
	"sfc/nf/wasm"
)

// regionChunks is the number of chunks of the frame region: enough for the
// fill rings of both ports and a burst in hand.
const regionChunks = 4096

// engine is everything between the ports: modules, arenas and functions.
type engine struct {
	plan   *chains.Plan
	table  *classify.Table
	key    [2]uint64 // of the flow hash
	rt     *wasm.Runtime
	region *arena.Region
	pool   *packet.Pool
	groups []*wasm.Group // by path
	paths  []dataplane.Path
	tuples *flow.Reader
	shared bool

	undo []func() error // in order of acquisition
}

// TryOut makes a data plane with these ports of the chains and gives it back:
// what a replay would refuse, this does too, configurations that only the
// functions themselves can judge included.
func TryOut(specs []chains.Spec, ports []string) error {
	e, err := newEngine(Options{Specs: specs}.withDefaults(), ports)
	if err != nil {
		return err
	}
	return e.close()
}

// newEngine loads, checks and compiles everything the chains name, and warms
// their functions up.
func newEngine(opts Options, ports []string) (_ *engine, err error) {
	e := &engine{}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.close())
		}
	}()
	specs := slices.Clone(opts.Specs)
	for _, file := range opts.Chains {
		spec, err := chains.Load(file)
		if err != nil {
			return nil, err
		}
		specs = append(specs, spec)
	}
	if err := checkOutputs(opts, modules(specs)); err != nil {
		return nil, err
	}
	mods, err := chains.LoadModules(specs, opts.Limits)
	if err != nil {
		return nil, err
	}
	if e.plan, err = chains.Compile(specs, ports, mods); err != nil {
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
	e.push(e.rt.Close)
	if e.region, err = arena.Open("frames", regionChunks*packet.ChunkSize, arena.Options{Huge: true}); err != nil {
		return nil, err
	}
	e.push(e.region.Close)
	e.pool = packet.NewPool(len(e.region.Bytes()))
	compiled := make(map[string]*wasm.Module, len(mods))
	for name, m := range mods {
		c, err := e.rt.Compile(m.Wasm)
		if err != nil {
			return nil, fmt.Errorf("module %s: %w", name, err)
		}
		e.push(func() error { c.Close(); return nil })
		compiled[name] = c
	}
	if e.tuples, err = flow.NewReader(flow.ReaderOptions{Key: e.key}); err != nil {
		return nil, err
	}
	e.shared = sharedPorts(e.plan)
	for i := range e.plan.Paths {
		if err := e.addPath(&e.plan.Paths[i], compiled, opts); err != nil {
			return nil, err
		}
	}
	return e, nil
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

func (e *engine) addPath(path *chains.Path, compiled map[string]*wasm.Module, opts Options) error {
	p := &e.plan.Chains[path.Chain]
	control, err := wasm.NewControl()
	if err != nil {
		return err
	}
	e.push(control.Close)
	mem := wasm.Memory{Control: control, Frames: e.region}
	var own []byte
	if e.shared {
		if mem.Frames, err = arena.Open("frames", packet.BurstSize*packet.ChunkSize, arena.Options{}); err != nil {
			return err
		}
		e.push(mem.Frames.Close)
		own = mem.Frames.Bytes()
	}
	hops := make([]wasm.Hop, len(p.Functions))
	for i, f := range p.Functions {
		hops[i] = wasm.Hop{Name: f.Name, Module: compiled[f.Module], Config: f.Config, Open: f.Fault == chains.FaultOpen}
	}
	var flows *flow.Table
	if p.Flows > 0 {
		if flows, err = flow.New(flow.Options{Key: e.key, Max: uint32(p.Flows), Sparse: true}); err != nil {
			return fmt.Errorf("chain %s: %w", p.Title(), err)
		}
		e.push(flows.Close)
	}
	g, err := e.rt.NewGroup(mem, hops, wasm.GroupOptions{
		Tenant: p.Tenant, Path: uint32(path.Index), Ports: len(e.plan.Ports), Egress: p.Ports, Flows: p.Flows, Budget: p.Budget,
		TimeEvery: opts.timeEvery, Events: opts.Events,
	})
	if err != nil {
		return fmt.Errorf("chain %s: %w", p.Title(), err)
	}
	e.push(g.Close)
	e.groups = append(e.groups, g)
	e.paths = append(e.paths, dataplane.Path{Runner: g, Descs: mem.Descs(), Arena: own, Egress: uint16(path.Egress), Flows: flows})
	return nil
}

// workerConfig is what live and offline runs have in common.
func (e *engine) workerConfig(t *tracker, opts Options) dataplane.Config {
	return dataplane.Config{
		Core: -1, Region: e.region.Bytes(), Pool: e.pool, Paths: e.paths, GuestBase: nf.FramesStart,
		Tuples: e.tuples, Observer: t, PacketTime: opts.Clock == ClockCapture,
	}
}

// reasonName tells why a packet was dropped. With several chains the chain's
// name goes in front, unless the drop was the engine's own.
func (e *engine) reasonName(path uint16, o packet.Outcome) string {
	name := e.groups[path].ReasonName(o)
	if len(e.groups) > 1 && o.Hop != packet.HopEngine {
		return e.plan.Chains[e.plan.Paths[path].Chain].Name + "." + name
	}
	return name
}

func (e *engine) push(f func() error) { e.undo = append(e.undo, f) }

// close gives everything back in reverse order.
func (e *engine) close() error {
	var errs []error
	for i := len(e.undo) - 1; i >= 0; i-- {
		errs = append(errs, e.undo[i]())
	}
	e.undo = nil
	return errors.Join(errs...)
}

// describe writes what the engine knows into the report.
func (e *engine) describe(rep *Report) {
	rep.Mode.Memory = chains.MemoryExclusive.String()
	if e.shared {
		rep.Mode.Memory = chains.MemoryShared.String()
	}
	rep.Mode.HugePages = e.region.Huge()
	for i := range e.plan.Paths {
		p := &e.plan.Chains[e.plan.Paths[i].Chain]
		rep.Chains = append(rep.Chains, ChainReport{Name: p.Name, Tenant: p.Tenant, Flows: flowReport(e.paths[i].Flows)})
		for _, s := range e.groups[i].Stats() {
			f := FunctionData{
				Chain: p.Name, Name: s.Name, Packets: s.Packets, Counters: s.Counters, Skipped: s.Skipped,
				NsPerPacket: float64(int(s.NsPerPacket*10)) / 10, Faults: s.Traps + s.Overruns,
				State: s.State.String(), LastFault: s.LastFault,
				Verdicts: map[string]uint64{}, Dropped: map[string]uint64{},
			}
			for v, n := range s.Verdicts {
				if n > 0 {
					f.Verdicts[packet.Verdict(v).String()] = n
				}
			}
			for r, n := range s.Drops {
				f.Dropped[r] += n
			}
			for r, n := range s.Faulted {
				f.Dropped[r] += n
			}
			rep.Functions = append(rep.Functions, f)
		}
	}
}

// flowReport reads the counters of a flow table; the worker has stopped.
func flowReport(t *flow.Table) *FlowReport {
	if t == nil {
		return nil
	}
	c := t.Counters()
	r := &FlowReport{Max: int(t.Max()), Live: t.Live()}
	for k := range flow.NumClasses {
		r.Created += c.Created[k]
		r.Expired += c.Expired[k]
		r.Evicted += c.Evicted[k]
		r.Replaced += c.Replaced[k]
		r.Refused += c.Refused[k]
	}
	return r
}
