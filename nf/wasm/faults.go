package wasm

import (
	"errors"
	"time"
)

// What happens after a fault:
//
//	fault -> instance taken out -> warm spare in (first fault of a row)
//	                            -> suspended for 1, 2, 4 ... 1000 ms, then a spare
//	                            -> quarantine (quarantineAfter without a calm second)
//
// The worker only swaps pointers; a goroutine of the group frees the dead
// instance and makes the next spare, since mapping memory interrupts every
// core of the process.
const (
	// calm is how long a function must run without a fault in service for its
	// next one to count as the first of a row.
	calm         = time.Second
	firstBackoff = time.Millisecond
	maxBackoff   = time.Second
	// quarantineAfter is how many faults in a row put a function out of
	// service until its group is made anew: after some 6 s when it faults at
	// every packet.
	quarantineAfter = 16
	// dearSpawn is how long making an instance may take before the next one of
	// the function has to wait: for so long that a function which faults
	// again and again has at most 1/spawnShare of a core for its
	// sfc_configure.
	dearSpawn  = 10 * time.Millisecond
	spawnShare = 10
)

// State is how a function stands.
type State int32

// States of a function.
const (
	Running State = iota
	BackingOff
	Quarantined
)

func (s State) String() string {
	return [...]string{"running", "backing_off", "quarantined"}[s]
}

// faulted notes a fault at time now and returns how long to suspend. An
// overrun weighs as many faults as budgets it took: code that cannot be
// interrupted for long is not let to hold the worker many times.
func (v *version) faulted(now time.Time, weight int) (wait time.Duration, quarantine bool) {
	if now.Sub(v.at)-v.wait > calm {
		v.row = 0
	}
	v.row += weight
	if v.row > 1 {
		wait = min(firstBackoff<<min(v.row-2, 20), maxBackoff)
	}
	v.at, v.wait = now, wait
	return wait, v.row >= quarantineAfter
}

// replace takes the instances of the faulted hops out and puts spares in, as
// far as back-off allows; a version on probation goes, and the one before it
// comes back; a version on trial goes. Called by the worker, outside the hot path.
func (g *Group) replace(faulted uint32) {
	now := time.Now()
	for i, h := range g.hops {
		if r := h.onTrial(); r != nil && faulted&(1<<(i+maxHops)) != 0 {
			msg := r.canary.trap()
			h.lastFault.Store(&msg)
			g.rollBack(h, msg)
		}
		if faulted&(1<<i) == 0 {
			continue
		}
		msg := g.c.trap(i)
		h.lastFault.Store(&msg)
		if h.trial != nil && h.onTrial() == nil {
			g.rollBack(h, msg)
			continue
		}
		v := h.cur.Load()
		dead := v.retire()
		g.c.setInstance(i, nil)
		wait, quarantine := v.faulted(now, 1+int(g.c.lateNs(i)/uint64(g.opts.Budget)))
		g.suspended |= 1 << i
		v.resumeAt = now.Add(wait)
		state := BackingOff
		if quarantine {
			state = Quarantined
		}
		v.state.Store(int32(state))
		g.janitor.jobs <- job{version: v, dead: dead, fault: msg, wait: wait, quarantine: quarantine}
		if state == BackingOff && wait == 0 {
			g.revive(i, v)
		}
	}
}

// resume revives suspended functions whose time has come.
func (g *Group) resume() {
	now := time.Now()
	for i, h := range g.hops {
		v := h.cur.Load()
		if g.suspended&(1<<i) != 0 && State(v.state.Load()) != Quarantined && !now.Before(v.resumeAt) {
			g.revive(i, v)
		}
	}
}

// revive gives the version in hop i a spare when one is ready.
func (g *Group) revive(i int, v *version) {
	select {
	case inst := <-v.spares:
		g.install(i, inst)
		g.suspended &^= 1 << i
		v.state.Store(int32(Running))
	default:
	}
}

// Errors that a path's functions cause when they are made.
var (
	// ErrConfigRefused: sfc_configure returned a code other than zero.
	ErrConfigRefused = errors.New("configuration refused")
	// ErrBudget: guest code ran past its deadline.
	ErrBudget = errors.New("deadline passed")
	// ErrTrap: guest code trapped.
	ErrTrap = errors.New("trap")
	// ErrInstantiate: an instance could not be made.
	ErrInstantiate = errors.New("cannot instantiate")
)

func (f fault) sentinel() error {
	switch f {
	case faultTrap:
		return ErrTrap
	case faultBudget:
		return ErrBudget
	case faultRefused:
		return ErrConfigRefused
	}
	return ErrInstantiate
}
