package observe

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// ErrEndpoint: traces cannot be sent where they should.
var ErrEndpoint = errors.New("bad endpoint for traces")

// Tracing sends spans of control operations (API calls, reconciliation) to an
// OpenTelemetry collector by OTLP over HTTP; endpoint is its URL, such as
// http://localhost:4318. Empty: spans cost next to nothing and go nowhere. Spans
// that a slow collector does not take are dropped. stop sends what is left; it
// waits for at most 5 s.
func Tracing(ctx context.Context, endpoint, version string) (stop func() error, err error) {
	otel.SetTextMapPropagator(propagation.TraceContext{})
	if endpoint == "" {
		return func() error { return nil }, nil
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%w: %q: give a URL such as http://localhost:4318", ErrEndpoint, endpoint)
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(u.JoinPath("v1", "traces").String()), otlptracehttp.WithTimeout(3*time.Second))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrEndpoint, endpoint, err)
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("name of this host: %w", err)
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter, sdktrace.WithBatchTimeout(time.Second)),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "sfcd"), attribute.String("service.version", version), attribute.String("host.name", host))),
	)
	otel.SetTracerProvider(provider)
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return provider.Shutdown(ctx)
	}, nil
}
