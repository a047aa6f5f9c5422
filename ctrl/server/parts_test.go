package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"sfc/ctrl/api"
	"sfc/ctrl/plane"
	"sfc/ctrl/store"
)

// keptFunctions is a function store that checks nothing: what a module is, is
// not the server's business. What it keeps, it keeps in the real store.
type keptFunctions struct{ store *store.Store }

func (k *keptFunctions) bucket(ctx context.Context, tenant, name string) (*store.Bucket, *store.Modules, error) {
	space, err := k.store.Tenant(ctx, tenant, store.Limits{})
	if err != nil {
		return nil, nil, err
	}
	m, err := space.Modules(ctx)
	if err != nil {
		return nil, nil, err
	}
	b, err := space.Bucket(ctx, name)
	return b, m, err
}

func (k *keptFunctions) Deploy(ctx context.Context, tenant string, d Deploy, module io.Reader) (*api.Function, bool, error) {
	b, m, err := k.bucket(ctx, tenant, api.BucketFunctions)
	if err != nil {
		return nil, false, err
	}
	mod, err := m.Put(ctx, module, store.PutOptions{MaxSize: d.MaxSize, Digest: strings.TrimPrefix(d.Digest, "sha256:")})
	if err != nil {
		return nil, false, err
	}
	f := &api.Function{
		Metadata: api.Metadata{Name: d.Function, Tenant: tenant, Generation: 1},
		Spec: api.FunctionSpec{
			Version: d.Version, Digest: "sha256:" + mod.Digest, Size: mod.Size,
			Provenance: api.Provenance{Source: d.Source, UploadedBy: d.By, UploadedAt: time.Now()},
		},
	}
	value, err := json.Marshal(f)
	if err != nil {
		return nil, false, err
	}
	revision, err := b.Create(ctx, api.StoreKey(f), value)
	if errors.Is(err, store.ErrExists) {
		e, err := b.Get(api.StoreKey(f))
		if err != nil {
			return nil, false, err
		}
		var have api.Function
		if err := json.Unmarshal(e.Value, &have); err != nil || have.Spec.Digest != f.Spec.Digest {
			return nil, false, errors.Join(err, api.NewProblem(http.StatusConflict, api.ReasonExists, "the version is there"))
		}
		have.Metadata.SetRevision(e.Revision)
		return &have, false, nil
	}
	f.Metadata.SetRevision(revision)
	return f, true, err
}

func (k *keptFunctions) DeleteVersion(ctx context.Context, tenant, function, version string, revision uint64) error {
	return k.remove(ctx, tenant, api.BucketFunctions, api.FunctionKey(function, version), revision)
}

func (k *keptFunctions) remove(ctx context.Context, tenant, bucket, key string, revision uint64) error {
	b, _, err := k.bucket(ctx, tenant, bucket)
	if err != nil {
		return err
	}
	e, err := b.Get(key)
	if err == nil {
		if revision == 0 {
			revision = e.Revision
		}
		_, err = b.Delete(ctx, key, revision)
	}
	return err
}

func (k *keptFunctions) OpenModule(ctx context.Context, tenant, function, version string) (io.ReadCloser, int64, error) {
	b, m, err := k.bucket(ctx, tenant, api.BucketFunctions)
	if err != nil {
		return nil, 0, err
	}
	e, err := b.Get(api.FunctionKey(function, version))
	if err != nil {
		return nil, 0, err
	}
	var f api.Function
	if err := json.Unmarshal(e.Value, &f); err != nil {
		return nil, 0, err
	}
	r, mod, err := m.Open(ctx, strings.TrimPrefix(f.Spec.Digest, "sha256:"))
	return io.NopCloser(r), mod.Size, err
}

func (k *keptFunctions) SetAlias(ctx context.Context, tenant string, a *api.Alias, revision uint64, absent bool, _ string) (*api.Alias, bool, error) {
	b, _, err := k.bucket(ctx, tenant, api.BucketAliases)
	if err != nil {
		return nil, false, err
	}
	e, err := b.Get(api.StoreKey(a))
	a.Metadata.Generation = 1
	if err == nil {
		var old api.Alias
		if err := json.Unmarshal(e.Value, &old); err != nil {
			return nil, false, err
		}
		a.Metadata.Generation = old.Metadata.Generation + 1
		if revision == 0 {
			revision = e.Revision
		}
	}
	value, merr := json.Marshal(a)
	if merr != nil {
		return nil, false, merr
	}
	made := errors.Is(err, store.ErrNotFound)
	if absent || made && revision == 0 {
		revision, err = b.Create(ctx, api.StoreKey(a), value)
	} else {
		revision, err = b.Update(ctx, api.StoreKey(a), value, revision)
	}
	a.Metadata.SetRevision(revision)
	return a, made, err
}

