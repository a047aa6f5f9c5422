package server

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"sfc/ctrl/api"
)

// handler answers a request that may be made.
type handler func(*request) (*answer, error)

// request is a request with what is known of it.
type request struct {
	*http.Request
	s      *Server
	route  *api.Route
	id     string
	who    *principal // nil on public routes
	from   string
	tenant string // in the path
	taken  bool   // the body was read to its end
	w      http.ResponseWriter
	ctl    *http.ResponseController
}

// answer is what a handler says: a body in JSON, or a stream, or neither.
type answer struct {
	status int // 0: the route's
	body   any
	header http.Header
	// stream writes the body part by part. It has a time for each write, and
	// ends when the request does.
	stream func(*streamWriter) error
	// done is called when the answer has been given, or could not be.
	done func()
}

// newRouter makes the handler of all routes in the table. A route without a
// handler, or the other way round, is an error.
func newRouter(s *Server) (http.Handler, error) {
	handlers := s.handlers()
	mux := http.NewServeMux()
	for _, route := range api.Routes() {
		h := handlers[route.Operation]
		if h == nil {
			return nil, fmt.Errorf("route %s has no handler", route.Operation)
		}
		delete(handlers, route.Operation)
		mux.HandleFunc(route.Method+" "+route.Path, func(w http.ResponseWriter, r *http.Request) {
			s.serve(w, r, &route, h)
		})
	}
	for operation := range handlers {
		return nil, fmt.Errorf("handler %s has no route", operation)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := mux.Handler(r); pattern == "" {
			s.unknown(w, r, mux)
			return
		}
		mux.ServeHTTP(w, r)
	}), nil
}

// unknown answers requests that no route is for.
func (s *Server) unknown(w http.ResponseWriter, r *http.Request, mux *http.ServeMux) {
	said := &muted{header: http.Header{}}
	mux.ServeHTTP(said, r)
	p := notFound()
	if said.status == http.StatusMethodNotAllowed {
		w.Header()["Allow"] = said.header["Allow"]
		p = api.NewProblem(said.status, api.ReasonInvalid, "%s is not for this path: %s are", r.Method, said.header.Get("Allow"))
	}
	req := &request{Request: r, s: s, id: rand.Text(), w: w, ctl: http.NewResponseController(w)}
	req.fail(p)
}

// muted takes in what the mux would say.
type muted struct {
	header http.Header
	status int
}

func (m *muted) Header() http.Header         { return m.header }
func (m *muted) WriteHeader(status int)      { m.status = status }
func (m *muted) Write(p []byte) (int, error) { return len(p), nil }

// serve takes a request all the way.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, route *api.Route, h handler) {
	req := &request{Request: r, s: s, route: route, id: rand.Text(), tenant: r.PathValue("tenant"), w: w, ctl: http.NewResponseController(w)}
	w.Header().Set("X-Request-Id", req.id)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	if p, ok := r.Context().Value(connKey{}).(*peer); ok {
		req.from = p.from
	}
	ctx, span := begin(req)
	defer span.End()
	req.Request = r.WithContext(ctx)
	a, err := req.run(h)
	if a != nil && a.done != nil {
		defer a.done()
	}
	outcome(span, route, a, err)
	if err = req.record(a, err); err != nil {
		req.fail(err)
		return
	}
	req.write(a)
}

// run finds out who asks and whether they may, and lets the handler answer.
func (r *request) run(h handler) (a *answer, err error) {
	defer func() {
		if v := recover(); v != nil {
			r.s.log.Error("a request ended in a panic", "request", r.id, "operation", r.route.Operation, "panic", v, "stack", string(debug.Stack()))
			a, err = nil, fmt.Errorf("panic: %v", v)
		}
	}()
	if err := r.admit(); err != nil {
		return nil, err
	}
	if r.changes() {
		if err := r.s.audit.failing(); err != nil {
			// It is tried again, so that room on the disk is noticed.
			if err := r.s.audit.append(r.entry(0, "AuditLogFailing"), true); err != nil {
				return nil, api.NewProblem(http.StatusInsufficientStorage, api.ReasonStorage, "the audit log cannot be written, so nothing can be changed: make room on the daemon's disk")
			}
		}
	}
	return h(r)
}

// changes says whether the request may change something, or look into packets.
func (r *request) changes() bool { return r.Method != http.MethodGet && r.Method != http.MethodHead }

// entry is the request in the audit log.
func (r *request) entry(status int, result string) api.AuditEntry {
	e := api.AuditEntry{
		Time: time.Now().UTC(), RequestID: r.id, Who: "nobody", From: r.from,
		Operation: r.route.Operation, Object: r.URL.EscapedPath(), Tenant: r.tenant, Status: status, Result: result,
	}
	if r.who != nil {
		e.Who = r.who.name
	}
	return e
}

