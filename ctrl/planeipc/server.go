// Package planeipc carries plane.Plane over a connection between two processes:
// the data plane serves it, control has a client that is one, too.
package planeipc

import (
	"context"
	"os"

	"sfc/ctrl/ipc"
	"sfc/ctrl/plane"
)

// Interface is the name under which both sides say plane.Version at the
// beginning of a connection (ipc.Options.Interfaces).
const Interface = "plane"

// Methods.
const (
	methodPutCode = "plane.put_code"
	methodApply   = "plane.apply"
	methodObserve = "plane.observe"
	methodStats   = "plane.stats"
	methodFlows   = "plane.flows"
	methodEvents  = "plane.events"
	methodTrace   = "plane.trace"
	methodCapture = "plane.capture"
)

// Codes of errors that plane's callers tell apart.
const codeNoFile = "no_file"

type (
	none      struct{}
	putCode   struct{ Digest string }
	eventsReq struct{ After uint64 }
)

// Server is what a plane must have to be served. One that does not look into
// packets has neither Trace nor Capture: callers are told that there is no such
// method.
type Server interface {
	PutCode(ctx context.Context, digest string, code *os.File) error
	Apply(ctx context.Context, d plane.Desired) (plane.Observed, error)
	Observe(ctx context.Context) (plane.Observed, error)
	Stats(ctx context.Context) (plane.Stats, error)
	Flows(ctx context.Context, q plane.FlowQuery) ([]plane.Flow, error)
	Events(ctx context.Context, after uint64) ([]plane.Event, error)
}

// watcher is a plane that looks into packets.
type watcher interface {
	Trace(ctx context.Context, r plane.TraceRequest) ([]plane.Trace, error)
	Capture(ctx context.Context, r plane.CaptureRequest, out *os.File) (plane.CaptureReport, error)
}

// Serve makes a plane answer the calls of a mux's connections.
func Serve(m *ipc.Mux, p Server) {
	ipc.Handle(m, methodPutCode, func(ctx context.Context, r putCode, in *ipc.Files) (none, []*os.File, error) {
		code := in.Take(0)
		if code == nil {
			return none{}, nil, ipc.Errorf(codeNoFile, "code %s came without its file", r.Digest)
		}
		defer code.Close()
		return none{}, nil, p.PutCode(ctx, r.Digest, code)
	})
	handle(m, methodApply, p.Apply)
	handle(m, methodObserve, func(ctx context.Context, _ none) (plane.Observed, error) { return p.Observe(ctx) })
	handle(m, methodStats, func(ctx context.Context, _ none) (plane.Stats, error) { return p.Stats(ctx) })
	handle(m, methodFlows, p.Flows)
	handle(m, methodEvents, func(ctx context.Context, r eventsReq) ([]plane.Event, error) { return p.Events(ctx, r.After) })
	w, watches := p.(watcher)
	if !watches {
		return
	}
	handle(m, methodTrace, w.Trace)
	ipc.Handle(m, methodCapture, func(ctx context.Context, r plane.CaptureRequest, in *ipc.Files) (plane.CaptureReport, []*os.File, error) {
		out := in.Take(0)
		if out == nil {
			return plane.CaptureReport{}, nil, ipc.Errorf(codeNoFile, "capture came without a file to write to")
		}
		defer out.Close()
		report, err := w.Capture(ctx, r, out)
		return report, nil, err
	})
}

// handle is ipc.Handle without descriptors.
func handle[Req, Resp any](m *ipc.Mux, method string, fn func(context.Context, Req) (Resp, error)) {
	ipc.Handle(m, method, func(ctx context.Context, r Req, _ *ipc.Files) (Resp, []*os.File, error) {
		resp, err := fn(ctx, r)
		return resp, nil, err
	})
}
