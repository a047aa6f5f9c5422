package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"sfc/ctrl/api"
	"sfc/ctrl/functions"
	"sfc/ctrl/functions/sign"
	"sfc/ctrl/server"
	"sfc/ctrl/store"
)

// functionStores is the function stores of all tenants as the server wants them.
type functionStores struct {
	store *store.Store
	spool string
	// inUse are the digests of what a tenant's chains run; ok is false while
	// that is not known.
	inUse func(tenant string) (digests []string, ok bool)

	mu   sync.Mutex
	open map[string]*tenantFunctions
}

// tenantFunctions is a tenant's, good as long as its space is the one it was
// opened in: a tenant that was deleted and made again has another.
type tenantFunctions struct {
	*functions.Store
	space *store.Space
}

// of returns the function store of a tenant, which the server knows to exist.
func (fs *functionStores) of(ctx context.Context, tenant string) (*tenantFunctions, error) {
	system, err := fs.store.System(ctx)
	if err != nil {
		return nil, err
	}
	tenants, err := system.Bucket(ctx, api.BucketTenants)
	if err != nil {
		return nil, err
	}
	e, err := tenants.Get(tenant)
	if err != nil {
		return nil, err
	}
	var t api.Tenant
	if err := json.Unmarshal(e.Value, &t); err != nil {
		return nil, fmt.Errorf("read tenant %s: %w", tenant, err)
	}
	space, err := fs.store.Tenant(ctx, tenant, server.StoreLimits(t.Spec))
	if err != nil {
		return nil, err
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if have := fs.open[tenant]; have != nil && have.space == space {
		return have, nil
	}
	s, err := functions.Open(ctx, space, functions.Options{Spool: fs.spool})
	if err != nil {
		return nil, err
	}
	if fs.open == nil {
		fs.open = map[string]*tenantFunctions{}
	}
	fs.open[tenant] = &tenantFunctions{s, space}
	return fs.open[tenant], nil
}

// references are those of all chains of the tenant.
func (t *tenantFunctions) references(ctx context.Context) (refs []string, err error) {
	chains, err := t.space.Bucket(ctx, api.BucketChains)
	if err != nil {
		return nil, err
	}
	page, err := chains.List("", 0, "")
	if err != nil {
		return nil, err
	}
	for _, e := range page.Entries {
		var c api.Chain
		if err := json.Unmarshal(e.Value, &c); err != nil {
			return nil, fmt.Errorf("read chain %s: %w", e.Key, err)
		}
		for _, f := range c.Spec.Functions {
			refs = append(refs, f.Module)
		}
	}
	return refs, nil
}

// Deploy implements server.FunctionStore.
func (fs *functionStores) Deploy(ctx context.Context, tenant string, d server.Deploy, module io.Reader) (*api.Function, bool, error) {
	t, err := fs.of(ctx, tenant)
	if err != nil {
		return nil, false, err
	}
	u := functions.Upload{Name: d.Function, Version: d.Version, Module: module, Digest: d.Digest, Source: d.Source, By: d.By}
	if len(d.Signature) > 0 {
		u.Signature = &sign.Signature{}
		if copy(u.Signature.Bytes[:], d.Signature) != len(u.Signature.Bytes) || len(d.Signature) > len(u.Signature.Bytes) {
			return nil, false, api.Invalid(api.At("Sfc-Signature", "%d bytes: an ed25519 signature has %d", len(d.Signature), len(u.Signature.Bytes)))
		}
	}
	f, created, err := t.Put(ctx, u, functions.PolicyOf(&d.Quota))
	return f, created, asProblem(err)
}

// DeleteVersion implements server.FunctionStore.
func (fs *functionStores) DeleteVersion(ctx context.Context, tenant, function, version string, revision uint64) error {
	t, err := fs.of(ctx, tenant)
	if err != nil {
		return err
	}
	refs, err := t.references(ctx)
	if err != nil {
		return err
	}
	return asProblem(t.Delete(ctx, function, version, versionText(revision), refs))
}

// OpenModule implements server.FunctionStore.
func (fs *functionStores) OpenModule(ctx context.Context, tenant, function, version string) (io.ReadCloser, int64, error) {
	t, err := fs.of(ctx, tenant)
	if err != nil {
		return nil, 0, err
	}
	f, err := t.Get(function, version)
	if err != nil {
		return nil, 0, asProblem(err)
	}
	r, size, err := t.Open(ctx, f.Spec.Digest)
	if err != nil {
		return nil, 0, asProblem(err)
	}
	if c, ok := r.(io.ReadCloser); ok {
		return c, size, nil
	}
	return io.NopCloser(r), size, nil
}

// SetAlias implements server.FunctionStore.
func (fs *functionStores) SetAlias(ctx context.Context, tenant string, a *api.Alias, revision uint64, absent bool, by string) (*api.Alias, bool, error) {
	t, err := fs.of(ctx, tenant)
	if err != nil {
		return nil, false, err
	}
	expected := versionText(revision)
	if absent {
		expected = "0"
	}
	_, err = t.Alias(a.Spec.Function, a.Metadata.Name)
	created := errors.Is(err, store.ErrNotFound)
	set, err := t.Store.SetAlias(ctx, a.Spec.Function, a.Metadata.Name, a.Spec, expected, by)
	return set, created && err == nil, asProblem(err)
}

// DeleteAlias implements server.FunctionStore.
func (fs *functionStores) DeleteAlias(ctx context.Context, tenant, function, alias string, revision uint64) error {
	t, err := fs.of(ctx, tenant)
	if err != nil {
		return err
	}
	refs, err := t.references(ctx)
	if err != nil {
		return err
	}
	return asProblem(t.Store.DeleteAlias(ctx, function, alias, versionText(revision), refs))
}

// move changes what an alias stands for.
func (fs *functionStores) move(ctx context.Context, tenant, function, alias string, revision uint64, by string,
	how func(s *functions.Store, ctx context.Context, function, alias, resourceVersion, by string) (*api.Alias, error)) (*api.Alias, error) {
	t, err := fs.of(ctx, tenant)
	if err != nil {
		return nil, err
	}
	a, err := how(t.Store, ctx, function, alias, versionText(revision), by)
	return a, asProblem(err)
}

// Rollback implements server.FunctionStore.
func (fs *functionStores) Rollback(ctx context.Context, tenant, function, alias string, revision uint64, by string) (*api.Alias, error) {
	return fs.move(ctx, tenant, function, alias, revision, by, (*functions.Store).Rollback)
}

// Promote implements server.FunctionStore.
func (fs *functionStores) Promote(ctx context.Context, tenant, function, alias string, revision uint64, by string) (*api.Alias, error) {
	return fs.move(ctx, tenant, function, alias, revision, by, (*functions.Store).Promote)
}

// Abort implements server.FunctionStore.
func (fs *functionStores) Abort(ctx context.Context, tenant, function, alias string, revision uint64, by string) (*api.Alias, error) {
	return fs.move(ctx, tenant, function, alias, revision, by, (*functions.Store).Abort)
}

// Collect implements server.FunctionStore.
func (fs *functionStores) Collect(ctx context.Context, tenant string, grace time.Duration, dryRun bool) (*api.Collected, error) {
	t, err := fs.of(ctx, tenant)
	if err != nil {
		return nil, err
	}
	refs, err := t.references(ctx)
	if err != nil {
		return nil, err
	}
	running, ok := fs.inUse(tenant)
	if !ok {
		return nil, api.NewProblem(http.StatusServiceUnavailable, api.ReasonUnavailable, "it is not known yet what the chains of %s run: try again in a moment", tenant)
	}
	c, err := t.Store.Collect(ctx, refs, running, grace, dryRun)
	if err != nil {
		return nil, asProblem(err)
	}
	out := &api.Collected{Versions: []api.CollectedVersion{}, Modules: len(c.Modules), Bytes: c.Bytes, DryRun: dryRun}
	for _, f := range c.Versions {
		out.Versions = append(out.Versions, api.CollectedVersion{
			Function: f.Metadata.Name, Version: f.Spec.Version, Digest: f.Spec.Digest, Size: f.Spec.Size, CreatedAt: f.Metadata.CreatedAt,
		})
	}
	return out, nil
}

// versionText is a revision as a resource version; 0 is any.
func versionText(revision uint64) string {
	if revision == 0 {
		return ""
	}
	var m api.Metadata
	m.SetRevision(revision)
	return m.ResourceVersion
}

// asProblem says what the function store's errors are to a client; those of the
// store below it the server knows.
func asProblem(err error) error {
	for _, known := range []struct {
		is     error
		status int
		reason string
	}{
		{functions.ErrUntrusted, http.StatusUnprocessableEntity, api.ReasonUnsigned},
		{functions.ErrRejected, http.StatusUnprocessableEntity, api.ReasonRejected},
		{functions.ErrImmutable, http.StatusConflict, api.ReasonExists},
		{functions.ErrName, http.StatusUnprocessableEntity, api.ReasonInvalid},
		{functions.ErrCanary, http.StatusUnprocessableEntity, api.ReasonInvalid},
		{functions.ErrInUse, http.StatusConflict, api.ReasonInUse},
		// Also where it is another thing than that of the path: an alias's version.
		{store.ErrNotFound, http.StatusNotFound, api.ReasonNotFound},
	} {
		if errors.Is(err, known.is) {
			return api.NewProblem(known.status, known.reason, "%v", err)
		}
	}
	if limit, ok := errors.AsType[*functions.LimitError](err); ok {
		return api.NewProblem(http.StatusForbidden, api.ReasonQuota, "%v", limit)
	}
	return err
}
