package agent

import (
	"fmt"

	"sfc/chains"
	"sfc/dataplane"
)

// claimed is what the chains that run claim.
func (d *Dataplane) claimed() Claims {
	var placed []chains.Placed
	var at []seat
	for _, c := range d.sorted() {
		if c.run != nil {
			placed, at = append(placed, chains.Placed{Part: c.run.part, Paths: c.run.seat.Paths}), append(at, c.run.seat)
		}
	}
	return d.claims(placed, at)
}

// steer puts the new rules into force, if there are any. From then on new
// chains have their packets, and those that leave have none. When it fails,
// everything is as it was.
func (d *Dataplane) steer(list []*change, leaving []*liveChain) error {
	var placed []chains.Placed
	var at []seat
	needed := false
	for _, c := range list {
		part, run := c.target()
		if part == nil {
			continue
		}
		placed, at = append(placed, chains.Placed{Part: part, Paths: run.seat.Paths}), append(at, run.seat)
		needed = needed || run != c.live.run || part != run.part
		if part != run.part {
			d.setEgress(run, part)
		}
	}
	for _, c := range leaving {
		needed = needed || c.run != nil
	}
	if !needed && !d.portsDirty {
		return nil
	}
	if err := d.opts.Kernel.Update(d.claims(placed, at)); err != nil {
		p := problemOf(reasonSteering, err)
		for _, c := range list {
			if part, run := c.target(); part != nil && part != run.part {
				d.setEgress(run, run.part)
			}
			if c.fresh != nil {
				d.withdraw(c)
			}
			if c.kind != same && !c.held {
				c.held, c.problem = true, p
			}
			d.put(c)
		}
		return fmt.Errorf("steer %d chains: %w", len(placed), err)
	}
	d.portsDirty = false
	for _, c := range list {
		if part, run := c.target(); part != nil && part != run.part && run == c.live.run {
			d.mu.Lock()
			run.part = part.WithFunctionsOf(run.part)
			d.mu.Unlock()
		}
	}
	return nil
}

// setEgress lets packets of a chain out by the ports of part.
func (d *Dataplane) setEgress(r *running, part *chains.Part) {
	for i := range part.Paths {
		if err := d.set.SetEgress(r.seat.Paths[i], part.Paths[i].Egress); err != nil {
			d.events.ofChain(&r.spec, "plane", reasonSteering, levelError, err.Error())
		}
	}
	for i, w := range d.workers {
		g := r.posts[i].group
		w.between(func() { g.SetEgress(part.Chain.Ports) })
	}
}

// retire takes away the chains that have no packets any more: those that nobody
// desires, and those that were made anew.
func (d *Dataplane) retire(list []*change, leaving []*liveChain) error {
	var gone []*running
	accounts := make([]dataplane.Account, len(list))
	for i, c := range list {
		if c.fresh != nil && c.live.run != nil {
			var err error
			if accounts[i], err = d.set.Account(c.live.run.seat.Chain); err != nil {
				return err
			}
		}
	}
	d.mu.Lock()
	for _, c := range leaving {
		if c.run != nil {
			gone = append(gone, c.run)
		}
		delete(d.chains, c.title)
		d.past.forget(c.want.Tenant, c.want.Name)
	}
	for i, c := range list {
		if c.fresh == nil {
			continue
		}
		if c.live.run != nil {
			gone = append(gone, c.live.run)
			d.past.add(d.countChain(c.live.run, &accounts[i]))
		}
		c.live.run, c.fresh = c.fresh, nil
	}
	d.mu.Unlock()
	if len(gone) == 0 {
		return nil
	}
	seats := make([]uint16, len(gone))
	for i, r := range gone {
		seats[i] = r.seat.Chain
	}
	if err := d.set.RemoveChain(seats...); err != nil {
		return err
	}
	d.halt(gone)
	return d.discard(gone...)
}

// halt has whoever looks at the packets of chains stop before their memory goes:
// those who hold mu have seen that a chain is not gone, and go on until they let
// go of it.
func (d *Dataplane) halt(gone []*running) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range gone {
		r.halt()
	}
}

// put enters what is known of a chain now.
func (d *Dataplane) put(c *change) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c.live.want, c.live.problem = c.want, c.problem
	d.chains[c.live.title] = c.live
}

// settle enters everything, and tells what is new.
func (d *Dataplane) settle(list []*change, revision uint64) {
	for _, c := range list {
		before := c.live.problem
		if c.problem == nil && c.live.run != nil {
			d.mu.Lock()
			c.live.run.spec, c.live.back = c.want, nil
			d.mu.Unlock()
		}
		d.put(c)
		switch {
		case c.problem != nil && (before == nil || *before != *c.problem):
			d.events.ofChain(&c.want, "plane", c.problem.reason, levelWarning, c.problem.message)
		case c.problem == nil && (c.kind == add || c.kind == rebuild):
			d.events.ofChain(&c.want, "plane", "ChainActive", levelInfo, "the chain has its packets, on all workers")
		}
	}
	d.mu.Lock()
	d.revision = revision
	d.mu.Unlock()
}
