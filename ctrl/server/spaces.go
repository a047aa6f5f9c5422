package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"sfc/ctrl/api"
	"sfc/ctrl/store"
)

// spaces finds the buckets of the host and of tenants.
type spaces struct {
	store   *store.Store
	system  *store.Space
	tenants *store.Bucket

	mu    sync.Mutex
	locks map[string]*sync.RWMutex // of tenants
	known map[string]knownSpace    // of tenants
}

// knownSpace is a tenant's space, with the limits of a version of the tenant.
type knownSpace struct {
	*store.Space
	version string
}

func openSpaces(ctx context.Context, st *store.Store, system *store.Space) (*spaces, error) {
	sp := &spaces{store: st, system: system, locks: map[string]*sync.RWMutex{}, known: map[string]knownSpace{}}
	var err error
	sp.tenants, err = system.Bucket(ctx, api.BucketTenants)
	return sp, err
}

// stateBytes is what a tenant may keep besides its modules: chains, aliases and
// what is observed of them.
const stateBytes = 256 << 20

// StoreLimits returns the limits of a tenant's space in the store.
func StoreLimits(spec api.TenantSpec) store.Limits {
	if spec.ModuleBytes == 0 {
		return store.Limits{}
	}
	return store.Limits{Bytes: int64(spec.ModuleBytes) + stateBytes}
}

// tenant returns a tenant as it is stored, or the problem that there is none.
func (sp *spaces) tenant(name string) (*api.Tenant, error) {
	e, err := sp.tenants.Get(name)
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrName) {
		return nil, notFound()
	} else if err != nil {
		return nil, err
	}
	t := &api.Tenant{}
	if err := json.Unmarshal(e.Value, t); err != nil {
		return nil, fmt.Errorf("read tenant %s: %w", name, err)
	}
	t.Metadata.SetRevision(e.Revision)
	return t, nil
}

// space returns the space of a tenant, which must exist; "" is the host's.
func (sp *spaces) space(ctx context.Context, tenant string) (*store.Space, error) {
	if tenant == "" {
		return sp.system, nil
	}
	t, err := sp.tenant(tenant)
	if err != nil {
		return nil, err
	}
	sp.mu.Lock()
	known, ok := sp.known[tenant]
	sp.mu.Unlock()
	if ok && known.version == t.Metadata.ResourceVersion {
		return known.Space, nil
	}
	space, err := sp.store.Tenant(ctx, tenant, StoreLimits(t.Spec))
	if err != nil {
		return nil, err
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.known[tenant] = knownSpace{space, t.Metadata.ResourceVersion}
	return space, nil
}

// forget lets go of the space of a tenant that is being deleted.
func (sp *spaces) forget(tenant string) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	delete(sp.known, tenant)
}

// bucket returns a bucket of a tenant, which must exist; "" is the host's.
func (sp *spaces) bucket(ctx context.Context, tenant, name string) (*store.Bucket, error) {
	space, err := sp.space(ctx, tenant)
	if err != nil {
		return nil, err
	}
	return space.Bucket(ctx, name)
}

// lock returns what everybody holds who changes something of a tenant, shared,
// and whoever deletes the tenant, alone.
func (sp *spaces) lock(tenant string) *sync.RWMutex {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	l := sp.locks[tenant]
	if l == nil {
		l = &sync.RWMutex{}
		sp.locks[tenant] = l
	}
	return l
}
