package server

import (
	"context"
	"io"
	"time"

	"sfc/ctrl/api"
)

// FunctionStore changes what is stored of tenants' functions. Reading is the
// server's: it finds versions and aliases in the store's buckets (see
// api.BucketFunctions, api.BucketAliases), and what is observed of them in
// api.BucketStatus.
//
// Errors that are an *api.Problem are told to the client as they are, those of
// ctrl/store by their sentinels, all others as internal ones. A revision is that
// of the object as the caller knows it; 0 means any.
type FunctionStore interface {
	// Deploy checks a module and stores it as a version. created is false when
	// the very same is there already; another module under the version is a
	// problem with reason AlreadyExists. It reads at most d.MaxSize bytes.
	Deploy(ctx context.Context, tenant string, d Deploy, module io.Reader) (f *api.Function, created bool, err error)
	// DeleteVersion removes a version that no alias and no chain uses.
	DeleteVersion(ctx context.Context, tenant, function, version string, revision uint64) error
	// OpenModule returns the module of a version. The caller closes it.
	OpenModule(ctx context.Context, tenant, function, version string) (io.ReadCloser, int64, error)
	// SetAlias makes or moves an alias. absent says that it must not be there.
	// by is who asked, for its history.
	SetAlias(ctx context.Context, tenant string, a *api.Alias, revision uint64, absent bool, by string) (set *api.Alias, created bool, err error)
	// DeleteAlias removes an alias that no chain uses.
	DeleteAlias(ctx context.Context, tenant, function, alias string, revision uint64) error
	// Rollback makes an alias stand for what it stood for before.
	Rollback(ctx context.Context, tenant, function, alias string, revision uint64, by string) (*api.Alias, error)
	// Promote gives all flows the version under trial; without one it is a
	// problem. Abort ends a trial; without one it does nothing.
	Promote(ctx context.Context, tenant, function, alias string, revision uint64, by string) (*api.Alias, error)
	Abort(ctx context.Context, tenant, function, alias string, revision uint64, by string) (*api.Alias, error)
	// Collect removes versions that nothing uses and that are older than grace,
	// or (dryRun) says which these are.
	Collect(ctx context.Context, tenant string, grace time.Duration, dryRun bool) (*api.Collected, error)
}

// Deploy says what a module is to become.
type Deploy struct {
	Function, Version string
	// Digest is what it must have, as sha256:...; "" for whatever it has.
	Digest string
	// Signature is an ed25519 signature over digest and manifest, nil for none.
	Signature []byte
	// Source is what the uploader says of where it comes from.
	Source string
	// By is who uploads it, as in the audit log.
	By string
	// Quota is the tenant's.
	Quota api.TenantSpec
	// MaxSize is the largest module allowed, in bytes.
	MaxSize int64
}
