package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"sfc/ctrl/api"
	"sfc/ctrl/functions"
	"sfc/ctrl/store"
)

// tenant is a tenant with all that is known of it. It belongs to the loop.
type tenant struct {
	object  *api.Tenant
	index   *functions.Index
	chains  map[string]*chain
	sorted  []*chain // nil: to be sorted again
	status  *store.Bucket
	applied *store.Bucket
	stop    context.CancelFunc // ends the followers

	functions map[string]*api.FunctionStatus // as written last
	aliases   map[string]*api.AliasStatus
	stale     bool // the statuses of functions and aliases may not be right

	// err is why its buckets cannot be read; then what ran last goes on.
	err      error
	attempts int
	until    time.Time
}

// openTenant reads all of a tenant and follows it from there. Part of it may be
// out of service: err says so, and the tenant is good for what is left.
func (r *Reconciler) openTenant(ctx context.Context, o *api.Tenant) *tenant {
	t := &tenant{
		object: o, index: functions.NewIndex(), chains: map[string]*chain{}, stale: true,
		functions: map[string]*api.FunctionStatus{}, aliases: map[string]*api.AliasStatus{},
	}
	ctx, t.stop = context.WithCancel(ctx)
	sp, err := r.opts.Space(ctx, o)
	if err != nil {
		t.err = err
		return t
	}
	r.spaces.Store(o.Metadata.Name, sp)
	var errs []error
	bucket := func(name string) *store.Bucket {
		b, err := sp.Bucket(ctx, name)
		errs = append(errs, err)
		return b
	}
	t.status, t.applied = bucket(api.BucketStatus), bucket(BucketApplied)
	good := readAll[kept](t.applied)
	var followers []func()
	for _, name := range []string{api.BucketFunctions, api.BucketAliases, api.BucketKeys, api.BucketChains} {
		b := bucket(name)
		if b == nil {
			continue
		}
		f, err := load(b, func(e store.Entry) { r.absorbEntry(t, name, e.Key, &e) })
		errs = append(errs, err)
		if err == nil {
			src := source{o.Metadata.Name, name}
			followers = append(followers, func() { r.aside.Go(func() { f.run(ctx, src, r.inbox) }) })
		}
	}
	t.err = errors.Join(errs...)
	r.restore(t, good)
	for _, follow := range followers {
		follow()
	}
	return t
}

// readAll reads the values of a bucket that make sense, by key; none without a
// bucket.
func readAll[T any](b *store.Bucket) map[string]*T {
	all := map[string]*T{}
	if b == nil {
		return all
	}
	page, err := b.List("", 0, "")
	if err != nil {
		return all
	}
	for _, e := range page.Entries {
		v := new(T)
		if json.Unmarshal(e.Value, v) == nil {
			all[e.Key] = v
		}
	}
	return all
}

// restore gives chains what they ran last and what was written of them, and
// removes what is left of those that are gone. While chains cannot be read, those
// that ran stand in for themselves.
func (r *Reconciler) restore(t *tenant, good map[string]*kept) {
	for name, k := range good {
		c := t.chains[name]
		if c == nil && t.err != nil {
			c = &chain{tenant: t.object.Metadata.Name, name: name, gone: true, generation: k.Chain.Generation}
			t.chains[name] = c
		}
		if c == nil {
			r.writer.set(t.applied, name, nil)
			continue
		}
		c.good = k.wanted()
	}
	if t.status == nil {
		return
	}
	page, err := t.status.List("", 0, "")
	if err != nil {
		return
	}
	for _, e := range page.Entries {
		bucket, key, _ := strings.Cut(e.Key, "/")
		if !r.restoreStatus(t, bucket, key, e.Value) && t.err == nil {
			r.writer.set(t.status, e.Key, nil)
		}
	}
}

// restoreStatus takes in what was written of an object; false when there is none
// such.
func (r *Reconciler) restoreStatus(t *tenant, bucket, key string, value []byte) bool {
	switch bucket {
	case api.BucketChains:
		c := t.chains[key]
		if c == nil {
			return false
		}
		if json.Unmarshal(value, &c.status) == nil {
			c.written = value
		}
	case api.BucketFunctions:
		f := t.index.Version(key)
		if f == nil {
			return false
		}
		s := &api.FunctionStatus{}
		if json.Unmarshal(value, s) == nil {
			t.functions[key] = s
			if s.Conditions.IsTrue(api.Ready) {
				r.modules.known(trim(f.Spec.Digest), t.object.Metadata.Name)
			}
		}
	case api.BucketAliases:
		if t.index.Alias(key) == nil {
			return false
		}
		s := &api.AliasStatus{}
		if json.Unmarshal(value, s) == nil {
			t.aliases[key] = s
		}
	}
	return true
}

// absorbEntry takes in a change of one of a tenant's objects; e is nil when it is
// gone.
func (r *Reconciler) absorbEntry(t *tenant, bucket, key string, e *store.Entry) {
	switch bucket {
	case api.BucketChains:
		r.absorbChain(t, key, e)
		return
	case api.BucketFunctions:
		f, err := read[api.Function](e)
		t.index.SetVersion(key, f)
		r.complain(t, bucket, key, err)
		if e == nil {
			delete(t.functions, key)
		}
	case api.BucketAliases:
		a, err := read[api.Alias](e)
		t.index.SetAlias(key, a)
		r.complain(t, bucket, key, err)
		if e == nil {
			delete(t.aliases, key)
		}
	case api.BucketKeys:
		k, err := read[api.Key](e)
		t.index.SetKey(key, k)
		r.complain(t, bucket, key, err)
	}
	t.stale = true
	if e == nil {
		r.writer.set(t.status, api.StatusKey(bucket, key), nil)
	}
}

func (r *Reconciler) absorbChain(t *tenant, key string, e *store.Entry) {
	old := t.chains[key]
	t.sorted = nil
	if e == nil {
		delete(t.chains, key)
		delete(r.failing, old)
		r.writer.set(t.status, api.StatusKey(api.BucketChains, key), nil)
		r.writer.set(t.applied, key, nil)
		return
	}
	o, err := read[api.Chain](e)
	var c *chain
	if err != nil {
		c = &chain{tenant: t.object.Metadata.Name, name: key, invalid: problem{reasonSpec, err.Error()}}
	} else {
		c = newChain(t.object.Metadata.Name, o)
	}
	if old != nil {
		c.good, c.failed = old.good, old.failed
		if c.uid == old.uid || err != nil {
			c.status, c.written = old.status, old.written
		}
		if r.failing[old] {
			delete(r.failing, old)
			r.failing[c] = true
		}
	}
	t.chains[key] = c
}

// read decodes an object, nil of none.
func read[T any](e *store.Entry) (*T, error) {
	if e == nil {
		return nil, nil
	}
	o := new(T)
	if err := json.Unmarshal(e.Value, o); err != nil {
		return nil, fmt.Errorf("object %s: %w", e.Key, err)
	}
	return o, nil
}

func (r *Reconciler) complain(t *tenant, bucket, key string, err error) {
	if err != nil {
		r.opts.Logger.Error("object cannot be read", "tenant", t.object.Metadata.Name, "bucket", bucket, "key", key, "err", err)
	}
}

// order returns the chains in the order in which they came.
func (t *tenant) order() []*chain {
	if t.sorted == nil {
		t.sorted = make([]*chain, 0, len(t.chains))
		for _, c := range t.chains {
			t.sorted = append(t.sorted, c)
		}
		sortChains(t.sorted)
	}
	return t.sorted
}
