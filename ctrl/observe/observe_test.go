package observe

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.opentelemetry.io/otel"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"sfc/ctrl/plane"
	"sfc/testbed/gate"
)

func TestMain(m *testing.M) { os.Exit(gate.Main(m)) }

func account() plane.Stats {
	return plane.Stats{
		Workers: []plane.WorkerStats{{Received: 100, Sent: 90, Passed: 4, Dropped: 6, Drops: map[string]uint64{"tx_full": 1}, BusyNs: 2e9, RxRingFull: 3}},
		Ports:   []plane.PortStats{{Name: "eth1", Redirected: 100, Passed: 7, Drops: map[string]uint64{"malformed": 2}}},
		Chains: []plane.ChainStats{{
			Tenant: "acme", Name: "edge", Packets: 100, Bytes: 6400, Sent: 90, Passed: 4, Drops: map[string]uint64{"firewall.denied": 5, "tx_full": 1},
			Flows: 10, MaxFlows: 1000, FlowsCreated: 12, FlowsExpired: 2, Latency: plane.Quantiles{Count: 9, P50: 1000, P99: 5000, Max: 9000},
			Functions: []plane.FunctionStats{{
				Name: "firewall", Version: "1.1.0", State: "running", Packets: 100, Next: 95, Dropped: 5, Drops: map[string]uint64{"denied": 5},
				Traps: 1, NsPerPacket: 50, Latency: plane.Quantiles{Count: 3, P50: 3000, P99: 4000, Max: 4100},
			}},
		}},
		Tenants: []plane.TenantStats{{Name: "acme", BusyNs: 15e8, Share: 500, OverShare: 3, Flows: 10, MemoryBytes: 1 << 20}},
	}
}

func TestMetricsSayWhatTheAccountSays(t *testing.T) {
	c := NewCollector(func(context.Context) (plane.Stats, error) { return account(), nil }, Options{})
	want := `
# HELP sfc_chain_drops_total Packets dropped, by reason; function.reason is a function's own.
# TYPE sfc_chain_drops_total counter
sfc_chain_drops_total{chain="edge",reason="firewall.denied",tenant="acme"} 5
sfc_chain_drops_total{chain="edge",reason="tx_full",tenant="acme"} 1
# HELP sfc_chain_latency_seconds Time from a packet's arrival to its verdict, since the start.
# TYPE sfc_chain_latency_seconds gauge
sfc_chain_latency_seconds{chain="edge",statistic="p50",tenant="acme"} 1e-06
sfc_chain_latency_seconds{chain="edge",statistic="p99",tenant="acme"} 5e-06
sfc_chain_latency_seconds{chain="edge",statistic="max",tenant="acme"} 9e-06
# HELP sfc_function_state 1 for the state that the function is in.
# TYPE sfc_function_state gauge
sfc_function_state{chain="edge",function="firewall",state="running",tenant="acme",version="1.1.0"} 1
# HELP sfc_tenant_busy_seconds_total Time of workers in the tenant's chains.
# TYPE sfc_tenant_busy_seconds_total counter
sfc_tenant_busy_seconds_total{tenant="acme"} 1.5
# HELP sfc_up 1 when the data plane answered.
# TYPE sfc_up gauge
sfc_up 1
# HELP sfc_worker_ring_drops_total Packets that the kernel dropped at the worker's sockets: rx_ring_full, rx_fill_empty.
# TYPE sfc_worker_ring_drops_total counter
sfc_worker_ring_drops_total{reason="rx_fill_empty",worker="0"} 0
sfc_worker_ring_drops_total{reason="rx_ring_full",worker="0"} 3
`
	err := testutil.CollectAndCompare(c, strings.NewReader(want), "sfc_chain_drops_total", "sfc_chain_latency_seconds",
		"sfc_function_state", "sfc_tenant_busy_seconds_total", "sfc_up", "sfc_worker_ring_drops_total")
	if err != nil {
		t.Error(err)
	}
	problems, err := testutil.CollectAndLint(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestCardinalityIsBounded(t *testing.T) {
	var mu sync.Mutex
	chains := 10
	c := NewCollector(func(context.Context) (plane.Stats, error) {
		mu.Lock()
		defer mu.Unlock()
		var s plane.Stats
		for i := range chains {
			ch := plane.ChainStats{Tenant: "acme", Name: fmt.Sprintf("c%04d", i), Packets: 1, Drops: map[string]uint64{}}
			for r := range 100 {
				ch.Drops[fmt.Sprintf("f.r%02d", r)] = 1
			}
			s.Chains = append(s.Chains, ch)
		}
		return s, nil
	}, Options{MaxChains: 20, MaxReasons: 5})
	if n := testutil.CollectAndCount(c, "sfc_chain_drops_total"); n != 10*6 {
		t.Errorf("%d series of drops, want 5 reasons and the rest for each of 10 chains", n)
	}
	mu.Lock()
	chains = 5000
	mu.Unlock()
	if n := testutil.CollectAndCount(c, "sfc_chain_packets_total"); n != 21 {
		t.Errorf("%d series, want 20 chains and the rest", n)
	}
	err := testutil.CollectAndCompare(c, strings.NewReader(`
# HELP sfc_chain_flows Flows that are there.
# TYPE sfc_chain_flows gauge
`), "sfc_chain_flows")
	if err != nil {
		t.Error(err)
	}
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(c)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "sfc_chain_packets_total" {
			continue
		}
		var sum float64
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue()
		}
		if sum != 5000 {
			t.Errorf("packets of all chains are %v, want 5000: none is left out", sum)
		}
	}
}

