package reconcile

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"sfc/ctrl/api"
	"sfc/ctrl/store"
)

// Reconciler makes the data plane what the store says.
type Reconciler struct {
	opts  Options
	inbox *inbox
	now   func() time.Time // with a monotonic part: a host whose clock is set must not make it wait

	writer *writer
	aside  sync.WaitGroup // followers and listeners
	spaces sync.Map       // tenant -> *store.Space, for those who compile
	look   chan struct{}  // a token: the data plane may have changed

	// What follows belongs to the loop.
	status  *store.Bucket // the host's
	tenants map[string]*tenant
	ports   map[string]*port
	modules *modules
	failing map[*chain]bool // those with a failure
	plane   planeView
	inUse   sync.Map // tenant -> []string, digests of what its chains run
}

// New makes a reconciler. [Reconciler.Run] does the work.
func New(opts Options) (*Reconciler, error) {
	if opts.Store == nil || opts.Space == nil || opts.Plane == nil || opts.Compiler == nil {
		return nil, errors.New("reconciler: Store, Space, Plane and Compiler are required")
	}
	r := &Reconciler{
		opts: opts.withDefaults(), inbox: newInbox(), now: time.Now,
		look:    make(chan struct{}, 1),
		tenants: map[string]*tenant{}, ports: map[string]*port{}, failing: map[*chain]bool{},
	}
	r.modules = newModules(&r.opts, opener(func(tenant string) *store.Space {
		sp, _ := r.spaces.Load(tenant)
		s, _ := sp.(*store.Space)
		return s
	}))
	return r, nil
}

// InUse returns the digests of the modules that a tenant's chains run or are
// about to: what must not be collected. ok is false as long as that is not known.
func (r *Reconciler) InUse(tenant string) (digests []string, ok bool) {
	v, ok := r.inUse.Load(tenant)
	digests, _ = v.([]string)
	return digests, ok
}

// Run reconciles until ctx ends. The error says why it could not begin.
func (r *Reconciler) Run(ctx context.Context) (err error) {
	ctx, stop := context.WithCancel(ctx)
	r.writer = newWriter(ctx, r.opts.Logger)
	defer func() {
		stop()
		for _, t := range r.tenants {
			t.stop()
		}
		r.writer.close()
		r.aside.Wait()
		r.modules.close(r.opts.Compiles)
	}()
	if err := r.begin(ctx); ctx.Err() != nil {
		return nil
	} else if err != nil {
		return fmt.Errorf("reconcile: %w", err)
	}
	r.aside.Go(func() { r.listen(ctx) })
	r.aside.Go(func() { r.relay(ctx) })
	r.plane.resync = r.now().Add(r.opts.Resync)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.inbox.wake:
		case <-r.look:
			r.plane.look = true
		case b := <-r.modules.built:
			r.modules.done(b, r.now())
			r.touched(b.digest)
		case <-timer.C:
		}
		r.absorb(ctx)
		r.round(ctx)
		timer.Reset(max(0, r.due().Sub(r.now())))
	}
}

// begin reads everything.
func (r *Reconciler) begin(ctx context.Context) error {
	system, err := r.opts.Store.System(ctx)
	if err != nil {
		return err
	}
	if r.status, err = system.Bucket(ctx, api.BucketStatus); err != nil {
		return err
	}
	for name, each := range map[string]func(store.Entry){
		api.BucketPorts:   func(e store.Entry) { r.absorbPort(ctx, e.Key, &e) },
		api.BucketTenants: func(e store.Entry) { r.absorbTenant(ctx, e.Key, &e) },
	} {
		b, err := system.Bucket(ctx, name)
		if err != nil {
			return err
		}
		f, err := load(b, each)
		if err != nil {
			return err
		}
		r.aside.Go(func() { f.run(ctx, source{"", name}, r.inbox) })
	}
	for name, s := range readAll[api.PortStatus](r.status) {
		if p := r.ports[name[min(len(name), len(api.BucketPorts)+1):]]; p != nil && name == api.StatusKey(api.BucketPorts, p.object.Metadata.Name) {
			p.status = *s
		}
	}
	return nil
}

