package client

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"iter"
	"net/http"
	"time"

	"sfc/ctrl/api"
)

func (c *Client) functions(tenant string) Resource[api.Function] {
	return Resource[api.Function]{c, of(tenant, "functions")}
}

func (c *Client) aliases(tenant string) Resource[api.Alias] {
	return Resource[api.Alias]{c, of(tenant, "aliases")}
}

func versionPath(tenant, function, version string) []string {
	return of(tenant, "functions", function, "versions", version)
}

func aliasPath(tenant, function, alias string) []string {
	return of(tenant, "functions", function, "aliases", alias)
}

// ListFunctions returns a page of versions of functions.
func (c *Client) ListFunctions(ctx context.Context, tenant string, o ListOptions) (*api.List[api.Function], error) {
	return c.functions(tenant).List(ctx, o)
}

// AllFunctions returns all versions of a function; "" means of all functions.
func (c *Client) AllFunctions(ctx context.Context, tenant, function string) (*api.List[api.Function], error) {
	return c.functions(tenant).all(ctx, ListOptions{Function: function})
}

// WatchFunctions tells of versions; see Resource.Watch.
func (c *Client) WatchFunctions(ctx context.Context, tenant, resourceVersion string) iter.Seq2[api.WatchEvent[api.Function], error] {
	return c.functions(tenant).Watch(ctx, resourceVersion)
}

// Function returns what is known of a version.
func (c *Client) Function(ctx context.Context, tenant, function, version string) (*api.Function, error) {
	f := &api.Function{}
	return f, c.do(ctx, call{method: http.MethodGet, path: versionPath(tenant, function, version)}, nil, f)
}

// Upload is a module on its way to the daemon.
type Upload struct {
	Function, Version string
	Module            io.Reader
	Size              int64 // -1 when it is not known
	// Digest is what it must have, as sha256:...; "" for whatever it has.
	Digest string
	// Signature is an ed25519 signature over digest and manifest; nil for none.
	Signature []byte
	// Source is where it comes from, for its provenance.
	Source string
}

// Upload stores a module as a version. ctx bounds it.
func (c *Client) Upload(ctx context.Context, tenant string, u Upload) (*api.Function, error) {
	header := http.Header{"Content-Type": {string(api.BodyWasm)}}
	for name, value := range map[string]string{
		"Sfc-Digest": u.Digest, "Sfc-Signature": base64.StdEncoding.EncodeToString(u.Signature), "Sfc-Source": u.Source,
	} {
		if value != "" {
			header.Set(name, value)
		}
	}
	if u.Size == 0 {
		return nil, fmt.Errorf("upload %s@%s: the module is empty", u.Function, u.Version)
	}
	f := &api.Function{}
	k := call{method: http.MethodPut, path: versionPath(tenant, u.Function, u.Version), header: header, body: u.Module, size: u.Size}
	return f, c.doWithin(ctx, k, nil, f)
}

// DeleteFunction removes a version that nothing uses.
func (c *Client) DeleteFunction(ctx context.Context, tenant, function, version string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: versionPath(tenant, function, version)}, nil, nil)
}

// Module returns the module of a version. The caller closes it.
func (c *Client) Module(ctx context.Context, tenant, function, version string) (io.ReadCloser, error) {
	resp, err := c.send(ctx, call{method: http.MethodGet, path: sub(versionPath(tenant, function, version), "module")})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// AllAliases returns all aliases of a function; "" means of all functions.
func (c *Client) AllAliases(ctx context.Context, tenant, function string) (*api.List[api.Alias], error) {
	return c.aliases(tenant).all(ctx, ListOptions{Function: function})
}

// WatchAliases tells of aliases; see Resource.Watch.
func (c *Client) WatchAliases(ctx context.Context, tenant, resourceVersion string) iter.Seq2[api.WatchEvent[api.Alias], error] {
	return c.aliases(tenant).Watch(ctx, resourceVersion)
}

// Alias returns an alias.
func (c *Client) Alias(ctx context.Context, tenant, function, alias string) (*api.Alias, error) {
	a := &api.Alias{}
	return a, c.do(ctx, call{method: http.MethodGet, path: aliasPath(tenant, function, alias)}, nil, a)
}

// PutAlias makes or moves an alias. With a resource version it moves that one
// only.
func (c *Client) PutAlias(ctx context.Context, tenant, function, alias string, spec api.AliasSpec, resourceVersion string) (*api.Alias, error) {
	in := &api.Alias{Metadata: api.Metadata{Name: alias, ResourceVersion: resourceVersion}, Spec: spec}
	a := &api.Alias{}
	return a, c.do(ctx, call{method: http.MethodPut, path: aliasPath(tenant, function, alias)}, in, a)
}

// DeleteAlias removes an alias that no chain uses.
func (c *Client) DeleteAlias(ctx context.Context, tenant, function, alias, resourceVersion string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: aliasPath(tenant, function, alias), header: match(resourceVersion)}, nil, nil)
}

// RollbackAlias makes an alias stand for what it stood for before.
func (c *Client) RollbackAlias(ctx context.Context, tenant, function, alias, resourceVersion string) (*api.Alias, error) {
	return c.moveAlias(ctx, tenant, function, alias, "rollback", resourceVersion)
}

// PromoteAlias gives all flows the version under trial.
func (c *Client) PromoteAlias(ctx context.Context, tenant, function, alias, resourceVersion string) (*api.Alias, error) {
	return c.moveAlias(ctx, tenant, function, alias, "promote", resourceVersion)
}

// AbortAlias ends a trial; without one there is nothing to do.
func (c *Client) AbortAlias(ctx context.Context, tenant, function, alias, resourceVersion string) (*api.Alias, error) {
	return c.moveAlias(ctx, tenant, function, alias, "abort", resourceVersion)
}

func (c *Client) moveAlias(ctx context.Context, tenant, function, alias, how, resourceVersion string) (*api.Alias, error) {
	a := &api.Alias{}
	k := call{method: http.MethodPost, path: sub(aliasPath(tenant, function, alias), how), header: match(resourceVersion)}
	return a, c.do(ctx, k, nil, a)
}

// Collect removes versions that nothing uses and that are older than grace, or
// (dryRun) says which these are.
func (c *Client) Collect(ctx context.Context, tenant string, grace time.Duration, dryRun bool) (*api.Collected, error) {
	seconds := int64(grace / time.Second)
	done := &api.Collected{}
	k := call{method: http.MethodPost, path: of(tenant, "functions", "collect")}
	return done, c.do(ctx, k, api.Collect{GraceSeconds: &seconds, DryRun: dryRun}, done)
}

// RotateToken replaces the secret of a tenant's token; with "" that of one of the
// host's.
func (c *Client) RotateToken(ctx context.Context, tenant, name string, r api.Rotation) (*api.Token, error) {
	t := &api.Token{}
	return t, c.do(ctx, call{method: http.MethodPost, path: scoped(tenant, "tokens", name, "rotate")}, r, t)
}
