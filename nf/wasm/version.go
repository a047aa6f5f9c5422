package wasm

import (
	"fmt"
	"hash/fnv"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sfc/dataplane/arena"
	"sfc/dataplane/keep"
	"sfc/nf"
)

// hop is the place of a function in a chain. What runs there is a version.
type hop struct {
	name  string
	index int

	// cur is the version that runs; the worker exchanges it.
	cur atomic.Pointer[version]
	// trial is the replacement whose version is on probation; the worker's.
	trial *Replacement
	// last is the newest replacement that was installed.
	last      atomic.Pointer[Replacement]
	lastFault atomic.Pointer[string]
	// lost counts flows whose state could not be read; see GiveFlow.
	lost atomic.Uint64

	// runLog is written by the worker, whatever the version: a ring has one
	// writer.
	runLog *logRing

	// mu guards counters of versions and keeps their current instances in
	// place while they are read.
	mu sync.Mutex

	versions []*version // all that exist; the group's mu guards it
	gone     totals     // of those that exist no more; the group's mu guards it
}

// version is a module with a configuration in the place of a hop, and all that
// was made for it.
type version struct {
	spec   Hop
	hop    *hop
	slots  *slots // flow state; nil when it keeps none
	reads  uint64 // the layout that sfc_slot_migrate was given; 0: none
	shape  *shape
	stats  hopStats
	spares chan *instance

	// current serves packets, or waits to do so again; nil while suspended.
	current atomic.Pointer[instance]
	state   atomic.Int32

	// configLog is written by whoever configures instances: first the
	// goroutine that makes the version, then the janitor.
	configLog *logRing
	ready     bool // is the janitor's; the group's mu guards it

	restUntil time.Time // the janitor's: no new instance before

	// The worker's, see faulted.
	row      int           // faults in a row, by weight
	at       time.Time     // of the last one
	wait     time.Duration // the suspension after it
	resumeAt time.Time

	counters [nf.NumCounters]uint64 // of instances that are gone; hop.mu guards it
}

// slots are what a function keeps of flows: the host's memory, which outlives
// instances and, where layouts are equal, versions.
type slots struct {
	store   keep.Store
	owner   *tenant
	name    string // in the store
	region  *arena.Region
	mem     []byte // of region: the slots
	trailer []byte // of region: see slots_keep.go
	bytes   int    // per flow
	layout  uint64 // stands for the layout's name
	refs    int    // versions; the group's mu guards it
}

// shape is what the memories of a module's instances are made of. Versions that
// differ in their configuration only share it, and with it memory that is
// mapped already.
type shape struct {
	layout layout
	module *Module
	slots  *slots
	refs   int // versions; the group's mu guards it
}

// layoutID stands for a layout's name in records of flows; 0 is no layout.
func layoutID(name string) uint64 {
	if name == "" {
		return 0
	}
	h := fnv.New64a()
	h.Write([]byte(name))
	return max(h.Sum64(), 1)
}

// newVersion makes a version without instances. Its slots are those of the
// version before when same is set. like is nil, or the version before.
func (g *Group) newVersion(h *hop, spec Hop, like *version, same bool) (_ *version, err error) {
	v := &version{spec: spec, hop: h, spares: make(chan *instance, g.opts.Spares+1)}
	if same {
		v.slots = like.slots
	} else if v.slots, err = openSlots(spec, &g.opts, g.tenant, like == nil && g.opts.Slots.Adopt); err != nil {
		return nil, err
	}
	v.stats, v.configLog = newHopStats(), newLogRing(g.tenant.log, g.c)
	spec.Module.retain()
	g.mu.Lock()
	defer g.mu.Unlock()
	if like != nil && like.shape.module == spec.Module && like.slots == v.slots {
		v.shape = like.shape
	} else {
		v.shape = &shape{module: spec.Module, slots: v.slots, layout: newLayout(g.rt.eng, g.mem, g.tenant.scrap, v.slots,
			nf.StackTop(spec.Module.Info), nf.DataStart+uint64(g.rt.opts.Limits.WithDefaults().PrivateBytes))}
	}
	v.hold()
	h.versions = append(h.versions, v)
	return v, nil
}

