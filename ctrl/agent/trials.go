package agent

import (
	"errors"
	"fmt"
	"reflect"

	"sfc/chains"
	"sfc/ctrl/plane"
	"sfc/nf/wasm"
)

// trial is a version of a function that some flows meet.
type trial struct {
	code    *code // held
	config  []byte
	percent int
	ready   []*wasm.Replacement // by worker
}

// canaryOf is what is desired to be tried of a function; nil: nothing.
func canaryOf(c *plane.Chain, function string) *plane.Canary {
	for i := range c.Canaries {
		if c.Canaries[i].Function == function {
			return &c.Canaries[i]
		}
	}
	return nil
}

// endTrials takes back the versions on trial that are not desired any more,
// neither for some flows nor for all.
func (d *Dataplane) endTrials(list []*change) {
	for _, c := range list {
		run := c.live.run
		if run == nil || c.fresh != nil {
			continue
		}
		for i := range run.hops {
			f := &run.hops[i]
			if f.trial == nil {
				continue
			}
			want := canaryOf(&c.want, run.part.Chain.Functions[i].Name)
			stays := want != nil && want.Code == f.trial.code.digest
			if promoted := want == nil && c.kind == version && !c.held && c.codes[i] == f.trial.code; !stays && !promoted {
				d.endTrial(run, f, "the trial was called off")
			}
		}
	}
}

// endTrial takes a version on trial back, on all workers.
func (d *Dataplane) endTrial(run *running, f *function, why string) {
	for i, p := range d.lineUp(run) {
		// One that went back by itself needs no word.
		_, _ = p.run.Do(func() { _ = f.trial.ready[i].RollBack(why) })
	}
	d.mu.Lock()
	f.trial.code.letGo()
	f.trial = nil
	d.mu.Unlock()
}

// startTrials has some flows meet the versions that are to be tried.
func (d *Dataplane) startTrials(list []*change) {
	for _, c := range list {
		if c.held || c.live.run == nil {
			continue
		}
		for i := range c.want.Canaries {
			if err := d.startTrial(c, &c.want.Canaries[i]); err != nil {
				c.problem = functionProblem(err)
			}
		}
	}
}

func (d *Dataplane) startTrial(c *change, want *plane.Canary) error {
	run := c.live.run
	at := -1
	for i := range run.part.Chain.Functions {
		if run.part.Chain.Functions[i].Name == want.Function {
			at = i
		}
	}
	if at < 0 {
		return &problem{reasonSpec, fmt.Sprintf("canary: the chain has no function %q", want.Function)}
	}
	f, fn := &run.hops[at], &run.part.Chain.Functions[at]
	line := d.lineUp(run)
	if f.trial != nil {
		return d.split(line, f.trial, want.Percent)
	}
	code := d.codes[want.Code]
	if code == nil {
		return &problem{reasonCode, fmt.Sprintf("canary of function %s: there is no code %s here", want.Function, want.Code)}
	}
	if err := checkConfig(fn.Name, code.module.Manifest, fn.Config); err != nil {
		return err
	}
	t := &trial{code: code, config: fn.Config}
	hop := hopOf(fn, code.module)
	for _, p := range line {
		r, err := p.group.Prepare(at, hop, wasm.ReplaceOptions{Probation: d.opts.Probation, Canary: true})
		if err != nil {
			for _, r := range t.ready {
				r.Discard()
			}
			return err
		}
		t.ready = append(t.ready, r)
	}
	if err := d.split(line, t, want.Percent); err != nil {
		for i, p := range line {
			_, _ = p.run.Do(func() { _ = t.ready[i].RollBack("it could not be tried on all workers") }) // nor on this one, perhaps
			t.ready[i].Discard()
		}
		return err
	}
	code.hold()
	d.mu.Lock()
	defer d.mu.Unlock()
	f.trial, f.last = t, t.ready
	gone := run.gone
	d.aside.Go(func() { agree(line, t.ready, gone) })
	return nil
}

// split has a part of the flows meet the version on trial, on all workers.
func (d *Dataplane) split(line []post, t *trial, percent int) error {
	if t.percent == percent {
		return nil
	}
	for i, p := range line {
		var err error
		if _, stopped := p.run.Do(func() { err = t.ready[i].Canary(percent) }); stopped != nil || err != nil {
			return errors.Join(stopped, err)
		}
	}
	t.percent = percent
	return nil
}

// promote returns what makes a version on trial that of all flows.
func (f *function) promote(line []post) func(*wasm.Group) (*wasm.Replacement, error) {
	ready := f.trial.ready
	return func(g *wasm.Group) (*wasm.Replacement, error) {
		for i := range line {
			if line[i].group == g {
				return ready[i], nil
			}
		}
		return nil, wasm.ErrNotCanary
	}
}

// settleTrial notices that a version on trial went back.
func (d *Dataplane) settleTrial(c *liveChain, f *function, fn *chains.Hop) {
	if f.trial == nil {
		return
	}
	for _, r := range f.trial.ready {
		s := r.Status()
		if s.Phase != wasm.RolledBack {
			continue
		}
		message := fmt.Sprintf("function %s: the trial of version %s is over: %s", fn.Name, s.To, s.Why)
		wanted := c.want
		d.endTrial(c.run, f, s.Why)
		d.mu.Lock()
		c.back, c.problem = &wanted, &problem{reasonBack, message}
		d.mu.Unlock()
		d.events.ofChain(&c.want, "alarm", reasonBack, levelError, message)
		return
	}
}

// asked says whether two chains were asked for in the same words, all that is
// to be tried included.
func asked(a, b *plane.Chain) bool {
	return alike(a, b) && reflect.DeepEqual(a.Canaries, b.Canaries)
}
