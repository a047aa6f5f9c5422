package wasm

import (
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

// Replacement is a new version of a function, made and waiting, then in service.
// Install and RollBack belong to the worker, Discard to any other goroutine;
// Status may be called by anyone. One that is not installed has to be discarded;
// Group.Close does it for all.
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
	canary    *canary     // set when it can be tried
	percent   atomic.Int32

	phase atomic.Int32
	why   atomic.Pointer[string]

	until     time.Time // the worker's: end of probation
	announced bool      // the janitor's
	tried     bool      // the janitor's: it has been on trial
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
		r.migration = newMigration(from.slots.mem, from.slots.bytes, g.opts.Flows)
		if r.migration == nil {
			return nil, fmt.Errorf("function %s: no memory to note %d flows", h.Name, g.opts.Flows)
		}
		r.to.reads = from.slots.layout
	}
	if o.Canary {
		if r.canary = newCanary(g.opts.Flows); r.canary == nil {
			r.releaseMigration()
			return nil, fmt.Errorf("function %s: no memory to note which of %d flows meet a version on trial", h.Name, g.opts.Flows)
		}
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

// Install puts the new version in the old one's place. The worker calls it
// between two bursts: it exchanges pointers, without a system call, and
// allocates nothing. A version on trial is promoted so. Errors are the sentinels above; the replacement can then
// be tried again or discarded.
func (r *Replacement) Install() error {
	g, h := r.g, r.hop
	if h.onTrial() == r {
		if r.migration != nil {
			r.migration.leaveUnmet(r.canary)
		}
		r.phase.Store(int32(Probation))
	} else {
		if err := r.free(); err != nil {
			return err
		}
		if !r.phase.CompareAndSwap(int32(Prepared), int32(Probation)) {
			return ErrUsed
		}
		if r.live != nil {
			r.configureLive()
		}
	}
	g.note()
	r.until = time.Now().Add(r.probation)
	r.to.slots.follow(r.from.slots)
	h.cur.Store(r.to)
	h.trial = r
	h.last.Store(r)
	g.c.setVersion(h.index, r.to, r.migration)
	g.suspended &^= 1 << h.index
	g.trials |= 1 << h.index
	g.countFlowBytes()
	return nil
}

// free reports whether the way is free for the new version.
func (r *Replacement) free() error {
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
	case h.onTrial() != nil:
		return ErrOnTrial
	case h.trial != nil:
		return ErrProbation
	}
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
	r.releaseMigration()
	if r.canary != nil {
		r.canary.close()
	}
	r.g.free(loser)
}

func (r *Replacement) releaseMigration() {
	if r.migration != nil {
		r.migration.close()
	}
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
	if h.onTrial() != nil {
		return
	}
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
	r.from.slots.leave(r.to.slots)
	r.phase.Store(int32(Accepted))
}

// rollBack puts the old version back, as it was when it was replaced.
func (g *Group) rollBack(h *hop, msg string) {
	r := h.trial
	r.to.slots.leave(r.from.slots)
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