func (k *keptFunctions) DeleteAlias(ctx context.Context, tenant, function, alias string, revision uint64) error {
	return k.remove(ctx, tenant, api.BucketAliases, api.AliasKey(function, alias), revision)
}

func (k *keptFunctions) Promote(ctx context.Context, tenant, function, alias string, revision uint64, by string) (*api.Alias, error) {
	return k.Rollback(ctx, tenant, function, alias, revision, by)
}

func (k *keptFunctions) Abort(ctx context.Context, tenant, function, alias string, revision uint64, by string) (*api.Alias, error) {
	return k.Rollback(ctx, tenant, function, alias, revision, by)
}

// Collect removes nothing, and tells what it was asked for.
func (k *keptFunctions) Collect(_ context.Context, _ string, grace time.Duration, dryRun bool) (*api.Collected, error) {
	return &api.Collected{Versions: []api.CollectedVersion{}, Bytes: int64(grace / time.Second), DryRun: dryRun}, nil
}

func (k *keptFunctions) Rollback(ctx context.Context, tenant, function, alias string, revision uint64, by string) (*api.Alias, error) {
	a := &api.Alias{Metadata: api.Metadata{Name: alias, Tenant: tenant}, Spec: api.AliasSpec{Function: function, Version: "1.0.0"}}
	a, _, err := k.SetAlias(ctx, tenant, a, revision, false, by)
	return a, err
}

// onePlane answers for two tenants, and does not look at whom it is asked about:
// the server must not rely on it.
type onePlane struct{ plane.Plane }

func (*onePlane) Observe(context.Context) (plane.Observed, error) {
	return plane.Observed{Started: time.Unix(1, 0)}, nil
}

func (*onePlane) Stats(context.Context) (plane.Stats, error) {
	return plane.Stats{
		Time: time.Unix(1, 0).UTC(), Workers: []plane.WorkerStats{{Core: 1}}, Ports: []plane.PortStats{{Name: "in"}},
		Chains: []plane.ChainStats{
			{Tenant: "acme", Name: "edge", Packets: 7, Functions: []plane.FunctionStats{{Name: "firewall"}}},
			{Tenant: "other", Name: "secret-chain"},
		},
		Tenants: []plane.TenantStats{{Name: "acme", Share: 500}, {Name: "other"}},
	}, nil
}

func (*onePlane) Flows(_ context.Context, q plane.FlowQuery) ([]plane.Flow, error) {
	if q.Filter == "nonsense" {
		return nil, errors.New("filter: syntax error")
	}
	return []plane.Flow{{Tenant: "acme", Chain: "edge", Proto: "tcp", Src: "10.0.0.1:1"}, {Tenant: "other", Chain: "secret-chain", Worker: 1}}, nil
}

func (*onePlane) Events(ctx context.Context, after uint64) ([]plane.Event, error) {
	if after == 0 {
		return []plane.Event{
			{Seq: 1, Time: time.Date(2100, 1, 1, 0, 0, 1, 0, time.UTC), Kind: "log", Reason: "Log", Level: "info", Tenant: "acme", Chain: "edge", Function: "firewall", Text: "hello", Worker: 1},
			{Seq: 2, Time: time.Date(2100, 1, 1, 0, 0, 2, 0, time.UTC), Kind: "log", Reason: "Log", Level: "info", Tenant: "other", Text: "secret-text"},
			{Seq: 3, Time: time.Date(2100, 1, 1, 0, 0, 3, 0, time.UTC), Kind: "port", Reason: "LinkDown", Level: "warning", Text: "secret-host", Worker: -1},
		}, nil
	}
	<-ctx.Done()
	return nil, nil
}

func (*onePlane) Trace(ctx context.Context, r plane.TraceRequest) ([]plane.Trace, error) {
	if r.Filter == "never" {
		<-ctx.Done()
		return nil, nil
	}
	return []plane.Trace{{Time: time.Unix(1, 0).UTC(), Port: "in", Frame: []byte{1}, Hops: []plane.TraceHop{{Function: r.Tenant + "/" + r.Chain, Changes: []plane.Change{{Offset: 1}}}}}}, nil
}

// capturePiece is what a capture writes, r.Count times.
var capturePiece = bytes.Repeat([]byte("pcapng"), 1000)

func (*onePlane) Capture(ctx context.Context, r plane.CaptureRequest, out *os.File) (plane.CaptureReport, error) {
	if r.Filter == "nonsense" {
		return plane.CaptureReport{}, errors.New("filter: syntax error")
	}
	for i := 0; r.Count == 0 || i < r.Count; i++ {
		if ctx.Err() != nil {
			break
		}
		if _, err := out.Write(capturePiece); err != nil {
			break
		}
	}
	return plane.CaptureReport{}, nil
}
