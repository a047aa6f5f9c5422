package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"sfc/ctrl/api"
	"sfc/ctrl/plane"
)

// Bounds of what is asked about the data plane.
const (
	defaultFlows = 100
	maxFlows     = 10_000
	maxTraces    = 1000
	maxFilter    = 4096 // bytes
	traceWait    = 30 * time.Second
	longestTrace = 300 * time.Second
	statsWait    = 10 * time.Second
	captureStart = 2 * time.Second
)

// dataPlane returns who answers about what runs.
func (s *Server) dataPlane() (plane.Plane, error) {
	if s.opts.Plane == nil {
		return nil, api.NewProblem(http.StatusServiceUnavailable, api.ReasonUnavailable, "no data plane runs")
	}
	return s.opts.Plane, nil
}

// asked tells what the data plane says to a question: what it does not like is
// most likely the question.
func asked(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	return api.NewProblem(http.StatusBadRequest, api.ReasonInvalid, "the data plane refuses: %v", err)
}

// stats sends the account; that of a tenant has nothing of others, nor of
// workers and ports, which show what others do.
func (s *Server) stats(r *request) (*answer, error) {
	p, err := s.dataPlane()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), statsWait)
	defer cancel()
	st, err := p.Stats(ctx)
	if err != nil {
		return nil, unavailable(err)
	}
	return &answer{body: statsFor(r.tenant, &st)}, nil
}

func unavailable(err error) error {
	return api.NewProblem(http.StatusServiceUnavailable, api.ReasonUnavailable, "the data plane does not answer: %v", err)
}

// flows lists flows of a tenant, or of all.
func (s *Server) flows(r *request) (*answer, error) {
	p, err := s.dataPlane()
	if err != nil {
		return nil, err
	}
	limit, err := r.number("limit", defaultFlows, maxFlows)
	if err != nil {
		return nil, err
	}
	q := plane.FlowQuery{
		Tenant: r.tenant, Chain: r.URL.Query().Get("chain"), Filter: r.URL.Query().Get("filter"),
		Worker: -1, Limit: int(limit),
	}
	if q.Tenant == "" {
		q.Tenant = r.URL.Query().Get("tenant")
	}
	if len(q.Filter) > maxFilter {
		return nil, badRequest("filter: %d bytes are too many: %d are allowed", len(q.Filter), maxFilter)
	}
	ctx, cancel := context.WithTimeout(r.Context(), statsWait)
	defer cancel()
	flows, err := p.Flows(ctx, q)
	if err != nil {
		return nil, asked(ctx, err)
	}
	list := api.FlowList{Items: []api.Flow{}}
	for _, f := range flows {
		// What the data plane is asked for is checked again: the price of an
		// error there is another tenant's traffic.
		if q.Tenant == "" || f.Tenant == q.Tenant {
			list.Items = append(list.Items, flow(f, r.tenant != ""))
		}
	}
	return &answer{body: list}, nil
}

