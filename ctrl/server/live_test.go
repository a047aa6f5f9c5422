package server

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sfc/ctrl/api"
	"sfc/ctrl/client"
)

// A tenant sees its own traffic and nothing of others or of the host, even if the
// data plane says more than it was asked.
func TestTenantsApart(t *testing.T) {
	w := start(t, t.TempDir(), nil)
	w.tenant(t, "acme", api.TenantSpec{})
	must[*api.Chain](t)(w.root.Chains("acme").Create(t.Context(), chain("edge")))
	must[*api.Port](t)(w.root.Ports().Create(t.Context(), &api.Port{Metadata: api.Metadata{Name: "in"}, Spec: api.PortSpec{Tenants: []string{"acme", "secret-tenant"}}}))
	must[*api.Port](t)(w.root.Ports().Create(t.Context(), &api.Port{Metadata: api.Metadata{Name: "secret-port"}, Spec: api.PortSpec{Tenants: []string{"other"}}}))
	c := w.as(t, w.token(t, "acme", "v", api.Viewer))
	stats := must[*api.Stats](t)(c.Stats(t.Context(), "acme"))
	if len(stats.Workers)+len(stats.Ports) != 0 || len(stats.Chains) != 1 || stats.Chains[0].Packets != 7 || len(stats.Tenants) != 1 {
		t.Errorf("stats %+v", stats)
	}
	flows := must[[]api.Flow](t)(c.Flows(t.Context(), "acme", client.FlowQuery{}))
	if len(flows) != 1 || flows[0].Tenant != "acme" || flows[0].Worker != nil {
		t.Errorf("flows %+v", flows)
	}
	var events []api.Event
	for begin := time.Now(); len(events) == 0 && time.Since(begin) < 5*time.Second; time.Sleep(5 * time.Millisecond) {
		for e, err := range c.Events(t.Context(), "acme", client.EventQuery{}) {
			if err != nil {
				t.Fatal(err)
			}
			events = append(events, e)
		}
	}
	if len(events) != 1 || events[0].Text != "hello" || events[0].Worker != nil {
		t.Errorf("events %+v", events)
	}
	ports := must[*api.List[api.Port]](t)(c.TenantPorts(t.Context(), "acme"))
	if len(ports.Items) != 1 || ports.Items[0].Metadata.Name != "in" {
		t.Errorf("ports %+v", ports.Items)
	}
	traces := must[[]api.Trace](t)(c.Trace(t.Context(), "acme", "edge", api.TraceRequest{}))
	all := must[[]byte](t)(json.Marshal([]any{stats, flows, events, ports, traces}))
	if bytes.Contains(all, []byte("secret")) || bytes.Contains(all, []byte("other")) {
		t.Errorf("the tenant is told of others: %s", all)
	}
	if h := traces[0].Hops[0].Function; h != "acme/edge" {
		t.Errorf("the data plane was asked for %s", h)
	}
	_, err := c.Trace(t.Context(), "acme", "secret-chain", api.TraceRequest{})
	is(t, err, 404, api.ReasonNotFound)

	whole := must[*api.Stats](t)(w.root.Stats(t.Context(), ""))
	if len(whole.Workers) != 1 || len(whole.Ports) != 1 || len(whole.Chains) != 2 {
		t.Errorf("the host sees %+v", whole)
	}
	_, err = c.Flows(t.Context(), "acme", client.FlowQuery{Filter: "nonsense"})
	is(t, err, 400, api.ReasonInvalid)
}

// Events come as they happen, and where they were left off.
func TestEvents(t *testing.T) {
	w := start(t, t.TempDir(), nil)
	w.tenant(t, "acme", api.TenantSpec{})
	w.Publish(api.Event{Kind: "control", Tenant: "acme", Text: "first"})
	var told []api.Event
	for e, err := range w.root.Events(t.Context(), "acme", client.EventQuery{Follow: true, Kind: "control"}) {
		if err != nil {
			t.Fatal(err)
		}
		if told = append(told, e); len(told) == 2 {
			break
		}
		w.Publish(api.Event{Kind: "control", Tenant: "other", Text: "not this"})
		w.Publish(api.Event{Kind: "fault", Tenant: "acme", Text: "nor this"})
		w.Publish(api.Event{Kind: "control", Tenant: "acme", Text: "second"})
	}
	if told[0].Text != "first" || told[1].Text != "second" || told[1].Seq <= told[0].Seq || told[1].Time.IsZero() {
		t.Errorf("%+v", told)
	}
	var rest []string
	for e, err := range w.root.Events(t.Context(), "acme", client.EventQuery{After: told[0].Seq}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind != "log" {
			rest = append(rest, e.Text)
		}
	}
	if strings.Join(rest, ",") != "nor this,second" {
		t.Errorf("after the first came %q", rest)
	}
}

