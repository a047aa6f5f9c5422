package observe

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sfc/ctrl/plane"
)

// Handler serves what Prometheus asks for: a data plane's account, and that of
// this process.
func Handler(stats func(context.Context) (plane.Stats, error)) http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(
		NewCollector(stats, Options{}),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
}
