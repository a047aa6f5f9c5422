package agent

import (
	"fmt"
	"time"

	"sfc/ctrl/place"
	"sfc/ctrl/plane"
)

// balance moves flows from workers that have much to do to those that have
// little, until the data plane is closed.
func (d *Dataplane) balance() {
	if d.opts.Balance < 0 || len(d.workers) == 1 {
		return
	}
	d.aside.Go(func() {
		b := place.New(place.Options{})
		tick := time.NewTicker(d.opts.Balance)
		defer tick.Stop()
		last := d.load(nil)
		for {
			select {
			case <-d.gone:
				return
			case <-tick.C:
			}
			now := d.load(last)
			for _, m := range b.Rebalance(now.Snapshot) {
				d.move(m)
			}
			last = now
		}
	})
}

// load is what came for the chains that run.
func (d *Dataplane) load(last *Load) *Load {
	d.mu.RLock()
	var list []uint16
	for _, c := range d.chains {
		if c.run != nil {
			list = append(list, c.run.seat.Chain)
		}
	}
	d.mu.RUnlock()
	return loadOf(d.owners, len(d.workers), list, last)
}

// move moves a bucket. A chain that is gone by now needs none.
func (d *Dataplane) move(m place.Move) {
	if !d.set.HasChain(m.Chain) {
		return
	}
	r, err := d.set.Move(m.Chain, m.Bucket, m.To)
	ev := plane.Event{Kind: "move", Reason: "FlowsMoved", Level: "debug", Worker: m.To,
		Text: fmt.Sprintf("bucket %d with %d flows from worker %d in %v", m.Bucket, r.Flows, r.From, r.Took)}
	if err != nil {
		ev.Reason, ev.Level, ev.Text = "MoveFailed", levelWarning, err.Error()
	}
	d.mu.RLock()
	for _, c := range d.chains {
		if c.run != nil && c.run.seat.Chain == m.Chain {
			ev.Tenant, ev.Chain = c.want.Tenant, c.want.Name
		}
	}
	d.mu.RUnlock()
	d.events.add(ev)
}
