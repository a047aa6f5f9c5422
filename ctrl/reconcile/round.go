package reconcile

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"time"

	"sfc/ctrl/api"
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

// round looks at everything and does what can be done now.
func (r *Reconciler) round(ctx context.Context) {
	now := r.now()
	r.reopenTenants(ctx, now)
	r.findPorts(ctx, now)
	r.retry(now)
	r.observe(ctx, now)
	d := desire(r.snapshot())
	if !r.handOver(ctx, &d, now) {
		// What was refused is not ready after all, so less is sent.
		d = desire(r.snapshot())
	}
	for digest, tenant := range d.needed {
		r.modules.want(digest, tenant, true, now)
	}
	r.apply(ctx, &d, now)
	r.write(&d, now)
	r.modules.start(ctx)
}

// snapshot collects what decides.
func (r *Reconciler) snapshot() *snapshot {
	s := &snapshot{ports: r.planePorts(), codes: r.modules.states()}
	for _, t := range r.tenants {
		view := tenantView{tenant: t.object, index: t.index, chains: t.order()}
		view.ports, view.everywhere = r.portView(t.object.Metadata.Name)
		s.tenants = append(s.tenants, view)
	}
	slices.SortFunc(s.tenants, func(a, b tenantView) int { return strings.Compare(a.tenant.Metadata.Name, b.tenant.Metadata.Name) })
	return s
}

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

// named returns the digests of the modules of all chains that are sent.
func (d *decision) named() map[string]bool {
	named := map[string]bool{}
	for _, v := range d.verdicts {
		if v.sent == nil {
			continue
		}
		for _, digest := range v.sent.digests() {
			named[digest] = true
		}
	}
	return named
}

// handOver gives the data plane the modules that it is about to need. ok is false
// when it refused one.
func (r *Reconciler) handOver(ctx context.Context, d *decision, now time.Time) (ok bool) {
	if now.Before(r.plane.until) || !r.plane.known {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, r.opts.Timeout)
	defer cancel()
	handed, ok := r.modules.put(d.named(), func(digest string, file *os.File) error { return r.opts.Plane.PutCode(ctx, digest, file) }, now)
	r.plane.force = r.plane.force || handed
	return ok
}

// apply sends what is desired, if that is not what was sent last.
func (r *Reconciler) apply(ctx context.Context, d *decision, now time.Time) {
	p := &r.plane
	if now.Before(p.until) || !p.known {
		return
	}
	if !now.Before(p.resync) {
		p.force, p.resync = true, now.Add(r.opts.Resync)
		r.rewrite()
	}
	sum := fingerprint(d)
	if sum == p.sent && !p.force {
		return
	}
	p.revision++
	d.desired.Revision = p.revision
	within, cancel := context.WithTimeout(ctx, r.opts.Timeout)
	o, err := r.opts.Plane.Apply(within, d.desired)
	cancel()
	p.applying = r.now().Sub(now)
	if err != nil {
		r.lost(ctx, err, now)
		return
	}
	p.sent, p.force, p.looked = sum, false, now
	r.reached(&o)
	r.see(o)
	r.modules.forget(d.named())
	r.judged(d, now)
	if n := len(d.desired.Chains); n < p.count {
		r.makeRoom(p.count - n)
	}
	p.count = len(d.desired.Chains)
}

// fingerprint is the same for what is the same to the data plane.
func fingerprint(d *decision) (sum [sha256.Size]byte) {
	h := sha256.New()
	enc := json.NewEncoder(h)
	_ = enc.Encode(d.desired.Ports) // a hash takes everything
	_ = enc.Encode(d.desired.Tenants)
	// In the order of desired.Chains, which the verdicts have not.
	keys := make(map[string]string, len(d.verdicts))
	for c, v := range d.verdicts {
		if v.sent != nil {
			keys[c.tenant+"/"+c.name] = v.sent.key
		}
	}
	for i := range d.desired.Chains {
		name := d.desired.Chains[i].Tenant + "/" + d.desired.Chains[i].Name
		h.Write([]byte(name + "\x00" + keys[name] + "\x00"))
	}
	h.Sum(sum[:0])
	return sum
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

// write writes what changed in any status.
func (r *Reconciler) write(d *decision, now time.Time) {
	var down problem
	if r.plane.err != nil {
		down = problem{reasonDown, r.plane.err.Error()}
	}
	used, stored := map[string]bool{}, map[string]bool{}
	for name, t := range r.tenants {
		mine := map[string]bool{}
		for _, c := range t.chains {
			v := d.verdicts[c]
			for _, w := range []*wanted{v.want, v.sent, c.good} {
				if w != nil {
					for _, digest := range w.digests() {
						mine[digest], used[digest] = true, true
					}
				}
			}
			if !c.gone {
				r.writeChain(t, c, v, r.plane.chains[c.tenant+"/"+c.name], down, now)
			}
		}
		r.note(name, mine)
		if t.stale {
			r.writeFunctions(t, now)
		}
		t.index.Digests(func(digest string) { stored[trim(digest)] = true })
	}
	r.writePorts(&r.plane.seen, down, now)
	r.modules.settle(used, stored)
}

// rewrite compares what the store has of all statuses with what should be there.
func (r *Reconciler) rewrite() {
	for _, t := range r.tenants {
		t.stale = true
		for _, c := range t.chains {
			if c.written != nil {
				r.writer.set(t.status, api.StatusKey(api.BucketChains, c.name), c.written)
			}
		}
	}
}

// note makes known which modules a tenant's chains use.
func (r *Reconciler) note(tenant string, digests map[string]bool) {
	all := make([]string, 0, len(digests))
	for d := range digests {
		all = append(all, d)
	}
	r.inUse.Store(tenant, all)
}

// due returns when the next round is to be, if nothing happens before.
func (r *Reconciler) due() time.Time {
	p := &r.plane
	at := p.looked.Add(max(r.opts.Observe, 20*p.took))
	if p.look {
		at = p.looked.Add(20 * p.took)
	}
	if p.known && p.resync.Before(at) {
		at = p.resync
	}
	if !p.until.IsZero() {
		at = p.until // nothing else can be done before
	} else if p.force {
		at = p.looked
	}
	earlier := func(t time.Time) {
		if !t.IsZero() && t.Before(at) {
			at = t
		}
	}
	if p.until.IsZero() {
		retries := p.retried.Add(10 * p.applying)
		for c := range r.failing {
			if !c.failed.held {
				continue
			}
			if t := c.failed.until; t.Before(retries) {
				earlier(retries)
			} else {
				earlier(t)
			}
		}
	}
	earlier(r.modules.due())
	for _, x := range r.ports {
		earlier(x.until)
	}
	for _, t := range r.tenants {
		if t.err != nil {
			earlier(t.until)
		}
	}
	return at
}
