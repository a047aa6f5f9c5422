package reconcile

import (
	"time"
)

// retry lets go of chains whose time to be tried again has come. Where that costs
// much, many are tried at once.
func (r *Reconciler) retry(now time.Time) {
	if now.Before(r.plane.retried.Add(10 * r.plane.applying)) {
		return
	}
	for c := range r.failing {
		if c.failed.held && !now.Before(c.failed.until) {
			r.release(c)
			r.plane.retried = now
		}
	}
}

// release has a chain tried again, also where what is sent then is what was sent
// last.
func (r *Reconciler) release(c *chain) {
	c.failed.held = false
	r.plane.force = true
}

// judged notes of every chain that was sent what came of it.
func (r *Reconciler) judged(d *decision, now time.Time) {
	for c, v := range d.verdicts {
		if v.sent == nil {
			continue
		}
		cs := r.plane.chains[c.tenant+"/"+c.name]
		p := problem{}
		switch {
		case cs == nil:
			p = problem{reasonNotReported, "the data plane says nothing of it"}
		case !v.sent.runs(cs):
			p = problem{cs.Reason, cs.Message}
			if p.reason == "" {
				p = problem{reasonOtherVersion, "the data plane runs another version of it"}
			}
		}
		if p.reason != "" {
			r.refused(c, v, p, now)
			continue
		}
		if cs.Reason != "" {
			// It runs, though not as it should: to be sent again, too.
			r.refused(c, v, problem{cs.Reason, cs.Message}, now)
		} else if c.failed.key == v.sent.key {
			r.recovered(c)
		}
		if c.good == nil || c.good.key != v.sent.key {
			c.good = v.sent
			var written []byte
			r.writeStatus(r.tenants[c.tenant].applied, c.name, v.sent.keep(), &written)
		}
	}
}

// recovered notes that a chain is what it should be.
func (r *Reconciler) recovered(c *chain) {
	c.failed = failure{}
	delete(r.failing, c)
}

// refused notes that the data plane does not run what was sent, and when it is to
// be sent again.
func (r *Reconciler) refused(c *chain, v verdict, p problem, now time.Time) {
	f, sent := &c.failed, v.sent
	if f.key != sent.key {
		if v.want != nil && f.key == v.want.key {
			return // what ran before has a problem of its own; that of what is wanted counts
		}
		*f = failure{key: sent.key}
	}
	if f.held {
		f.problem = p
		return // sent along with others, before its time
	}
	f.problem = p
	f.attempts++
	f.held = true
	f.until = now.Add(backoff(r.opts.Retry, r.opts.RetryMax, f.attempts))
	if full(p.reason) {
		// Trying costs, and nothing comes of it until others go.
		f.until = now.Add(backoff(r.opts.RetryMax, r.opts.RetryMax, 1))
	}
	if p.reason == reasonCodeMissing {
		for _, digest := range sent.digests() {
			r.modules.missing(digest)
		}
	}
	r.failing[c] = true
}

// full says whether a chain was refused for lack of room.
func full(reason string) bool {
	return reason == reasonCapacity || reason == reasonNoCapacity || reason == reasonQuota
}

// makeRoom has as many chains tried again as have gone, of those that there was
// no room for, the oldest first.
func (r *Reconciler) makeRoom(n int) {
	var waiting []*chain
	for c := range r.failing {
		if full(c.failed.reason) {
			waiting = append(waiting, c)
		}
	}
	sortChains(waiting)
	for _, c := range waiting[:min(n, len(waiting))] {
		c.failed.until = time.Time{}
	}
}