// hold and drop count who needs slots and shape. The group's mu is held.
func (v *version) hold() {
	v.shape.refs++
	if v.slots != nil {
		v.slots.refs++
	}
}

func (v *version) drop() {
	if v.shape.refs--; v.shape.refs == 0 {
		v.shape.layout.close()
	}
	if v.slots == nil {
		return
	}
	if v.slots.refs--; v.slots.refs == 0 {
		// Every mapping in a guest is gone with its layout. An error means that
		// the store was not told: then it keeps what the next group of this
		// worker forgets.
		_ = v.slots.close()
	}
}

// fill makes the version's instances and leaves them among its spares.
func (g *Group) fill(v *version) error {
	for range g.opts.Spares + 1 {
		inst, err := g.spawn(v)
		if err != nil {
			return err
		}
		v.spares <- inst
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	v.ready = true
	g.note() // of what they logged
	return nil
}

// spawn makes one configured instance.
func (g *Group) spawn(v *version) (*instance, error) {
	tables, name := g.rt.opts.Limits.WithDefaults().TableElements, v.hop.name
	bytes, err := g.tenant.claimInstance(name, v.spec.Module.Info)
	if err != nil {
		return nil, err
	}
	inst, f, msg := g.rt.eng.instantiate(v.spec.Module.code, v.shape.layout, v.configLog, g.opts.ConfigureBudget, tables)
	if f != faultNone {
		g.tenant.releaseInstance(bytes)
		return nil, fmt.Errorf("%w: function %s: instantiate: %s", f.sentinel(), name, msg)
	}
	inst.owner, inst.bytes = g.tenant, bytes
	code, f, msg := inst.configure(v.spec.Config, g.opts.ConfigureBudget)
	if f != faultNone {
		inst.close()
		switch f {
		case faultRefused:
			return nil, refusal(name, v.spec.Config, code)
		case faultBudget:
			return nil, fmt.Errorf("%w: function %s: sfc_configure took longer than %v", ErrBudget, name, g.opts.ConfigureBudget)
		default:
			return nil, fmt.Errorf("%w: function %s: sfc_configure: %s", f.sentinel(), name, msg)
		}
	}
	if err := inst.claimGrowth(name); err != nil {
		inst.close()
		return nil, err
	}
	inst.setLog(v.hop.runLog)
	g.records.attach(v.hop, v.spec.Module.Manifest, inst)
	return inst, nil
}

// refusal is the error of a configuration that a function did not take. SDK
// functions answer code + 256 * byte offset, see nf/ABI.md.
func refusal(name string, config []byte, code int32) error {
	return fmt.Errorf("%w: function %s: sfc_configure returned %d (code %d at byte %d, near %q): see the function's page for its codes",
		ErrConfigRefused, name, code, uint32(code)&0xff, uint32(code)>>8, near(config, uint32(code)>>8))
}

// near returns the part of a configuration around a byte offset.
func near(config []byte, offset uint32) []byte {
	const around = 20
	at := min(int(offset), len(config))
	return config[max(0, at-around):min(len(config), at+around)]
}

// retire takes the instance out of service, for its caller to close. Its
// counters stay: together with its successors' they never fall.
func (v *version) retire() *instance {
	v.hop.mu.Lock()
	defer v.hop.mu.Unlock()
	dead := v.current.Load()
	for k, n := range dead.counters() {
		v.counters[k] += n
	}
	v.current.Store(nil)
	return dead
}

// free gives back all that was made for a version that neither the worker nor
// the janitor know any more. What it counted stays with its hop.
func (g *Group) free(v *version) {
	g.emit(g.takeApart(v)...)
}

func (g *Group) takeApart(v *version) []Event {
	g.mu.Lock()
	defer g.mu.Unlock()
	events := lines(v.hop.name, v.configLog)
	for len(v.spares) > 0 {
		(<-v.spares).close()
	}
	if v.current.Load() != nil {
		v.retire().close()
	}
	v.hop.gone.add(v)
	v.hop.versions = slices.DeleteFunc(v.hop.versions, func(o *version) bool { return o == v })
	v.drop()
	v.stats.close()
	v.configLog.close()
	v.spec.Module.release()
	return events
}
