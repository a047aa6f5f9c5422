package wasm

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"sfc/nf"
)

// How a function is replaced while packets flow:
//
//	Prepare   any goroutine   new version: instances, configured, spares, slots
//	Install   the worker      pointers exchanged between two bursts
//	probation the worker      a fault puts the old version back at once; flow
//	                          state is handed over meanwhile, if it must be
//	accepted  the janitor     the old version is freed
//
// A version that went back, or was accepted, is settled by the janitor at its
// next round: nothing that the worker does here needs the kernel.

// defaultProbation is how long a new version has to stay free of faults.
const defaultProbation = 5 * time.Second

// Errors of replacing functions.
var (
	// ErrLayout: the new version does not understand the flow state.
	ErrLayout = errors.New("flow state of another layout")
	// ErrProbation: the version that runs is still on probation.
	ErrProbation = errors.New("the function's last replacement is still on probation: wait until it is accepted")
	// ErrStale: another replacement came first.
	ErrStale = errors.New("the function was replaced meanwhile: prepare again")
	// ErrUsed: a replacement is installed once, unless it was discarded.
	ErrUsed = errors.New("the replacement was installed or discarded before")
	// ErrSettled: the replacement was accepted, or went back, before.
	ErrSettled = errors.New("the replacement is not on probation")
	// ErrClosed: the group is closed.
	ErrClosed = errors.New("group closed")
)

// ReplaceOptions configure a [Replacement]. The zero value selects the defaults.
type ReplaceOptions struct {
	// ResetState lets the new version start with empty flow state if its layout
	// is another, also if it could migrate. Default: state is migrated, or the
	// replacement is refused.
	ResetState bool
	// Probation is how long a fault of the new version puts the old one back.
	// Default 5 s; below zero only as long as flow state is under way.
	Probation time.Duration
}

// Phase is how far a replacement has come.
type Phase int32

// Phases of a replacement.
const (
	// Prepared: ready to be installed.
	Prepared Phase = iota
	// Probation: the new version runs, the old one waits.
	Probation
	// Accepted: the old version is gone.
	Accepted
	// RolledBack: the new version faulted and is gone, the old one runs.
	RolledBack
	// Discarded: it never ran.
	Discarded
)

func (p Phase) String() string {
	return [...]string{"prepared", "probation", "accepted", "rolled_back", "discarded"}[p]
}

// ReplacementStatus is how a replacement stands.
type ReplacementStatus struct {
	Phase Phase
	// From and To are the versions of the manifests.
	From, To string
	// State says what becomes of flow state: "none", "kept", "migrated" or
	// "reset".
	State string
	// Why is the fault after which the old version came back, or what else an
	// operator should know; or empty.
	Why string
}

// Replacement is a new version of a function, made and waiting, then in service.
// Install belongs to the worker; the rest may be called by anyone. One that is
// not installed has to be discarded; Group.Close does it for all. RollBack
// belongs to the worker, too.
type Replacement struct {
	g        *Group
	hop      *hop
	from, to *version
	state    string
	// migration is set when flow state has to be handed over.
	migration *migration
	work      background
	probation time.Duration
	live      *liveConfig // set when the instance itself stays

	phase atomic.Int32
	why   atomic.Pointer[string]

	until     time.Time // the worker's: end of probation
	announced bool      // the janitor's
}

// Prepare makes everything that a new version of function hop needs: instances,
// configured with h.Config, and room for flow state. The name stays the
// function's: h.Name is not used. Errors say what the module did, or that it
// does not understand the flow state there is. It may take as long as
// sfc_configure does, and runs in any goroutine but the worker's.
func (g *Group) Prepare(hop int, h Hop, o ReplaceOptions) (*Replacement, error) {
	g.preparing.Lock()
	defer g.preparing.Unlock()
	p, err := g.hop(hop)
	if err != nil {
		return nil, err
	}
	return g.prepare(p, h, o)
}

// hop returns function i, as long as the group is not closed.
func (g *Group) hop(i int) (*hop, error) {
	if g.closed {
		return nil, ErrClosed
	}
	if i < 0 || i >= len(g.hops) {
		return nil, fmt.Errorf("function %d: the chain has %d, counted from 0", i, len(g.hops))
	}
	return g.hops[i], nil
}

func (g *Group) prepare(p *hop, h Hop, o ReplaceOptions) (_ *Replacement, err error) {
	h.Name = p.name
	if err := checkHops([]Hop{h}, g.opts); err != nil {
		return nil, err
	}
	if o.Probation == 0 {
		o.Probation = defaultProbation
	}
	if err := g.janitor.makeRoom(g, p); err != nil {
		return nil, err
	}
	from := g.holdCurrent(p)
	defer g.letGo(from)
	r := &Replacement{g: g, hop: p, from: from, probation: o.Probation}
	if r.state, err = stateOf(from.spec, h, o.ResetState); err != nil {
		return nil, err
	}
	if r.to, err = g.newVersion(p, h, from, r.state == stateKept); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			g.free(r.to)
		}
	}()
	if err := g.fill(r.to); err != nil {
		return nil, fmt.Errorf("version %s: %w", h.Module.Manifest.Version, err)
	}
	if r.state == stateKept && h.Module.migrates {
		r.to.reads = from.reads
	}
	if r.state == stateMigrated {
		r.migration = newMigration(from.slots.region.Bytes(), from.slots.bytes, g.opts.Flows)
		if r.migration == nil {
			return nil, fmt.Errorf("function %s: no memory to note %d flows", h.Name, g.opts.Flows)
		}
		r.to.reads = from.slots.layout
	}
	r.to.current.Store(<-r.to.spares)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.replacements = append(g.replacements, r)
	return r, nil
}