// trace follows packets through a chain of the tenant.
func (s *Server) trace(r *request) (*answer, error) {
	ask := api.TraceRequest{Count: 1, TimeoutSeconds: int(traceWait / time.Second)}
	if err := r.decode(&ask); err != nil {
		return nil, err
	}
	wait := time.Duration(ask.TimeoutSeconds) * time.Second
	var errs []api.FieldError
	if ask.Count < 1 || ask.Count > maxTraces {
		errs = append(errs, api.At("count", "%d is not between 1 and %d", ask.Count, maxTraces))
	}
	if wait < time.Second || wait > longestTrace {
		errs = append(errs, api.At("timeoutSeconds", "%d is not between 1 and %d", ask.TimeoutSeconds, int(longestTrace/time.Second)))
	}
	if len(ask.Filter) > maxFilter {
		errs = append(errs, api.At("filter", "%d bytes are too many: %d are allowed", len(ask.Filter), maxFilter))
	}
	if len(errs) > 0 {
		return nil, api.Invalid(errs...)
	}
	p, done, err := s.lookInto(r)
	if err != nil {
		return nil, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	defer context.AfterFunc(s.ending, cancel)()
	traces, err := p.Trace(ctx, plane.TraceRequest{Tenant: r.tenant, Chain: r.PathValue("chain"), Filter: ask.Filter, Count: ask.Count})
	if err != nil && ctx.Err() == nil {
		return nil, asked(ctx, err)
	}
	list := api.TraceList{Items: []api.Trace{}}
	for _, t := range traces {
		list.Items = append(list.Items, trace(t))
	}
	return &answer{body: list}, nil
}

// lookInto returns the data plane for a look into the packets of a chain that
// the tenant has, which counts as a stream.
func (s *Server) lookInto(r *request) (p plane.Plane, done func(), err error) {
	if _, _, err := s.chainKind().find(r); err != nil {
		return nil, nil, err
	}
	if p, err = s.dataPlane(); err != nil {
		return nil, nil, err
	}
	done, err = r.openStream()
	return p, done, err
}

// capture sends packets as they come. The answer begins when the data plane has
// begun to write, so that what is wrong with the question is told as a problem.
func (s *Server) capture(r *request) (*answer, error) {
	var ask api.CaptureRequest
	if err := r.decode(&ask); err != nil {
		return nil, err
	}
	var errs []api.FieldError
	if ask.Count < 0 {
		errs = append(errs, api.At("count", "%d is negative: leave it out for no bound", ask.Count))
	}
	if ask.Snap < 0 {
		errs = append(errs, api.At("snap", "%d is negative: leave it out for all of a packet", ask.Snap))
	}
	if len(ask.Filter) > maxFilter {
		errs = append(errs, api.At("filter", "%d bytes are too many: %d are allowed", len(ask.Filter), maxFilter))
	}
	if len(errs) > 0 {
		return nil, api.Invalid(errs...)
	}
	p, done, err := s.lookInto(r)
	if err != nil {
		return nil, err
	}
	c, err := startCapture(r, p, plane.CaptureRequest{
		Tenant: r.tenant, Chain: r.PathValue("chain"), At: ask.At, Filter: ask.Filter, Count: ask.Count, Snap: ask.Snap,
	})
	if err != nil {
		done()
		return nil, err
	}
	return &answer{stream: c.send, done: func() { c.stop(); done() }}, nil
}

// capture is a capture that has begun.
type capture struct {
	in     *os.File // what the data plane writes
	cancel context.CancelFunc
	first  []byte // what it began with
	unlink func() bool
	ended  chan struct{} // closed when it has
	err    error         // how, then
}

func startCapture(r *request, p plane.Plane, q plane.CaptureRequest) (*capture, error) {
	in, out, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	ctx, cancel := context.WithCancel(r.Context())
	c := &capture{in: in, cancel: cancel, ended: make(chan struct{}), unlink: context.AfterFunc(r.s.ending, cancel)}
	go func() {
		defer close(c.ended)
		_, err := p.Capture(ctx, q, out)
		c.err = errors.Join(err, out.Close())
	}()
	if err := in.SetReadDeadline(time.Now().Add(captureStart)); err != nil {
		c.stop()
		return nil, fmt.Errorf("capture: %w", err)
	}
	buf := make([]byte, 64<<10)
	n, err := in.Read(buf)
	c.first = buf[:n]
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded): // nothing to say yet
	case err != nil:
		// It ended without a word: the error says why.
		<-c.ended
		if c.err != nil {
			err = asked(ctx, c.err)
			c.stop()
			return nil, err
		}
		return c, nil
	}
	return c, in.SetReadDeadline(time.Time{})
}

// stop ends the capture and waits until it has.
func (c *capture) stop() {
	c.unlink()
	c.cancel()
	_ = c.in.Close()
	<-c.ended
}

// send copies the packets to the client.
func (c *capture) send(w *streamWriter) error {
	defer context.AfterFunc(w.ctx, func() { _ = c.in.SetReadDeadline(time.Unix(1, 0)) })()
	if len(c.first) > 0 {
		if _, err := w.Write(c.first); err != nil {
			return err
		}
	}
	_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{c.in}, make([]byte, 64<<10))
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, os.ErrClosed) {
		return nil // the client or the daemon wants no more: it is whole so far
	}
	return err
}
