package server

import (
	"errors"
	"fmt"
	"net/http"

	"sfc/ctrl/api"
	"sfc/ctrl/store"
)

// handlers are those of all operations in the table of routes.
func (s *Server) handlers() map[string]handler {
	h := map[string]handler{
		"getHealth": s.health, "getOpenAPI": s.openAPI, "getMetrics": s.metrics, "getIdentity": s.identity, "listAudit": s.listAudit,
		"getStats": s.stats, "listFlows": s.flows, "listEvents": s.listEvents,
		"getTenantStats": s.stats, "listTenantFlows": s.flows, "listTenantEvents": s.listEvents,
		"traceChain": s.trace, "captureChain": s.capture,
		"rotateHostToken": s.rotate, "rotateToken": s.rotate,
		"putFunction": s.putFunction, "getModule": s.getModule, "deleteFunction": s.deleteFunction,
		"collectFunctions": s.collectFunctions,
		"putAlias":         s.putAlias, "deleteAlias": s.deleteAlias, "rollbackAlias": s.moveAlias(s.opts.Functions.Rollback),
		"promoteAlias": s.moveAlias(s.opts.Functions.Promote), "abortAlias": s.moveAlias(s.opts.Functions.Abort),
	}
	tenants, ports, tokens := s.tenantKind(), s.portKind(), s.tokenKind()
	keys, chains := s.keyKind(), s.chainKind()
	functions, aliases := s.functionKind(), s.aliasKind()
	tenants.handle(h, "Tenant")
	ports.handle(h, "Port")
	tokens.handle(h, "Token")
	tokens.handle(h, "HostToken")
	keys.handle(h, "Key")
	chains.handle(h, "Chain")
	h["listTenantPorts"] = ports.list
	h["listFunctions"], h["getFunction"] = functions.list, functions.get
	h["listAliases"], h["getAlias"] = aliases.list, aliases.get
	return h
}

// handle adds the handlers of a kind.
func (k *kind[T, P]) handle(h map[string]handler, name string) {
	h["list"+name+"s"], h["create"+name] = k.list, k.create
	h["get"+name], h["put"+name], h["delete"+name] = k.get, k.put, k.delete
}

// health says whether everything serves. To strangers it says no more than that,
// to those who look after the host which part of the store is damaged as well.
func (s *Server) health(r *request) (*answer, error) {
	h := api.Health{Status: "ok"}
	if err := s.audit.failing(); err != nil {
		h.Problems = append(h.Problems, "the audit log cannot be written")
	}
	switch err := s.opts.Store.Writable(); {
	case errors.Is(err, store.ErrFull):
		h.Problems = append(h.Problems, "the daemon's disk is full: nothing can be changed")
	case err != nil:
		h.Problems = append(h.Problems, "the daemon's disk cannot be written: nothing can be changed")
	}
	if damage := s.opts.Store.Damage(); len(damage) > 0 {
		h.Problems = append(h.Problems, fmt.Sprintf("%d parts of the store were found damaged", len(damage)))
		if r.ofHost() {
			for _, d := range damage[:min(len(damage), maxNamed)] {
				h.Problems = append(h.Problems, d.String())
			}
		}
	}
	if s.opts.Health != nil {
		h.Problems = append(h.Problems, s.opts.Health()...)
	}
	if s.opts.Plane != nil && !s.events.connected() {
		h.Problems = append(h.Problems, "the data plane does not answer")
	}
	if len(h.Problems) > 0 {
		h.Status = "degraded"
	}
	return &answer{body: h}, nil
}

// maxNamed is how many damaged parts of the store health names.
const maxNamed = 10

// ofHost says whether a request that anybody may make comes from somebody who
// looks after the host.
func (r *request) ofHost() bool {
	_, has := bearer(r.Request)
	p, _ := r.Context().Value(connKey{}).(*peer)
	if !has && (p == nil || p.who == nil) {
		return false
	}
	return r.identify() == nil && r.who.tenant == ""
}

// openAPI sends the document.
func (s *Server) openAPI(*request) (*answer, error) {
	return &answer{
		header: http.Header{"Cache-Control": {"max-age=300"}},
		stream: func(w *streamWriter) error {
			_, err := w.Write(api.OpenAPI)
			return err
		},
	}, nil
}

// metrics lets the collector answer.
func (s *Server) metrics(r *request) (*answer, error) {
	if s.opts.Metrics == nil {
		return nil, api.NewProblem(http.StatusServiceUnavailable, api.ReasonUnavailable, "there are no metrics")
	}
	got := &collected{header: http.Header{}, status: http.StatusOK}
	// Without the client's wish for compression: it is written at once below.
	plain := r.Clone(r.Context())
	plain.Header.Del("Accept-Encoding")
	s.opts.Metrics.ServeHTTP(got, plain)
	if got.status != http.StatusOK {
		return nil, fmt.Errorf("metrics: %d: %.200q", got.status, got.body)
	}
	return &answer{header: got.header, stream: func(w *streamWriter) error {
		_, err := w.Write(got.body)
		return err
	}}, nil
}

// collected takes in what a handler answers.
type collected struct {
	header http.Header
	status int
	body   []byte
}

func (c *collected) Header() http.Header    { return c.header }
func (c *collected) WriteHeader(status int) { c.status = status }
func (c *collected) Write(p []byte) (int, error) {
	c.body = append(c.body, p...)
	return len(p), nil
}

func (s *Server) identity(r *request) (*answer, error) {
	return &answer{body: api.Identity{
		Name: r.who.name, Tenant: r.who.tenant, Role: r.who.role, ExpiresAt: r.who.expires, Server: s.opts.Version,
	}}, nil
}

// Entries of the audit log in one answer.
const (
	defaultAudit = 100
	maxAudit     = 1000
)

// listAudit reads the audit log: what comes after an entry, or the latest.
func (s *Server) listAudit(r *request) (*answer, error) {
	after, err := r.number("after", 0, 1<<62)
	limit, lerr := r.number("limit", defaultAudit, maxAudit)
	if err = errors.Join(err, lerr); err != nil {
		return nil, err
	}
	list, err := s.audit.read(after, !r.URL.Query().Has("after"), r.URL.Query().Get("tenant"), int(limit))
	return &answer{body: list}, err
}
