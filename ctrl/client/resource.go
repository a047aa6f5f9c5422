package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"sfc/ctrl/api"
)

// Resource is the objects of a kind, of a tenant or of the host.
type Resource[T any] struct {
	c    *Client
	path []string
}

// Tenants are those of the host.
func (c *Client) Tenants() Resource[api.Tenant] { return Resource[api.Tenant]{c, v1("tenants")} }

// Ports are those of the host.
func (c *Client) Ports() Resource[api.Port] { return Resource[api.Port]{c, v1("ports")} }

// Tokens are a tenant's; with "" those that are good for the whole host.
func (c *Client) Tokens(tenant string) Resource[api.Token] {
	return Resource[api.Token]{c, scoped(tenant, "tokens")}
}

// Keys are those whose signatures a tenant trusts.
func (c *Client) Keys(tenant string) Resource[api.Key] {
	return Resource[api.Key]{c, of(tenant, "keys")}
}

// Chains are a tenant's.
func (c *Client) Chains(tenant string) Resource[api.Chain] {
	return Resource[api.Chain]{c, of(tenant, "chains")}
}

func v1(path ...string) []string { return append([]string{"v1"}, path...) }

// of is the path of something of a tenant.
func of(tenant string, path ...string) []string {
	return append([]string{"v1", "tenants", tenant}, path...)
}

// scoped is the path of something of a tenant, or of the host when it is "".
func scoped(tenant string, path ...string) []string {
	if tenant == "" {
		return v1(path...)
	}
	return of(tenant, path...)
}

// sub is the path of something below.
func sub(path []string, more ...string) []string {
	return append(path[:len(path):len(path)], more...)
}

// ListOptions choose a page. The zero value is the first one.
type ListOptions struct {
	Limit    int    // 0: the server's choice
	Continue string // from the page before
	// Function selects versions or aliases of one function.
	Function string
}

func (o ListOptions) query() url.Values {
	q := url.Values{}
	if o.Limit > 0 {
		q.Set("limit", strconv.Itoa(o.Limit))
	}
	if o.Continue != "" {
		q.Set("continue", o.Continue)
	}
	if o.Function != "" {
		q.Set("function", o.Function)
	}
	return q
}

// List returns a page.
func (r Resource[T]) List(ctx context.Context, o ListOptions) (*api.List[T], error) {
	list := &api.List[T]{}
	return list, r.c.do(ctx, call{method: http.MethodGet, path: r.path, query: o.query()}, nil, list)
}

// All returns all pages as one, with the version to watch from.
func (r Resource[T]) All(ctx context.Context) (*api.List[T], error) { return r.all(ctx, ListOptions{}) }

func (r Resource[T]) all(ctx context.Context, o ListOptions) (*api.List[T], error) {
	list, err := r.List(ctx, o)
	if err != nil {
		return nil, err
	}
	for next := list.Metadata.Continue; next != ""; {
		o.Continue = next
		page, err := r.List(ctx, o)
		if err != nil {
			return nil, err
		}
		list.Items = append(list.Items, page.Items...)
		next = page.Metadata.Continue
	}
	list.Metadata.Continue = ""
	return list, nil
}

// Get returns an object.
func (r Resource[T]) Get(ctx context.Context, name string) (*T, error) {
	object := new(T)
	return object, r.c.do(ctx, call{method: http.MethodGet, path: sub(r.path, name)}, nil, object)
}

// Create makes an object, which must not be there unless it is the same.
func (r Resource[T]) Create(ctx context.Context, object *T) (*T, error) {
	made := new(T)
	return made, r.c.do(ctx, call{method: http.MethodPost, path: r.path}, object, made)
}

// Put makes or replaces an object. With a resourceVersion in its metadata it
// replaces that one only.
func (r Resource[T]) Put(ctx context.Context, name string, object *T) (*T, error) {
	made := new(T)
	return made, r.c.do(ctx, call{method: http.MethodPut, path: sub(r.path, name)}, object, made)
}

// Delete removes an object, if it still has the resource version; "" removes any.
func (r Resource[T]) Delete(ctx context.Context, name, resourceVersion string) error {
	return r.c.do(ctx, call{method: http.MethodDelete, path: sub(r.path, name), header: match(resourceVersion)}, nil, nil)
}

// match is the precondition of a resource version.
func match(resourceVersion string) http.Header {
	if resourceVersion == "" {
		return http.Header{}
	}
	return http.Header{"If-Match": {strconv.Quote(resourceVersion)}}
}

// Watch tells what happens after a resource version, that of a list or of an
// earlier event; "" begins with what there is. It ends with the first error,
// which is a problem with reason Expired when the version is too old or the
// reader too slow: list again.
func (r Resource[T]) Watch(ctx context.Context, resourceVersion string) iter.Seq2[api.WatchEvent[T], error] {
	return r.watch(ctx, resourceVersion, ListOptions{})
}

func (r Resource[T]) watch(ctx context.Context, resourceVersion string, o ListOptions) iter.Seq2[api.WatchEvent[T], error] {
	q := o.query()
	q.Set("watch", "true")
	if resourceVersion != "" {
		q.Set("resourceVersion", resourceVersion)
	}
	lines := stream[api.WatchEvent[T]](ctx, r.c, call{method: http.MethodGet, path: r.path, query: q})
	return func(yield func(api.WatchEvent[T], error) bool) {
		for ev, err := range lines {
			if err == nil && ev.Problem != nil {
				err = ev.Problem
			}
			if !yield(ev, err) || err != nil {
				return
			}
		}
	}
}
