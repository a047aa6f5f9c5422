package agent

import (
	"bytes"
	"fmt"

	"sfc/chains"
	"sfc/ctrl/plane"
	"sfc/nf/wasm"
)

// replaceVersions exchanges functions of chains that are otherwise as desired.
func (d *Dataplane) replaceVersions(list []*change) {
	for _, c := range list {
		if c.kind != version || c.held {
			continue
		}
		if err := d.replaceVersion(c); err != nil {
			c.held, c.problem = true, functionProblem(err)
		}
	}
}

// replaceVersion exchanges the functions of a chain that differ, all of them or
// none.
func (d *Dataplane) replaceVersion(c *change) error {
	run := c.live.run
	opts := wasm.ReplaceOptions{Probation: d.opts.Probation}
	line := d.lineUp(run)
	var differ []int
	var prepares []func(*wasm.Group) (*wasm.Replacement, error)
	for i := range c.part.Chain.Functions {
		is, want := &run.part.Chain.Functions[i], &c.part.Chain.Functions[i]
		sameCode := run.hops[i].code == c.codes[i]
		if sameCode && bytes.Equal(is.Config, want.Config) {
			continue
		}
		differ = append(differ, i)
		if t := run.hops[i].trial; t != nil && t.code == c.codes[i] && bytes.Equal(t.config, want.Config) {
			prepares = append(prepares, run.hops[i].promote(line))
			continue
		}
		if sameCode {
			prepares = append(prepares, func(g *wasm.Group) (*wasm.Replacement, error) { return g.Reconfigure(i, want.Config, opts) })
			continue
		}
		hop := hopOf(want, c.codes[i].module)
		prepares = append(prepares, func(g *wasm.Group) (*wasm.Replacement, error) { return g.Prepare(i, hop, opts) })
	}
	ready, _, err := rollOut(line, prepares...)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for k, i := range differ {
		f := &run.hops[i]
		f.before = &earlier{hop: run.part.Chain.Functions[i], code: f.code}
		if f.trial == nil {
			c.codes[i].hold()
		}
		f.trial = nil // promoted: its hold of the code is the function's now
		f.code, f.last = c.codes[i], ready[k]
		gone := run.gone
		d.aside.Go(func() { agree(line, ready[k], gone) })
	}
	run.part = c.part
	return nil
}

// earlier is the version of a function before the one that runs. It holds its
// code until that one is accepted or went back.
type earlier struct {
	hop  chains.Hop
	code *code
}

// takeNotice settles what became of versions on probation: of those that went
// back, the earlier ones run again, and the chain is not what is desired.
func (d *Dataplane) takeNotice() {
	for _, c := range d.chains {
		if c.run == nil {
			continue
		}
		for i := range c.run.hops {
			d.settleVersion(c, &c.run.hops[i], i)
			d.settleTrial(c, &c.run.hops[i], &c.run.part.Chain.Functions[i])
		}
	}
}

func (d *Dataplane) settleVersion(c *liveChain, f *function, i int) {
	if f.before == nil {
		return
	}
	trial := false
	for _, r := range f.last {
		switch s := r.Status(); s.Phase {
		case wasm.Probation:
			trial = true
		case wasm.RolledBack:
			part := *c.run.part
			part.Chain.Functions = append([]chains.Hop(nil), part.Chain.Functions...)
			message := fmt.Sprintf("function %s: version %s went back to %s: %s", part.Chain.Functions[i].Name, s.To, s.From, s.Why)
			part.Chain.Functions[i] = f.before.hop
			wanted := c.want
			d.mu.Lock()
			c.run.part = &part
			f.code.letGo()
			f.code, f.before = f.before.code, nil
			c.back, c.problem = &wanted, &problem{reasonBack, message}
			d.mu.Unlock()
			d.events.ofChain(&c.want, "alarm", reasonBack, levelError, message)
			return
		}
	}
	if !trial {
		f.before.code.letGo()
		f.before = nil
	}
}

// wentBack says that this is what a chain was asked to be when its versions went
// back: they are not tried again.
func (c *liveChain) wentBack(want *plane.Chain) bool { return c.back != nil && asked(c.back, want) }
