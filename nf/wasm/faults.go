package wasm

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"sfc/dataplane/arena"
	"sfc/nf"
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

// hop is one function of a group.
type hop struct {
	spec      Hop
	slots     *arena.Region // flow state; nil when it keeps none
	layout    layout
	current   atomic.Pointer[instance] // nil while suspended
	spares    chan *instance
	state     atomic.Int32
	lastFault atomic.Pointer[string]

	// configLog is written while spares are configured, runLog by the worker:
	// a ring has one writer.
	configLog, runLog *logRing

	restUntil time.Time // the janitor's: no new instance before

	// The worker's.
	row      int           // faults in a row, by weight
	at       time.Time     // of the last one
	wait     time.Duration // the suspension after it
	resumeAt time.Time

	// mu guards counters and keeps the current instance in place while it is
	// read.
	mu       sync.Mutex
	counters [nf.NumCounters]uint64 // of instances that are gone
}

func newHop(spec Hop, spares int, slots *arena.Region, l layout) *hop {
	return &hop{spec: spec, slots: slots, layout: l, spares: make(chan *instance, spares+1), configLog: newLogRing(), runLog: newLogRing()}
}

func (h *hop) free() {
	for len(h.spares) > 0 {
		(<-h.spares).close()
	}
	if i := h.current.Swap(nil); i != nil {
		i.close()
	}
	h.layout.close()
	h.closeSlots()
	h.configLog.close()
	h.runLog.close()
}

// retire takes the instance out of service, for its caller to close. Its
// counters stay: together with its successors' they never fall.
func (h *hop) retire() *instance {
	h.mu.Lock()
	defer h.mu.Unlock()
	dead := h.current.Load()
	for k, v := range dead.counters() {
		h.counters[k] += v
	}
	h.current.Store(nil)
	return dead
}

// faulted notes a fault at time now and returns how long to suspend. An
// overrun weighs as many faults as budgets it took: code that cannot be
// interrupted for long is not let to hold the worker many times.
func (h *hop) faulted(now time.Time, weight int) (wait time.Duration, quarantine bool) {
	if now.Sub(h.at)-h.wait > calm {
		h.row = 0
	}
	h.row += weight
	if h.row > 1 {
		wait = min(firstBackoff<<min(h.row-2, 20), maxBackoff)
	}
	h.at, h.wait = now, wait
	return wait, h.row >= quarantineAfter
}

// replace takes the instances of the faulted hops out and puts spares in, as
// far as back-off allows. Called by the worker, outside the hot path.
func (g *Group) replace(faulted uint32) {
	now := time.Now()
	for i, h := range g.hops {
		if faulted&(1<<i) == 0 {
			continue
		}
		dead := h.retire()
		g.c.setInstance(i, nil)
		msg := g.c.trap(i)
		h.lastFault.Store(&msg)
		wait, quarantine := h.faulted(now, 1+int(g.c.lateNs(i)/uint64(g.opts.Budget)))
		g.suspended |= 1 << i
		h.resumeAt = now.Add(wait)
		state := BackingOff
		if quarantine {
			state = Quarantined
		}
		h.state.Store(int32(state))
		g.janitor.jobs <- job{hop: h, dead: dead, fault: msg, wait: wait, quarantine: quarantine}
		if state == BackingOff && wait == 0 {
			g.revive(i, h)
		}
	}
}

// resume revives suspended functions whose time has come.
func (g *Group) resume() {
	now := time.Now()
	for i, h := range g.hops {
		if g.suspended&(1<<i) != 0 && State(h.state.Load()) != Quarantined && !now.Before(h.resumeAt) {
			g.revive(i, h)
		}
	}
}

// revive gives hop i a spare when one is ready.
func (g *Group) revive(i int, h *hop) {
	select {
	case inst := <-h.spares:
		g.install(i, inst)
		g.suspended &^= 1 << i
		h.state.Store(int32(Running))
	default:
	}
}

// job is work that a fault leaves for the janitor.
type job struct {
	hop        *hop
	dead       *instance
	fault      string
	wait       time.Duration
	quarantine bool
}

// janitor is the group's goroutine: it frees dead instances, makes spares and
// passes on log lines.
type janitor struct {
	jobs chan job
	// wanted are the hops that lack a spare.
	wanted []*hop
	done   chan struct{}
	wg     sync.WaitGroup
}

func (j *janitor) start(g *Group) {
	// A hop has at most spares+1 instances, so a send never blocks.
	j.jobs = make(chan job, len(g.hops)*(g.opts.Spares+1)+1)
	j.done = make(chan struct{})
	j.wg.Add(1)
	go j.run(g)
}

func (j *janitor) stop() {
	close(j.done)
	j.wg.Wait()
}

func (j *janitor) run(g *Group) {
	defer j.wg.Done()
	logs := time.NewTicker(100 * time.Millisecond)
	defer logs.Stop()
	for {
		select {
		case jb := <-j.jobs:
			j.handle(g, jb)
		case <-logs.C:
			g.drainLogs()
			j.spawn(g)
		case <-j.done:
			for len(j.jobs) > 0 {
				g.bury(<-j.jobs)
			}
			g.drainLogs()
			return
		}
	}
}

// handle buries the dead and makes a spare, unless the function is out.
func (j *janitor) handle(g *Group, jb job) {
	g.bury(jb)
	if jb.quarantine {
		return
	}
	h := jb.hop
	j.wanted = append(j.wanted, h)
	j.spawn(g)
}

// spawn makes the spares that are wanted and whose time has come.
func (j *janitor) spawn(g *Group) {
	later := j.wanted[:0]
	for _, h := range j.wanted {
		start := time.Now()
		if start.Before(h.restUntil) {
			later = append(later, h)
			continue
		}
		inst, err := g.spawn(h)
		if took := time.Since(start); took > dearSpawn {
			h.restUntil = start.Add(spawnShare * took)
		}
		if err == nil {
			h.spares <- inst
			continue
		}
		alarm := "no new spare: " + err.Error()
		if len(h.spares) == 0 && h.state.CompareAndSwap(int32(BackingOff), int32(Quarantined)) {
			alarm = "quarantined: no new instance: " + err.Error()
		}
		g.opts.Events(Event{Function: h.spec.Name, Kind: EventAlarm, Text: alarm})
	}
	j.wanted = later
}

// bury frees a dead instance and tells of its end.
func (g *Group) bury(jb job) {
	jb.dead.close()
	name := jb.hop.spec.Name
	g.opts.Events(Event{Function: name, Kind: EventFault, Text: fmt.Sprintf("%s; suspended for %v", jb.fault, jb.wait)})
	if jb.quarantine {
		g.opts.Events(Event{Function: name, Kind: EventAlarm,
			Text: fmt.Sprintf("quarantined: %d faults, or budgets overrun, without %v in service between them", quarantineAfter, calm)})
	}
}