// record writes what must be known later: everything that changes something, and
// what was refused. What is only read is not in it.
func (r *request) record(a *answer, err error) error {
	status, result := r.route.Status, "ok"
	if a != nil && a.status != 0 {
		status = a.status
	}
	if err != nil {
		p, _ := asProblem(err)
		status, result = p.Status, p.Reason
	}
	refused := status == http.StatusUnauthorized || status == http.StatusForbidden ||
		status == http.StatusNotFound && r.who != nil && r.who.tenant != "" && r.who.tenant != r.tenant
	if !r.changes() && !refused || status == http.StatusTooManyRequests {
		return err
	}
	if logged := r.s.audit.append(r.entry(status, result), r.changes()); logged != nil {
		r.s.log.Error("the audit log misses a request", "request", r.id, "operation", r.route.Operation, "result", result, "err", logged)
	}
	return err
}

// fail answers with a problem.
func (r *request) fail(err error) {
	p, internal := asProblem(err)
	if internal {
		r.s.log.Error("a request failed", "request", r.id, "path", r.URL.Path, "err", err)
	}
	p.Instance, p.RequestID = r.URL.EscapedPath(), r.id
	if p.Status == http.StatusUnauthorized {
		r.w.Header().Set("WWW-Authenticate", `Bearer realm="sfc"`)
	}
	var slow *slowDown
	if errors.As(err, &slow) {
		r.w.Header().Set("Retry-After", strconv.Itoa(slow.seconds()))
	}
	if r.ContentLength != 0 && !r.taken {
		// What is left of the body is not worth waiting for.
		r.w.Header().Set("Connection", "close")
		r.within(min(time.Second, r.s.limits.Read))
	}
	data, merr := json.Marshal(p)
	if merr != nil {
		r.s.log.Error("a problem cannot be told", "request", r.id, "err", merr)
	}
	r.w.Header().Set("Content-Type", api.ProblemType)
	r.send(p.Status, data)
}

// send writes a whole body, within the time for one.
func (r *request) send(status int, data []byte) {
	if err := r.ctl.SetWriteDeadline(time.Now().Add(r.s.limits.Write)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		r.s.log.Debug("a client is gone", "request", r.id, "err", err)
		return
	}
	r.w.WriteHeader(status)
	if _, err := r.w.Write(data); err != nil {
		r.s.log.Debug("a client did not take its answer", "request", r.id, "err", err)
	}
}

// write gives the answer.
func (r *request) write(a *answer) {
	status := r.route.Status
	if a.status != 0 {
		status = a.status
	}
	for name, values := range a.header {
		r.w.Header()[name] = values
	}
	switch {
	case a.stream != nil:
		if r.w.Header().Get("Content-Type") == "" {
			r.w.Header().Set("Content-Type", string(r.route.ResponseBody))
		}
		r.stream(status, a.stream)
	case a.body != nil:
		data, err := json.Marshal(a.body)
		if err != nil {
			r.fail(fmt.Errorf("encode the answer: %w", err))
			return
		}
		r.w.Header().Set("Content-Type", string(api.BodyJSON))
		r.send(status, append(data, '\n'))
	default:
		r.send(status, nil)
	}
}

// streamWriter writes a body part by part: each part has its time, and goes out
// at once.
type streamWriter struct {
	r *request
	// Context ends with the request, with the server, and when the client does
	// not read.
	ctx context.Context
}

// Write implements io.Writer.
func (w *streamWriter) Write(p []byte) (int, error) {
	if err := w.r.ctl.SetWriteDeadline(time.Now().Add(w.r.s.limits.Write)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	n, err := w.r.w.Write(p)
	if err == nil {
		err = w.r.ctl.Flush()
	}
	return n, err
}

// line writes a value as a line of JSON.
func (w *streamWriter) line(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(data, '\n'))
	return err
}

// stream writes a body part by part.
func (r *request) stream(status int, body func(*streamWriter) error) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(r.s.ending, cancel)()
	if secret, has := bearer(r.Request); has {
		go r.s.whileValid(ctx, cancel, secret)
	}
	w := &streamWriter{r: r, ctx: ctx}
	r.w.WriteHeader(status)
	_, err := w.Write(nil)
	if err == nil {
		err = body(w)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		r.s.log.Debug("a stream ended", "request", r.id, "operation", r.route.Operation, "err", err)
		// A body that ends as if it were whole would be a lie.
		panic(http.ErrAbortHandler)
	}
}

// whileValid ends a stream when the token that opened it is good no more: it was
// deleted, rotated, or has expired.
func (s *Server) whileValid(ctx context.Context, end context.CancelFunc, secret string) {
	tick := time.NewTicker(s.limits.Bookmark)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_, err := s.tokens.check(ctx, secret)
			if p, ok := errors.AsType[*api.Problem](err); ok && p.Status == http.StatusUnauthorized {
				end()
				return
			}
		}
	}
}

// bearer returns the token that a request carries.
func bearer(r *http.Request) (secret string, has bool) {
	header := r.Header.Values("Authorization")
	if len(header) == 0 {
		return "", false
	}
	scheme, secret, _ := strings.Cut(header[0], " ")
	if !strings.EqualFold(scheme, "Bearer") || len(header) > 1 {
		return "", true
	}
	return strings.TrimSpace(secret), true
}
