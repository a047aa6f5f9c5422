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
)

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