// holdCurrent returns the version that runs. Its slots and its shape stay until
// letGo, also if the worker puts another in its place meanwhile.
func (g *Group) holdCurrent(h *hop) *version {
	g.mu.Lock()
	defer g.mu.Unlock()
	v := h.cur.Load()
	v.hold()
	return v
}

func (g *Group) letGo(v *version) {
	g.mu.Lock()
	defer g.mu.Unlock()
	v.drop()
}

// What becomes of flow state.
const (
	stateNone     = "none"
	stateKept     = "kept"
	stateMigrated = "migrated"
	stateReset    = "reset"
)

// stateOf decides what becomes of flow state when version to follows from.
func stateOf(from, to Hop, reset bool) (string, error) {
	old, next := from.Module.Manifest.StateLayout(from.Config), to.Module.Manifest.StateLayout(to.Config)
	switch {
	case old == "" || next == "":
		return stateNone, nil
	case old == next:
		return stateKept, nil
	case reset:
		return stateReset, nil
	case to.Module.migrates && from.Module.Manifest.Name == to.Module.Manifest.Name:
		return stateMigrated, nil
	}
	return "", fmt.Errorf("%w: function %s keeps %q of each flow, and %s %s expects %q: give both the same flow_state_layout and size if they are "+
		"compatible, export %s from the new version of the same function, or ask for a reset of its flow state",
		ErrLayout, to.Name, old, to.Module.Manifest.Name, to.Module.Manifest.Version, next, nf.ExportMigrate)
}

// Install puts the new version in the old one's place. The worker calls it
// between two bursts: it exchanges pointers, without a system call, and
// allocates nothing. Errors are the sentinels above; the replacement can then
// be tried again or discarded.
func (r *Replacement) Install() error {
	g, h := r.g, r.hop
	if Phase(r.phase.Load()) != Prepared {
		return ErrUsed
	}
	if h.trial != nil {
		g.advance(h, 0)
	}
	switch {
	case h.cur.Load() != r.from:
		return ErrStale
	case h.trial != nil:
		return ErrProbation
	case !r.phase.CompareAndSwap(int32(Prepared), int32(Probation)):
		return ErrUsed
	}
	if r.live != nil {
		r.configureLive()
	}
	r.until = time.Now().Add(r.probation)
	h.cur.Store(r.to)
	h.trial = r
	h.last.Store(r)
	g.c.setVersion(h.index, r.to, r.migration)
	g.suspended &^= 1 << h.index
	g.trials |= 1 << h.index
	g.countFlowBytes()
	return nil
}

// RollBack puts the old version back as a fault of the new one would, say
// because that faulted on another worker. The worker calls it between two
// bursts.
func (r *Replacement) RollBack(why string) error {
	if r.hop.trial != r {
		return ErrSettled
	}
	r.g.rollBack(r.hop, why)
	return nil
}

// Discard frees a replacement that was not installed; on another it does
// nothing. It belongs to any goroutine but the worker's.
func (r *Replacement) Discard() {
	r.g.preparing.Lock()
	defer r.g.preparing.Unlock()
	if !r.phase.CompareAndSwap(int32(Prepared), int32(Discarded)) {
		return
	}
	r.g.forget(r)
	r.release(r.to)
}

// release frees the version that lost, and what was between the two.
func (r *Replacement) release(loser *version) {
	if r.migration != nil {
		r.migration.close()
	}
	r.g.free(loser)
}

// Status says how the replacement stands.
func (r *Replacement) Status() ReplacementStatus {
	s := ReplacementStatus{
		Phase: Phase(r.phase.Load()), State: r.state,
		From: r.from.spec.Module.Manifest.Version, To: r.to.spec.Module.Manifest.Version,
	}
	if why := r.why.Load(); why != nil {
		s.Why = *why
	}
	return s
}

// attend looks after hops that are suspended or on probation. Called by the
// worker before a burst, when there are any.
func (g *Group) attend(slots uint32) {
	if g.suspended != 0 {
		g.resume()
	}
	if g.trials == 0 {
		return
	}
	for i, h := range g.hops {
		if g.trials&(1<<i) != 0 {
			g.advance(h, slots)
		}
	}
}

// advance hands over flow state in the background, at most slots flows, and
// accepts a version that has stood its probation.
func (g *Group) advance(h *hop, slots uint32) {
	r := h.trial
	if r.migration != nil {
		if !g.migrateSome(r, slots) {
			g.replace(1 << h.index)
			return
		}
		if !r.work.done {
			return
		}
	}
	if time.Now().Before(r.until) {
		return
	}
	g.c.setMigration(h.index, nil)
	h.trial = nil
	g.trials &^= 1 << h.index
	g.countFlowBytes()
	r.phase.Store(int32(Accepted))
}

// rollBack puts the old version back, as it was when it was replaced.
func (g *Group) rollBack(h *hop, msg string) {
	r := h.trial
	h.cur.Store(r.from)
	h.trial = nil
	g.trials &^= 1 << h.index
	g.c.setVersion(h.index, r.from, nil)
	g.countFlowBytes()
	if r.from.current.Load() == nil {
		g.suspended |= 1 << h.index
		g.resume()
	}
	r.why.Store(&msg)
	r.phase.Store(int32(RolledBack))
}

// forget takes a replacement off the list of those that are not settled.
func (g *Group) forget(r *Replacement) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, o := range g.replacements {
		if o == r {
			g.replacements = append(g.replacements[:i], g.replacements[i+1:]...)
			return
		}
	}
}

// Manifest returns what the author of the version in force of function hop
// declared.
func (g *Group) Manifest(hop int) *nf.Manifest {
	return g.hops[hop].cur.Load().spec.Module.Manifest
}
