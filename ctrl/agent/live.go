package agent

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"sfc/chains"
	"sfc/ctrl/plane"
	"sfc/dataplane"
	"sfc/dataplane/steer"
	"sfc/nf/wasm"
)

// problem is why a chain or port is not what is desired: a word for programs
// and a sentence for people.
type problem struct{ reason, message string }

// Reasons of problems.
const (
	reasonSpec     = "InvalidSpec"   // it cannot be read, or contradicts itself or the ports
	reasonCode     = "CodeMissing"   // code that it names is not there, or not for this machine
	reasonCapacity = "NoCapacity"    // the data plane is full
	reasonQuota    = "QuotaExceeded" // the tenant is at one of its limits
	reasonConflict = "Conflict"      // another chain claims the same packets
	reasonFunction = "FunctionFailed"
	reasonState    = "FlowStateLost" // the new version does not understand the flow state
	reasonTrial    = "OnProbation"   // the version before the desired one is on probation
	reasonBack     = "RolledBack"    // the desired version faulted
	reasonSteering = "SteeringFailed"
	reasonPort     = "PortFailed"
	reasonPeer     = "PeerMissing"
	reasonLink     = "LinkDown"
)

// problemOf makes a problem of an error.
func problemOf(reason string, err error) *problem {
	var p *problem
	if errors.As(err, &p) {
		return p
	}
	return &problem{reason, err.Error()}
}

func (p *problem) Error() string { return p.message }

// functionProblem is a problem of functions that cannot be made.
func functionProblem(err error) *problem {
	reason := reasonFunction
	switch {
	case errors.Is(err, wasm.ErrQuota):
		reason = reasonQuota
	case errors.Is(err, wasm.ErrLayout):
		reason = reasonState
	case errors.Is(err, wasm.ErrProbation):
		reason = reasonTrial
	}
	return problemOf(reason, err)
}

// liveChain is a chain that is desired.
type liveChain struct {
	title   string
	want    plane.Chain
	run     *running // nil: it does not run
	problem *problem // why run is not what is wanted
	// unanswered says why nobody answers for addresses that run stands for.
	unanswered string
	// back is what was wanted when its versions went back: they are not tried
	// again until something else is wanted.
	back *plane.Chain
}

// running is a chain that runs, on all workers.
type running struct {
	spec  plane.Chain // in force
	part  *chains.Part
	seat  seat
	hops  []function
	posts []chainState // by worker
	grant grant
	home  *home
	undo  undoStack
	gone  chan struct{} // closed by halt
	once  sync.Once     // halt
	ended bool          // closed
	shut  bool          // takes no new flows
}

// function is the version of a function that runs.
type function struct {
	code *code
	// last are the workers' latest replacements, before is what they replaced
	// while that may come back.
	last   []*wasm.Replacement
	before *earlier
	trial  *trial // nil: no flow meets another version
}

// title names a chain.
func title(c *plane.Chain) string { return c.Tenant + "/" + c.Name }

// claims are the rules and everything else that steering knows of the chains
// that run, each as the part that is given.
func (d *Dataplane) claims(placed []chains.Placed, at []seat) Claims {
	c := Claims{PathChain: make([]uint16, d.opts.Paths), Pinned: make([]bool, d.opts.Chains)}
	for i, p := range placed {
		c.Pinned[at[i].Chain] = p.Chain.Binds
		for k := range p.Part.Paths {
			c.PathChain[at[i].Paths[k]] = at[i].Chain
		}
	}
	there := d.openPorts()
	for _, r := range chains.RulesOf(placed) {
		// A port that is gone takes nothing in; 0 would mean all of them.
		if r.Ports &= there; r.Ports != 0 {
			c.Rules = append(c.Rules, r)
		}
	}
	return c
}

