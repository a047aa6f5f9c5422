package client

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"sfc/ctrl/api"
)

// Health says whether the daemon serves.
func (c *Client) Health(ctx context.Context) (*api.Health, error) {
	h := &api.Health{}
	return h, c.do(ctx, call{method: http.MethodGet, path: []string{"healthz"}}, nil, h)
}

// Identity says as whom the daemon sees the caller.
func (c *Client) Identity(ctx context.Context) (*api.Identity, error) {
	id := &api.Identity{}
	return id, c.do(ctx, call{method: http.MethodGet, path: v1("whoami")}, nil, id)
}

// OpenAPI returns the daemon's description of its API.
func (c *Client) OpenAPI(ctx context.Context) ([]byte, error) {
	var doc json.RawMessage
	return doc, c.do(ctx, call{method: http.MethodGet, path: []string{"openapi.json"}}, nil, &doc)
}

// Audit reads the audit log after an entry's number, at most limit entries (0: the
// server's choice), of a tenant ("": all).
func (c *Client) Audit(ctx context.Context, tenant string, after uint64, limit int) (*api.AuditList, error) {
	q := values("tenant", tenant, "after", number(after), "limit", number(uint64(limit)))
	list := &api.AuditList{}
	return list, c.do(ctx, call{method: http.MethodGet, path: v1("audit"), query: q}, nil, list)
}

// Stats returns the account of a tenant's chains; with "" that of everything.
func (c *Client) Stats(ctx context.Context, tenant string) (*api.Stats, error) {
	s := &api.Stats{}
	return s, c.do(ctx, call{method: http.MethodGet, path: scoped(tenant, "stats")}, nil, s)
}

// TenantPorts returns the ports that a tenant may use.
func (c *Client) TenantPorts(ctx context.Context, tenant string) (*api.List[api.Port], error) {
	return Resource[api.Port]{c, of(tenant, "ports")}.All(ctx)
}

// FlowQuery chooses flows.
type FlowQuery struct {
	Chain  string // "": any
	Filter string // tcpdump expression
	Limit  int    // 0: 100
}

// Flows lists flows of a tenant; with "" of all.
func (c *Client) Flows(ctx context.Context, tenant string, q FlowQuery) ([]api.Flow, error) {
	var list api.FlowList
	query := values("chain", q.Chain, "filter", q.Filter, "limit", number(uint64(q.Limit)))
	err := c.do(ctx, call{method: http.MethodGet, path: scoped(tenant, "flows"), query: query}, nil, &list)
	return list.Items, err
}

// EventQuery chooses events.
type EventQuery struct {
	After                 uint64 // number of an event
	Follow                bool   // go on with what comes
	Kind, Chain, Function string // "": any
	Limit                 int    // only the latest; 0: all that are kept
}

// Events reads events of a tenant; with "" of all. It ends with the first error.
func (c *Client) Events(ctx context.Context, tenant string, q EventQuery) iter.Seq2[api.Event, error] {
	query := values("after", number(q.After), "kind", q.Kind, "chain", q.Chain, "function", q.Function, "limit", number(uint64(q.Limit)))
	if q.Follow {
		query.Set("follow", "true")
	}
	return stream[api.Event](ctx, c, call{method: http.MethodGet, path: scoped(tenant, "events"), query: query})
}

// Trace follows packets through a chain. It returns when there are as many as
// asked for, or their time is over, or ctx ends.
func (c *Client) Trace(ctx context.Context, tenant, chain string, r api.TraceRequest) ([]api.Trace, error) {
	var list api.TraceList
	err := c.doWithin(ctx, call{method: http.MethodPost, path: of(tenant, "chains", chain, "trace")}, r, &list)
	return list.Items, err
}

// Capture writes packets of a chain down as pcapng, until there are as many as
// asked for, ctx ends or the caller closes what it returns.
func (c *Client) Capture(ctx context.Context, tenant, chain string, r api.CaptureRequest) (io.ReadCloser, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	resp, err := c.send(ctx, call{
		method: http.MethodPost, path: of(tenant, "chains", chain, "capture"),
		header: http.Header{"Content-Type": {string(api.BodyJSON)}}, body: bytes.NewReader(data), size: int64(len(data)),
	})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// values makes a query of names and values, without the empty ones.
func values(pairs ...string) url.Values {
	q := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	return q
}

// number is n as text, "" for 0.
func number(n uint64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatUint(n, 10)
}