func TestSilentPlaneIsSeen(t *testing.T) {
	c := NewCollector(func(context.Context) (plane.Stats, error) { return plane.Stats{}, errors.New("gone") }, Options{})
	if n := testutil.CollectAndCount(c); n != 2 {
		t.Errorf("%d metrics, want sfc_up and sfc_scrape_seconds", n)
	}
}

// The dashboard draws metrics that exist, with labels that they have.
func TestDashboardNamesRealMetrics(t *testing.T) {
	raw, err := os.ReadFile("dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Title  string
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(raw, &board); err != nil {
		t.Fatal(err)
	}
	exists := map[string]bool{}
	for _, d := range all {
		exists[regexp.MustCompile(`fqName: "([^"]+)"`).FindStringSubmatch(d.String())[1]] = true
	}
	drawn := map[string]bool{}
	for _, p := range board.Panels {
		if len(p.Targets) == 0 {
			t.Errorf("panel %q draws nothing", p.Title)
		}
		for _, tgt := range p.Targets {
			for _, name := range regexp.MustCompile(`sfc_[a-z_]+`).FindAllString(tgt.Expr, -1) {
				if !exists[name] {
					t.Errorf("panel %q draws %s, which does not exist", p.Title, name)
				}
				drawn[name] = true
			}
		}
	}
	if len(drawn) < 15 {
		t.Errorf("the dashboard draws %d metrics only", len(drawn))
	}
}

// Spans arrive at a real receiver.
func TestSpansArrive(t *testing.T) {
	var mu sync.Mutex
	names := map[string]bool{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := io.Reader(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			zr, err := gzip.NewReader(r.Body)
			if err != nil {
				t.Error(err)
				return
			}
			body = zr
		}
		raw, err := io.ReadAll(body)
		if err != nil {
			t.Error(err)
		}
		var req collector.ExportTraceServiceRequest
		if err := proto.Unmarshal(raw, &req); err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, rs := range req.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				for _, s := range ss.Spans {
					names[s.Name] = true
				}
			}
		}
	}))
	defer srv.Close()
	stop, err := Tracing(t.Context(), srv.URL, "test")
	if err != nil {
		t.Fatal(err)
	}
	_, span := otel.Tracer("sfc/test").Start(t.Context(), "chain.create")
	span.End()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if !names["chain.create"] {
		t.Errorf("spans %v arrived", names)
	}
}

func TestBadEndpointIsNamed(t *testing.T) {
	for _, bad := range []string{"localhost:4318", "ftp://host", "http://", "://"} {
		if _, err := Tracing(t.Context(), bad, "test"); !errors.Is(err, ErrEndpoint) || !strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	stop, err := Tracing(t.Context(), "", "test")
	if err != nil || stop() != nil {
		t.Errorf("no endpoint: %v", err)
	}
}