// absorb takes in what changed in the store.
func (r *Reconciler) absorb(ctx context.Context) {
	changes := r.inbox.take()
	for key, e := range changes[source{"", api.BucketTenants}] {
		r.absorbTenant(ctx, key, e)
	}
	for key, e := range changes[source{"", api.BucketPorts}] {
		r.absorbPort(ctx, key, e)
	}
	for src, entries := range changes {
		t := r.tenants[src.tenant]
		if t == nil {
			continue
		}
		for key, e := range entries {
			r.absorbEntry(t, src.bucket, key, e)
		}
	}
}

// absorbTenant takes in a change of a tenant; e is nil when it is gone, with
// everything that it had.
func (r *Reconciler) absorbTenant(ctx context.Context, key string, e *store.Entry) {
	t := r.tenants[key]
	o, err := read[api.Tenant](e)
	if err != nil {
		r.opts.Logger.Error("object cannot be read", "bucket", api.BucketTenants, "key", key, "err", err)
		return
	}
	if t != nil && (o == nil || o.Metadata.UID != t.object.Metadata.UID) {
		r.closeTenant(key, t)
		t = nil
	}
	switch {
	case o == nil:
	case t == nil:
		r.addTenant(ctx, key, o)
	default:
		t.object, t.stale = o, true
		// What it may store may have changed, too.
		if _, err := r.opts.Space(ctx, o); err != nil {
			r.opts.Logger.Warn("tenant's space", "tenant", key, "err", err)
		}
	}
}

func (r *Reconciler) addTenant(ctx context.Context, key string, o *api.Tenant) {
	o.Metadata.Name = key
	t := r.openTenant(ctx, o)
	r.tenants[key] = t
	if t.err != nil {
		t.until = r.now().Add(backoff(r.opts.Retry, r.opts.RetryMax, 1))
		r.opts.Logger.Error("tenant cannot be read", "tenant", key, "err", t.err)
		r.event("error", reasonSpace, "", "", fmt.Sprintf("tenant %s cannot be read, what it runs goes on: %v", key, t.err))
	}
}

func (r *Reconciler) closeTenant(key string, t *tenant) {
	t.stop()
	for _, c := range t.chains {
		delete(r.failing, c)
	}
	r.spaces.Delete(key)
	r.inUse.Delete(key)
	delete(r.tenants, key)
}

// reopenTenants tries again to read tenants that could not be.
func (r *Reconciler) reopenTenants(ctx context.Context, now time.Time) {
	for key, t := range r.tenants {
		if t.err == nil || now.Before(t.until) {
			continue
		}
		attempts := t.attempts + 1
		r.closeTenant(key, t)
		again := r.openTenant(ctx, t.object)
		again.attempts = attempts
		again.until = now.Add(backoff(r.opts.Retry, r.opts.RetryMax, attempts+1))
		r.tenants[key] = again
	}
}

// touched notes that something about a module changed, which the statuses of
// versions tell.
func (r *Reconciler) touched(digest string) {
	for _, t := range r.tenants {
		if t.index.Has(digestPrefix + digest) {
			t.stale = true
		}
	}
}

// listen looks at the data plane when it says that something happened.
func (r *Reconciler) listen(ctx context.Context) {
	var after uint64
	for attempts := 0; ctx.Err() == nil; {
		events, err := r.opts.Plane.Events(ctx, after)
		if err != nil {
			attempts++
			select {
			case <-ctx.Done():
			case <-time.After(backoff(r.opts.Retry, r.opts.RetryMax, attempts)):
			}
			continue
		}
		attempts = 0
		for _, ev := range events {
			after = max(after, ev.Seq)
			if ev.Kind != "log" {
				poke(r.look)
			}
		}
		if len(events) == 0 {
			// Nobody who answers at once with nothing makes this spin.
			select {
			case <-ctx.Done():
			case <-time.After(r.opts.Retry):
			}
		}
	}
}

// relay passes on that the data plane was started again.
func (r *Reconciler) relay(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-r.opts.Changed:
			if !ok {
				return
			}
			poke(r.look)
		}
	}
}
