package wasm

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// maxVersions is how many versions of a function may exist at a time: the one
// that runs, the one before it on probation, and two that are prepared or wait
// for the janitor.
const maxVersions = 4

// job is work that a fault leaves for the janitor.
type job struct {
	version    *version
	dead       *instance
	fault      string
	wait       time.Duration
	quarantine bool
}

// roundEvery is the time between two rounds of a janitor that has something to
// wait for, and how long what is noted waits for one.
const roundEvery = 100 * time.Millisecond

// janitor is the group's goroutine: it frees dead instances, makes spares,
// settles replacements and passes on log lines. It has no timer as long as there
// is nothing to wait for: see Runtime.attend.
type janitor struct {
	jobs chan job
	// round asks for a round.
	round chan struct{}
	// wanted are the versions that lack a spare.
	wanted []*version
	done   chan struct{}
	wg     sync.WaitGroup
}

func (j *janitor) start(g *Group) {
	// A version has at most spares+1 instances, so a send never blocks.
	j.jobs = make(chan job, len(g.hops)*maxVersions*(g.opts.Spares+1)+1)
	j.round = make(chan struct{}, 1)
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
	again := time.NewTimer(roundEvery) // a first round, of what was logged so far
	defer again.Stop()
	for {
		select {
		case jb := <-j.jobs:
			j.handle(g, jb)
			again.Reset(roundEvery)
		case <-again.C:
			j.goRound(g, again)
		case <-j.round:
			j.goRound(g, again)
		case <-j.done:
			for len(j.jobs) > 0 {
				g.bury(<-j.jobs)
			}
			return
		}
	}
}

func (j *janitor) goRound(g *Group, again *time.Timer) {
	g.drainLogs()
	waits := j.settle(g)
	j.spawn(g)
	if waits || len(j.wanted) > 0 {
		again.Reset(roundEvery)
	}
}

// ask asks for a round; one that is asked for already will do.
func (j *janitor) ask() {
	select {
	case j.round <- struct{}{}:
	default:
	}
}

// note asks for a round within roundEvery. Anyone may, the worker too: it takes
// no system call.
func (g *Group) note() { g.c.note(g.rt.eng) }

// makeRoom waits until another version of a function may be made.
func (j *janitor) makeRoom(g *Group, h *hop) error {
	versions := func() int {
		g.mu.Lock()
		defer g.mu.Unlock()
		return len(h.versions)
	}
	// A round may have to make instances first.
	for last := time.Now().Add(2*g.opts.ConfigureBudget + time.Second); versions() >= maxVersions; {
		if time.Now().After(last) {
			return fmt.Errorf("function %s: %d versions exist: install or discard those that are prepared", h.name, maxVersions)
		}
		j.ask()
		time.Sleep(time.Millisecond)
	}
	return nil
}

// settle frees what replacements have left, and prepares what the worker needs
// to hand over flow state. It reports whether one is under way.
func (j *janitor) settle(g *Group) (waits bool) {
	g.mu.Lock()
	list := slices.Clone(g.replacements)
	g.mu.Unlock()
	for _, r := range list {
		phase := Phase(r.phase.Load())
		if phase == Prepared || phase == Discarded {
			continue
		}
		waits = waits || phase == OnTrial || phase == Probation
		if phase == OnTrial {
			if !r.tried {
				r.tried = true
				s := r.Status()
				g.emit(Event{Function: r.hop.name, Kind: EventReplaced, Text: fmt.Sprintf("%s on trial beside %s, flow state %s, %d%% of the flows", s.To, s.From, s.State, r.percent.Load())})
			}
			continue
		}
		if !r.announced && (phase != RolledBack || !r.tried) {
			r.announced = true
			s := r.Status()
			g.emit(Event{Function: r.hop.name, Kind: EventReplaced, Text: fmt.Sprintf("%s -> %s, flow state %s%s", s.From, s.To, s.State, note(s.Why))})
		}
		switch phase {
		case Probation:
			r.work.prepare(r)
		case Accepted:
			j.settled(g, r, r.from)
			g.emit(Event{Function: r.hop.name, Kind: EventReplaced, Text: r.to.spec.Module.Manifest.Version + " accepted"})
		case RolledBack:
			j.settled(g, r, r.to)
			j.refill(g, r.from)
			g.emit(Event{Function: r.hop.name, Kind: EventAlarm, Text: fmt.Sprintf("%s went back to %s%s",
				r.to.spec.Module.Manifest.Version, r.from.spec.Module.Manifest.Version, note(r.Status().Why))})
		}
	}
	return waits
}

func note(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

// settled frees the version that lost. Its instances may be among the jobs:
// they come first.
func (j *janitor) settled(g *Group, r *Replacement, loser *version) {
	for len(j.jobs) > 0 {
		j.handle(g, <-j.jobs)
	}
	j.wanted = slices.DeleteFunc(j.wanted, func(v *version) bool { return v == loser })
	g.forget(r)
	r.release(loser)
}

// refill wants the spares that a version lacks which is back in service: its
// own instance may have gone to the version after it, see configureLive.
func (j *janitor) refill(g *Group, v *version) {
	lacks := g.opts.Spares - len(v.spares)
	for _, w := range j.wanted {
		if w == v {
			lacks--
		}
	}
	for range lacks {
		j.wanted = append(j.wanted, v)
	}
}

// handle buries the dead and makes a spare, unless the function is out.
func (j *janitor) handle(g *Group, jb job) {
	g.bury(jb)
	if jb.quarantine {
		return
	}
	j.wanted = append(j.wanted, jb.version)
	j.spawn(g)
}

// spawn makes the spares that are wanted and whose time has come.
func (j *janitor) spawn(g *Group) {
	later := j.wanted[:0]
	for _, v := range j.wanted {
		start := time.Now()
		if start.Before(v.restUntil) {
			later = append(later, v)
			continue
		}
		inst, err := g.spawn(v)
		if took := time.Since(start); took > dearSpawn {
			v.restUntil = start.Add(spawnShare * took)
		}
		if err == nil {
			v.spares <- inst
			continue
		}
		alarm := "no new spare: " + err.Error()
		if len(v.spares) == 0 && v.state.CompareAndSwap(int32(BackingOff), int32(Quarantined)) {
			alarm = "quarantined: no new instance: " + err.Error()
		}
		g.emit(Event{Function: v.hop.name, Kind: EventAlarm, Text: alarm})
	}
	j.wanted = later
}

// bury frees a dead instance and tells of its end.
func (g *Group) bury(jb job) {
	jb.dead.close()
	name := jb.version.hop.name
	g.emit(Event{Function: name, Kind: EventFault, Text: fmt.Sprintf("%s; suspended for %v", jb.fault, jb.wait)})
	if jb.quarantine {
		g.emit(Event{Function: name, Kind: EventAlarm,
			Text: fmt.Sprintf("quarantined: %d faults, or budgets overrun, without %v in service between them", quarantineAfter, calm)})
	}
}