// Who comes back for events that are gone is told so.
func TestEventsLost(t *testing.T) {
	h := newHub()
	_, _, start, _ := h.since(0)
	for range keptEvents + 10 {
		h.publish(api.Event{})
	}
	events, lost, last, _ := h.since(start + 1)
	if !lost || last != start+keptEvents+10 || len(events) < keptEvents/2 || events[len(events)-1].Seq != last {
		t.Errorf("lost %v, last %d, %d events", lost, last, len(events))
	}
	if _, lost, _, _ = h.since(events[0].Seq - 1); lost {
		t.Error("nothing is lost after the first that is kept")
	}
	if events, lost, _, _ = h.since(last + 1_000_000); lost || len(events) == 0 {
		t.Error("numbers of another time do not begin again")
	}
}

// A capture comes whole, or as long as somebody reads it; what is wrong with it
// is a problem.
func TestCapture(t *testing.T) {
	w := start(t, t.TempDir(), nil)
	w.tenant(t, "acme", api.TenantSpec{})
	must[*api.Chain](t)(w.root.Chains("acme").Create(t.Context(), chain("edge")))
	r := must[io.ReadCloser](t)(w.root.Capture(t.Context(), "acme", "edge", api.CaptureRequest{Count: 100}))
	if data := must[[]byte](t)(io.ReadAll(r)); len(data) != 100*len(capturePiece) {
		t.Errorf("%d bytes", len(data))
	}
	r.Close()
	r = must[io.ReadCloser](t)(w.root.Capture(t.Context(), "acme", "edge", api.CaptureRequest{}))
	must[int64](t)(io.CopyN(io.Discard, r, 1<<20))
	r.Close()
	_, err := w.root.Capture(t.Context(), "acme", "edge", api.CaptureRequest{Filter: "nonsense"})
	is(t, err, 400, api.ReasonInvalid)
	_, err = w.root.Capture(t.Context(), "acme", "none", api.CaptureRequest{})
	is(t, err, 404, api.ReasonNotFound)
	for begin := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		w.streams.mu.Lock()
		open := len(w.streams.count)
		w.streams.mu.Unlock()
		if open == 0 {
			break
		} else if time.Since(begin) > 5*time.Second {
			t.Fatal("a capture that nobody reads goes on")
		}
	}
}

// A client that does not read its capture loses it.
func TestSlowReader(t *testing.T) {
	w := start(t, t.TempDir(), func(o *Options) { o.Limits.Write = 100 * time.Millisecond })
	w.tenant(t, "acme", api.TenantSpec{})
	must[*api.Chain](t)(w.root.Chains("acme").Create(t.Context(), chain("edge")))
	c := must[net.Conn](t)(net.Dial("unix", filepath.Join(w.dir, "s")))
	defer c.Close()
	must[int](t)(io.WriteString(c, "POST /v1/tenants/acme/chains/edge/capture HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"))
	for begin := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		w.streams.mu.Lock()
		open := len(w.streams.count)
		w.streams.mu.Unlock()
		if open == 0 && time.Since(begin) > 50*time.Millisecond {
			break
		} else if time.Since(begin) > 5*time.Second {
			t.Fatal("it is still served")
		}
	}
	data, err := io.ReadAll(c)
	if err != nil || bytes.HasSuffix(data, []byte("0\r\n\r\n")) {
		t.Errorf("%d bytes that end as if they were all, err %v", len(data), err)
	}
}

// A trace that nothing comes for ends when its time is over.
func TestTraceEnds(t *testing.T) {
	w := start(t, t.TempDir(), nil)
	w.tenant(t, "acme", api.TenantSpec{})
	must[*api.Chain](t)(w.root.Chains("acme").Create(t.Context(), chain("edge")))
	begin := time.Now()
	traces := must[[]api.Trace](t)(w.root.Trace(t.Context(), "acme", "edge", api.TraceRequest{Filter: "never", TimeoutSeconds: 1}))
	if took := time.Since(begin); len(traces) != 0 || took < time.Second || took > 3*time.Second {
		t.Errorf("%d traces after %v", len(traces), took)
	}
	_, err := w.root.Trace(t.Context(), "acme", "edge", api.TraceRequest{Count: 1001})
	if p := is(t, err, 422, api.ReasonInvalid); p.Errors[0].Pointer != "/count" {
		t.Errorf("%+v", p)
	}
}

// Metrics are those of the collector.
func TestMetrics(t *testing.T) {
	w := start(t, t.TempDir(), nil)
	status, data, header := w.raw(t, http.MethodGet, "/metrics", "", nil)
	if status != 200 || !strings.Contains(string(data), "sfc_up 1") || header.Get("Content-Type") != string(api.BodyMetrics) {
		t.Errorf("%d %s %v", status, data, header)
	}
}
