package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"sfc/chains"
	"sfc/ctrl/plane"
	"sfc/dataplane/classify"
)

// change is what an Apply is about to do with a chain.
type change struct {
	live *liveChain
	want plane.Chain
	kind kind
	// part is what the chain is to be; nil when it cannot be.
	part    *chains.Part
	codes   []*code // by function
	problem *problem
	fresh   *running // made, and given to the workers
	// held says that the chain stays as it is, for the reason in problem.
	held bool
}

// kind is how a chain comes to be what is desired.
type kind uint8

const (
	same    kind = iota // it is
	add                 // it does not run yet
	reroute             // other packets, another way out: steering alone
	version             // other versions or configurations of its functions as well
	rebuild             // anything else: made anew beside the one that runs
)

// Apply is plane.Plane's. What is new is made beside what runs, and comes into
// force on all workers by one change of the steering; what leaves, leaves after
// that. Versions of functions are exchanged in place, see [Engine.Swap].
func (d *Dataplane) Apply(_ context.Context, want plane.Desired) (plane.Observed, error) {
	d.changing.Lock()
	defer d.changing.Unlock()
	select {
	case <-d.gone:
		return plane.Observed{}, errors.New("data plane is closed")
	default:
	}
	d.takeNotice()
	portsChanged, err := d.changePorts(want.Ports)
	if err != nil {
		return d.observe(), err
	}
	if err := d.setTenants(want.Tenants); err != nil {
		return d.observe(), err
	}
	leaving := d.leaving(want.Chains)
	list := d.changes(want.Chains, portsChanged, leaving)
	if leaving, err = d.makeWay(list, leaving); err != nil {
		return d.observe(), err
	}
	d.prepare(list)
	if err := d.steer(list, leaving); err != nil {
		return d.observe(), err
	}
	err = d.retire(list, leaving)
	d.endTrials(list)
	d.replaceVersions(list)
	d.startTrials(list)
	d.drain(list)
	d.settle(list, want.Revision)
	d.answer()
	d.forgetCodes()
	return d.observe(), errors.Join(err, d.save())
}

// changes compares every desired chain with what runs of it.
func (d *Dataplane) changes(want []plane.Chain, portsChanged bool, leaving []*liveChain) []*change {
	names := d.portNames()
	list := make([]*change, 0, len(want))
	seen := map[string]bool{}
	runs := 0
	for _, c := range d.chains {
		if c.run != nil {
			runs++
		}
	}
	for _, c := range leaving {
		if c.run != nil {
			runs--
		}
	}
	for i := range want {
		t := title(&want[i])
		if seen[t] {
			continue // of two with the same name, the first is meant
		}
		seen[t] = true
		live := d.chains[t]
		if live == nil {
			live = &liveChain{title: t}
		}
		c := &change{live: live, want: want[i]}
		list = append(list, c)
		switch {
		case live.run != nil && live.wentBack(&c.want):
			c.kind, c.part, c.problem = same, live.run.part, live.problem
		case live.run != nil && !portsChanged && alike(&live.run.spec, &c.want):
			c.kind, c.part = same, live.run.part
		case live.run == nil && runs >= d.opts.Chains:
			// Not even looked at: there may be any number of them.
			c.kind, c.problem = add, d.full()
		default:
			c.problem = d.compare(c, names)
			if c.kind == add && c.problem == nil {
				runs++
			}
		}
	}
	return list
}

func (d *Dataplane) full() *problem {
	return &problem{reasonCapacity, fmt.Sprintf("the data plane has room for %d chains with %d paths, and no more is free; remove chains, or give it more room", d.opts.Chains, d.opts.Paths)}
}

// alike says whether two chains are to be the same, their generation aside.
func alike(a, b *plane.Chain) bool {
	return bytes.Equal(a.Spec, b.Spec) && reflect.DeepEqual(a.Code, b.Code)
}

