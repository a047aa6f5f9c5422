package reconcile

import (
	"context"
	"crypto/sha256"
	"time"

	"sfc/ctrl/plane"
)

// planeView is what is known of the data plane.
type planeView struct {
	known    bool // it was looked at since it was reachable last
	revision uint64
	started  time.Time
	restarts int
	seen     plane.Observed
	chains   map[string]*plane.ChainStatus // of seen, by tenant/chain

	sent   [sha256.Size]byte // what was applied last
	force  bool              // apply even if that is the same
	look   bool              // observe, it may have changed
	looked time.Time
	took   time.Duration // of looking
	resync time.Time

	err      error // why it cannot be reached
	attempts int
	until    time.Time
	retried  time.Time // when chains that had failed were tried again last
	applying time.Duration
	count    int // chains sent last
}

// observe looks at the data plane if it is time to.
func (r *Reconciler) observe(ctx context.Context, now time.Time) {
	p := &r.plane
	if now.Before(p.until) || !p.look && now.Before(p.looked.Add(r.opts.Observe)) || now.Before(p.looked.Add(20*p.took)) {
		return
	}
	within, cancel := context.WithTimeout(ctx, r.opts.Timeout)
	o, err := r.opts.Plane.Observe(within)
	cancel()
	p.looked, p.took, p.look = now, r.now().Sub(now), false
	if err != nil {
		r.lost(ctx, err, now)
		return
	}
	r.reached(&o)
	r.see(o)
	if p.revision > 0 && o.Revision != p.revision {
		p.force = true // somebody else applied, or it lost what was applied
	}
	for _, t := range r.tenants {
		for _, c := range t.chains {
			// What it took, it should still run.
			if c.good == nil {
				continue
			}
			cs := p.chains[c.tenant+"/"+c.name]
			switch bad := cs == nil || !c.good.runs(cs); {
			case !bad && cs.Reason == "" && c.failed.key == c.good.key:
				r.recovered(c)
			case bad && !c.failed.held:
				p.force = true
			}
		}
	}
}

// reached notes that the data plane answers, and forgets what was known of one
// that is another now.
func (r *Reconciler) reached(o *plane.Observed) {
	p := &r.plane
	if p.err != nil {
		r.opts.Logger.Info("data plane is back")
		r.event("info", "DataPlaneBack", "", "", "the data plane answers again")
	}
	p.err, p.attempts, p.until = nil, 0, time.Time{}
	if p.known && p.started.Equal(o.Started) && p.restarts == o.Restarts {
		return
	}
	if p.known {
		r.opts.Logger.Warn("data plane was started again", "restarts", o.Restarts)
		r.event("warning", "DataPlaneRestarted", "", "", "the data plane was started again; everything is applied anew")
	}
	p.known, p.started, p.restarts, p.force = true, o.Started, o.Restarts, true
	p.revision = max(p.revision, o.Revision)
	has := map[string]bool{}
	for _, c := range o.Chains {
		for _, f := range c.Functions {
			has[f.Code] = true
			has[f.Canary] = true
		}
	}
	delete(has, "")
	r.modules.present(has)
}

// lost notes that the data plane does not answer.
func (r *Reconciler) lost(ctx context.Context, err error, now time.Time) {
	if ctx.Err() != nil {
		return
	}
	p := &r.plane
	if p.err == nil {
		r.opts.Logger.Warn("data plane does not answer", "err", err)
		r.event("warning", reasonDown, "", "", "the data plane does not answer: "+err.Error())
	}
	p.err = err
	p.attempts++
	p.force = true // whether it got what was sent is unknown
	p.until = now.Add(backoff(r.opts.Retry/10, r.opts.RetryMax/12, p.attempts))
}

// see takes in what the data plane says of itself.
func (r *Reconciler) see(o plane.Observed) {
	r.plane.seen = o
	r.plane.chains = make(map[string]*plane.ChainStatus, len(o.Chains))
	for i := range o.Chains {
		c := &o.Chains[i]
		r.plane.chains[c.Tenant+"/"+c.Name] = c
	}
}
