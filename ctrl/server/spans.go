package server

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	oteltrace "go.opentelemetry.io/otel/trace"

	"sfc/ctrl/api"
)

// tracer makes a span of each request, named after its operation.
var tracer = otel.Tracer("sfc/ctrl/server")

// parent is the context of a request in the trace that its client has begun, if
// it has (W3C Trace Context).
func parent(r *http.Request) context.Context {
	return propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
}

// begin begins the span of a request.
func begin(r *request) (context.Context, oteltrace.Span) {
	return tracer.Start(parent(r.Request), r.route.Operation, oteltrace.WithSpanKind(oteltrace.SpanKindServer), oteltrace.WithAttributes(
		attribute.String("http.request.method", r.Method), attribute.String("http.route", r.route.Path),
		attribute.String("sfc.tenant", r.tenant), attribute.String("sfc.request_id", r.id)))
}

// outcome notes what came of a request.
func outcome(span oteltrace.Span, route *api.Route, a *answer, err error) {
	status := route.Status
	if a != nil && a.status != 0 {
		status = a.status
	}
	if err != nil {
		p, _ := asProblem(err)
		status = p.Status
		span.SetAttributes(attribute.String("sfc.reason", p.Reason))
		if status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, p.Detail)
		}
	}
	span.SetAttributes(attribute.Int("http.response.status_code", status))
}