// compare compiles what is desired of a chain, and finds out how to get there.
func (d *Dataplane) compare(c *change, ports []string) *problem {
	run := c.live.run
	if run == nil {
		c.kind = add
	} else {
		c.kind = rebuild
	}
	spec, err := chains.Parse("chain", c.want.Spec)
	if err != nil {
		return problemOf(reasonSpec, err)
	}
	if spec.Tenant != c.want.Tenant || spec.Name != c.want.Name {
		return &problem{reasonSpec, fmt.Sprintf("its spec is of chain %s/%s", spec.Tenant, spec.Name)}
	}
	mods := chains.ModuleSet{}
	for i := range spec.Functions {
		f := &spec.Functions[i]
		code := d.codes[c.want.Code[f.Module]]
		if code == nil {
			return &problem{reasonCode, fmt.Sprintf("function %s: there is no code for module %s here", f.Name, f.Module)}
		}
		if f.Config == nil {
			return &problem{reasonSpec, fmt.Sprintf("function %s: its configuration lies in a file; give it as config", f.Name)}
		}
		mods[f.Module] = code.seen
		c.codes = append(c.codes, code)
	}
	part, err := chains.CompilePart(&spec, ports, mods)
	if err != nil {
		return problemOf(reasonSpec, err)
	}
	if p := d.unmatched(part); p != nil {
		return p
	}
	c.part = part
	if run != nil {
		c.kind = run.difference(part, c.codes)
	}
	return nil
}

// unmatched refuses a chain that says of unmatched packets what its ports do
// not: ports are the operator's.
func (d *Dataplane) unmatched(part *chains.Part) *problem {
	if part.Unmatched == chains.UnmatchedUnset {
		return nil
	}
	for i, p := range d.ports {
		if p == nil || part.Ingress>>i&1 == 0 {
			continue
		}
		does := p.want.Unmatched
		if does == "" {
			does = chains.UnmatchedPass.String()
		}
		if part.Unmatched.String() != does {
			return &problem{reasonSpec, fmt.Sprintf("unmatched: port %s is set to %s what no chain claims; leave the field out, or ask the operator", p.want.Name, does)}
		}
	}
	return nil
}

// difference says what has to be done that r becomes part.
func (r *running) difference(part *chains.Part, codes []*code) kind {
	a, b := r.part.Chain, part.Chain
	k := reroute
	if len(a.Functions) != len(b.Functions) || a.Budget != b.Budget || a.Flows != b.Flows || a.Binds != b.Binds || len(r.part.Paths) != len(part.Paths) {
		return rebuild
	}
	for i := range r.part.Paths {
		if !slices.Equal(r.part.Paths[i].Order, part.Paths[i].Order) {
			return rebuild
		}
	}
	for i := range a.Functions {
		f, g := &a.Functions[i], &b.Functions[i]
		if f.Name != g.Name || f.Fault != g.Fault {
			return rebuild
		}
		if !bytes.Equal(f.Config, g.Config) || r.hops[i].code != codes[i] {
			k = version
		}
	}
	return k
}

// prepare makes what is new, as far as it goes with everything else. A chain
// that cannot change keeps what runs of it, which may be in the way of another:
// then that one cannot change either.
func (d *Dataplane) prepare(list []*change) {
	for range len(list) + 1 {
		d.admit(list)
		if d.makeFresh(list) {
			return
		}
	}
}

// admit decides who may change, in order: first who runs and stays as it is,
// then who runs and changes, then who is new.
func (d *Dataplane) admit(list []*change) {
	for again := true; again; {
		again = false
		book := &book{d: d, flows: map[string]int{}, ruled: map[string]int{}}
		for _, c := range list {
			c.held = c.problem != nil
			if c.live.run != nil && (c.kind == same || c.held) {
				book.enter(c.live.run.part)
			}
		}
		for _, adding := range []bool{false, true} {
			for _, c := range list {
				if c.held || c.kind == same || (c.kind == add) != adding {
					continue
				}
				if p := book.check(c.part); p != nil {
					c.problem, c.held = p, true
					again = again || c.live.run != nil
					continue
				}
				book.enter(c.part)
			}
			if again {
				break
			}
		}
	}
}

// book is what is taken already.
type book struct {
	d     *Dataplane
	parts []*chains.Part
	rules int
	flows map[string]int // by tenant
	ruled map[string]int // rules by tenant
}

func (b *book) enter(p *chains.Part) {
	b.parts = append(b.parts, p)
	b.rules += p.Rules()
	b.flows[p.Chain.Tenant] += p.Chain.Flows
	b.ruled[p.Chain.Tenant] += p.Rules()
}

