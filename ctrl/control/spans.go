package control

import (
	"context"
	"io"
	"os"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"sfc/ctrl/plane"
	"sfc/ctrl/reconcile"
)

// tracer makes the spans of what the reconciler has done by others; those of
// requests are the server's.
var tracer = otel.Tracer("sfc/ctrl/control")

// end ends a span with the outcome.
func end(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}

// tracedPlane makes a span of everything that changes the data plane.
type tracedPlane struct{ plane.Plane }

func (p tracedPlane) PutCode(ctx context.Context, digest string, code *os.File) error {
	ctx, span := tracer.Start(ctx, "plane.put_code", trace.WithAttributes(attribute.String("sfc.digest", digest)))
	err := p.Plane.PutCode(ctx, digest, code)
	end(span, err)
	return err
}

func (p tracedPlane) Apply(ctx context.Context, d plane.Desired) (plane.Observed, error) {
	ctx, span := tracer.Start(ctx, "plane.apply", trace.WithAttributes(
		attribute.Int64("sfc.revision", int64(d.Revision)), attribute.Int("sfc.chains", len(d.Chains)), attribute.Int("sfc.ports", len(d.Ports))))
	o, err := p.Plane.Apply(ctx, d)
	failed := 0
	for i := range o.Chains {
		if o.Chains[i].Reason != "" {
			failed++
		}
	}
	span.SetAttributes(attribute.Int("sfc.chains.not_as_desired", failed))
	end(span, err)
	return o, err
}

// tracedCompiler makes a span of everything that is compiled.
type tracedCompiler struct{ reconcile.Compiler }

func (c tracedCompiler) Artifact(ctx context.Context, digest string, open func(context.Context) (io.Reader, error)) (*os.File, error) {
	ctx, span := tracer.Start(ctx, "compile", trace.WithAttributes(attribute.String("sfc.digest", digest)))
	f, err := c.Compiler.Artifact(ctx, digest, open)
	end(span, err)
	return f, err
}
