package agent

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"sfc/ctrl/plane"
	"sfc/dataplane/arena"
	"sfc/dataplane/flow"
	"sfc/dataplane/steer"
)

// saved is what a data plane needs to know, besides memory, to go on where an
// earlier process was ended.
type saved struct {
	Revision uint64
	Ports    []savedPort
	Tenants  []plane.Tenant
	Chains   []savedChain
}

type savedPort struct {
	Index int
	plane.Port
}

// savedChain is a chain as it ran.
type savedChain struct {
	plane.Chain
	Seat seat
}

// save keeps what runs now.
func (d *Dataplane) save() error {
	d.keeping.Lock()
	defer d.keeping.Unlock()
	return d.keepRecord(&d.state, d.snapshot())
}

func (d *Dataplane) snapshot() (s saved) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	s.Revision = d.revision
	for i, p := range d.ports {
		if p != nil {
			s.Ports = append(s.Ports, savedPort{i, p.want})
		}
	}
	for _, t := range d.tenants {
		s.Tenants = append(s.Tenants, t.want)
	}
	for _, c := range d.sorted() {
		if c.run != nil {
			s.Chains = append(s.Chains, savedChain{c.run.spec, c.run.seat})
		}
	}
	return s
}

// openShared opens the tables that all chains share.
func (d *Dataplane) openShared(t KernelTables) (err error) {
	n, w := d.opts.Chains, d.opts.Workers
	if t.Kept {
		d.owners, _, err = steer.OpenOwners(t.Owners, n, w)
	} else {
		d.owners, err = steer.NewOwners(t.Owners, n, w)
	}
	if err != nil {
		return err
	}
	if t.Kept {
		d.grants.pins, _, err = steer.OpenPins(t.Pins)
	} else {
		d.grants.pins, err = steer.NewPins(t.Pins)
	}
	if err != nil {
		return err
	}
	size, page := steer.PinsSize(steer.MaxClaims*d.opts.Holders), os.Getpagesize()
	region, kept, err := d.opts.Keep.Open(claimsName, (size+page-1)/page*page, arena.Options{Sparse: true})
	if err != nil {
		return err
	}
	d.opened.push(region.Close)
	if kept {
		d.grants.claims, _, err = steer.OpenPins(region.Bytes()[:size])
	} else {
		d.grants.claims, err = steer.NewPins(region.Bytes()[:size])
	}
	return err
}

// restore goes on with what is kept: workers do not run yet. A chain that cannot
// be restored is left out, and its flows are over; control asks for it again.
func (d *Dataplane) restore() error {
	var s saved
	d.loadRecord(&d.counted, &d.past)
	if d.loadRecord(&d.state, &s) {
		d.revision = s.Revision
		d.restoreCodes()
		for _, p := range s.Ports {
			if p.Index >= 0 && p.Index < len(d.ports) {
				d.ports[p.Index] = &livePort{want: p.Port}
			}
		}
		for i := range s.Chains {
			if err := d.restoreChain(&s.Chains[i]); err != nil {
				d.events.ofChain(&s.Chains[i].Chain, "plane", "ChainLost", levelError, err.Error())
			}
		}
		// After the chains: what ran goes on, also over a quota that is lower now.
		if err := d.setTenants(s.Tenants); err != nil {
			return err
		}
	}
	d.grants.pins.Sweep()
	d.grants.claims.Sweep()
	d.forgetLeftovers()
	for i, p := range d.ports {
		if p != nil {
			d.enterPort(i, p)
		}
	}
	if err := d.opts.Kernel.Update(d.claimed()); err != nil {
		return fmt.Errorf("steer %d restored chains: %w", len(d.chains), err)
	}
	d.portsDirty = false
	d.answer()
	return nil
}

// restoreChain makes a chain that ran, with its flows.
func (d *Dataplane) restoreChain(was *savedChain) error {
	c := &change{live: &liveChain{title: title(&was.Chain), want: was.Chain}, want: was.Chain}
	if p := d.compare(c, d.portNames()); p != nil {
		return p
	}
	if !d.seats.claim(was.Seat, len(c.part.Paths)) {
		return fmt.Errorf("its place %+v is not free", was.Seat)
	}
	r, err := d.makeRunning(&was.Chain, c.part, c.codes, was.Seat, true)
	if err == nil {
		d.reconcile(r)
		if err = d.give(r); err != nil {
			err = errors.Join(err, d.discard(r))
			return err
		}
	}
	if err != nil {
		d.seats.giveBack(was.Seat, len(c.part.Paths))
		return err
	}
	if r.shut = was.Drain; r.shut {
		if err := d.set.Shut(r.seat.Chain, true); err != nil {
			return errors.Join(err, d.discard(r))
		}
	}
	c.live.run = r
	d.chains[c.live.title] = c.live
	d.past.without(was.Tenant, was.Name, r.flowStats())
	return nil
}

// reconcile brings every flow to the worker that owns it, and clears what
// functions keep where no flow is.
func (d *Dataplane) reconcile(r *running) {
	tables := make([]*flow.Table, 0, len(r.posts))
	most := 0
	for _, p := range r.posts {
		if p.flows != nil {
			tables = append(tables, p.flows)
		}
		most = max(most, p.group.FlowBytes())
	}
	if len(tables) == 0 {
		return
	}
	buf := make([]byte, most)
	for i, t := range tables {
		for slot := range t.Vacant() {
			r.posts[i].group.ClearFlow(slot)
		}
	}
	done := flow.Reconcile(tables, func(b uint16) int { return d.owners.Owner(r.seat.Chain, b) },
		func(from int, slot uint32, to int, into uint32) {
			g := r.posts[from].group
			if into != flow.NoSlot {
				state := buf[:g.FlowBytes()]
				g.TakeFlow(slot, state)
				r.posts[to].group.GiveFlow(into, state)
			}
			g.ClearFlow(slot)
		})
	var sum flow.Restored
	for _, f := range r.home.found {
		sum.Flows += f.Flows
		sum.Torn += f.Torn
		sum.LostBinds += f.LostBinds
		sum.LostClaims += f.LostClaims
	}
	level := levelInfo
	if sum.Torn+sum.LostBinds+sum.LostClaims+done.Refused > 0 {
		level = levelWarning
	}
	d.events.ofChain(&r.spec, "plane", "ChainRestored", level,
		fmt.Sprintf("%d flows are as they were, %d changed workers; lost: %d flows cut short, %d refused, %d tuples, %d claims",
			sum.Flows, done.Moved+done.Arrived, sum.Torn, done.Refused, sum.LostBinds, sum.LostClaims))
}

// forgetLeftovers forgets flow state that no chain has.
func (d *Dataplane) forgetLeftovers() {
	ours := map[string]bool{}
	for _, c := range d.chains {
		ours[c.run.home.name] = true
	}
	for _, name := range d.opts.Keep.Names() {
		kind, rest, _ := strings.Cut(name, "/")
		if kind != "flows" && kind != "slots" {
			continue
		}
		parts := strings.SplitN(rest, "/", 4) // tenant, chain, place, and more
		if len(parts) == 4 && ours[strings.Join(parts[:3], "/")] {
			continue
		}
		if err := d.opts.Keep.Forget(name); err != nil {
			d.events.ofPlane("CleanUp", levelWarning, err.Error())
		}
	}
}