// check says why a chain does not go with what is in the book.
func (b *book) check(p *chains.Part) *problem {
	if b.rules+p.Rules() > classify.MaxRules {
		return &problem{reasonCapacity, fmt.Sprintf("it needs %d match rules, and %d of %d are taken; use fewer, or remove chains", p.Rules(), b.rules, classify.MaxRules)}
	}
	t := b.d.tenants[p.Chain.Tenant]
	if t != nil && t.want.Rules > 0 && b.ruled[p.Chain.Tenant]+p.Rules() > t.want.Rules {
		return &problem{reasonQuota, fmt.Sprintf("it needs %d match rules, and the tenant's other chains have %d: at most %d are allowed; use fewer, or have the tenant's chains raised, which its rules grow with",
			p.Rules(), b.ruled[p.Chain.Tenant], t.want.Rules)}
	}
	if t != nil && t.want.Flows > 0 && b.flows[p.Chain.Tenant]+p.Chain.Flows > t.want.Flows {
		return &problem{reasonQuota, fmt.Sprintf("it may have %d flows, and the tenant's other chains %d: at most %d are allowed; lower spec.flows, or ask for more",
			p.Chain.Flows, b.flows[p.Chain.Tenant], t.want.Flows)}
	}
	for _, o := range b.parts {
		if err := p.Conflict(o); err != nil {
			return problemOf(reasonConflict, err)
		}
	}
	return nil
}

// makeFresh makes the chains that are new, or made anew, and gives them to the
// workers. It says whether all that run already could be made.
func (d *Dataplane) makeFresh(list []*change) (settled bool) {
	settled = true
	for _, c := range list {
		wanted := !c.held && (c.kind == add || c.kind == rebuild)
		switch {
		case wanted && c.fresh == nil:
			r, err := d.start(&c.want, c.part, c.codes)
			if err != nil {
				c.problem, c.held = functionProblem(err), true
				settled = settled && c.live.run == nil
				continue
			}
			c.fresh = r
		case !wanted && c.fresh != nil:
			d.withdraw(c)
		}
	}
	return settled
}

// withdraw takes back what was made for nothing. Nothing was steered to it.
func (d *Dataplane) withdraw(c *change) {
	if err := errors.Join(d.set.RemoveChain(c.fresh.seat.Chain), d.discard(c.fresh)); err != nil {
		d.events.ofChain(&c.want, "plane", "CleanUp", levelError, err.Error())
	}
	c.fresh = nil
}

// leaving are the chains that nobody desires any more.
func (d *Dataplane) leaving(want []plane.Chain) (list []*liveChain) {
	wanted := make(map[string]bool, len(want))
	for i := range want {
		wanted[title(&want[i])] = true
	}
	for t, c := range d.chains {
		if !wanted[t] {
			list = append(list, c)
		}
	}
	return list
}

// drain has chains take no new flows, or take them again.
func (d *Dataplane) drain(list []*change) {
	for _, c := range list {
		run := c.live.run
		if run == nil || run.shut == c.want.Drain {
			continue
		}
		if err := d.set.Shut(run.seat.Chain, c.want.Drain); err != nil {
			c.problem = problemOf(reasonSteering, err)
			continue
		}
		run.shut = c.want.Drain
	}
}

// makeWay takes the chains that leave away first, when those that come would
// not find room. It returns those that still have to leave.
func (d *Dataplane) makeWay(list []*change, leaving []*liveChain) ([]*liveChain, error) {
	need := 0
	for _, c := range list {
		if c.problem == nil && (c.kind == add || c.kind == rebuild) {
			need++
		}
	}
	if len(leaving) == 0 || need <= d.seats.free() {
		return leaving, nil
	}
	var stay []*change
	for _, c := range d.sorted() {
		if c.run != nil && !slices.Contains(leaving, c) {
			stay = append(stay, &change{live: c, want: c.want, kind: same, part: c.run.part})
		}
	}
	if err := d.steer(stay, leaving); err != nil {
		return leaving, err
	}
	return nil, d.retire(nil, leaving)
}

// target returns what a chain is to be, and where; nil when it is not to run.
func (c *change) target() (*chains.Part, *running) {
	switch run := c.live.run; {
	case c.fresh != nil:
		return c.part, c.fresh
	case run == nil:
		return nil, nil
	case c.held || c.kind == same:
		return run.part, run
	default:
		return c.part, run
	}
}