// start makes a chain on all workers, off the packets' way, and gives it to
// them. Steering does not know of it yet. It returns with everything as it was
// when it fails.
func (d *Dataplane) start(want *plane.Chain, part *chains.Part, codes []*code) (*running, error) {
	at, ok := d.seats.take(len(part.Paths))
	if !ok {
		return nil, d.full()
	}
	r, err := d.makeRunning(want, part, codes, at, false)
	if err != nil {
		d.seats.giveBack(at, len(part.Paths))
		return nil, err
	}
	d.owners.Deal(at.Chain)
	if err := d.give(r); err != nil {
		return nil, errors.Join(err, d.discard(r))
	}
	return r, nil
}

// makeRunning makes a chain's functions and tables for a seat; adopt has it go
// on with what is kept of them.
func (d *Dataplane) makeRunning(want *plane.Chain, part *chains.Part, codes []*code, at seat, adopt bool) (_ *running, err error) {
	c := part.Chain // with the index that it has here
	c.Index = at.Chain
	r := &running{spec: *want, part: part, seat: at, gone: make(chan struct{})}
	r.home = &home{store: d.opts.Keep, name: fmt.Sprintf("%s/%s/%d", c.Tenant, c.Name, at.Chain), adopt: adopt}
	defer func() {
		if err != nil {
			r.home.over = !adopt
			if err = errors.Join(err, r.close()); !adopt {
				err = errors.Join(err, r.home.forget(len(d.workers)))
			}
		}
	}()
	if c.Binds {
		n := c.Flows * d.opts.Workers
		r.grant = grant{d.grants.pins.Share(steer.MaxBinds * n), d.grants.claims.Share(steer.MaxClaims * n)}
	}
	hops := make([]wasm.Hop, len(c.Functions))
	for i := range c.Functions {
		hops[i] = hopOf(&c.Functions[i], codes[i].module)
		codes[i].hold()
		r.hops = append(r.hops, function{code: codes[i]})
	}
	b := d.build
	for i := range d.workers {
		s, err := b.chain(i, &c, hops, r.grant, r.home, &r.undo)
		if err != nil {
			return nil, functionProblem(fmt.Errorf("worker %d: %w", i, err))
		}
		r.posts = append(r.posts, s)
	}
	return r, nil
}

// give gives a chain to the workers.
func (d *Dataplane) give(r *running) error {
	d.mu.Lock()
	t, err := d.tenant(r.spec.Tenant)
	d.mu.Unlock()
	if err != nil {
		return err
	}
	shares := t.shares
	return d.set.AddChain(r.seat.Chain, func(w int) []dataplane.IndexedPath {
		list := make([]dataplane.IndexedPath, len(r.part.Paths))
		for i := range r.part.Paths {
			path := r.posts[w].path(&r.part.Paths[i], r.seat.Chain, r.grant)
			path.Tenant = shares[w]
			list[i] = dataplane.IndexedPath{Index: r.seat.Paths[i], Path: path}
		}
		return list
	})
}

// halt ends what goes on beside the workers.
func (r *running) halt() { r.once.Do(func() { close(r.gone) }) }

// close takes a chain down that no worker has.
func (r *running) close() error {
	if r.ended {
		return nil
	}
	r.ended = true
	r.halt()
	for _, f := range r.hops {
		f.code.letGo()
		if f.before != nil {
			f.before.code.letGo()
		}
		if f.trial != nil {
			f.trial.code.letGo()
		}
	}
	return r.undo.run()
}

// discard takes a chain down and forgets what was kept of it.
func (d *Dataplane) discard(list ...*running) (err error) {
	for _, r := range list {
		r.home.over = true
		err = errors.Join(err, r.close(), r.home.forget(len(d.workers)))
		d.seats.giveBack(r.seat, len(r.part.Paths))
	}
	return err
}

// lineUp returns who runs the chain.
func (d *Dataplane) lineUp(r *running) []post {
	line := make([]post, len(d.workers))
	for i, w := range d.workers {
		line[i] = post{w.run, r.posts[i].group}
	}
	return line
}

// sorted returns the chains by tenant and name.
func (d *Dataplane) sorted() []*liveChain {
	list := make([]*liveChain, 0, len(d.chains))
	for _, c := range d.chains {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b *liveChain) int {
		switch {
		case a.title < b.title:
			return -1
		case a.title > b.title:
			return 1
		}
		return 0
	})
	return list
}
