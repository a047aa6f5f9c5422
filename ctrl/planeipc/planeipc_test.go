package planeipc

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"sfc/ctrl/ipc"
	"sfc/ctrl/plane"
	"sfc/testbed/gate"
)

func TestMain(m *testing.M) { os.Exit(gate.Main(m)) }

// memory is a plane that remembers, and answers with what it was given.
type memory struct {
	codes   map[string]string
	desired plane.Desired
	events  chan plane.Event
}

func (m *memory) PutCode(_ context.Context, digest string, code *os.File) error {
	b, err := ipc.ReadMemfd(code, 1<<20)
	m.codes[digest] = string(b)
	return err
}

func (m *memory) Apply(_ context.Context, d plane.Desired) (plane.Observed, error) {
	if d.Revision == 0 {
		return plane.Observed{}, ipc.Errorf("stale", "revision 0 is older than %d", m.desired.Revision)
	}
	m.desired = d
	return plane.Observed{Revision: d.Revision}, nil
}

func (m *memory) Observe(context.Context) (plane.Observed, error) {
	return plane.Observed{Revision: m.desired.Revision}, nil
}

func (m *memory) Stats(context.Context) (plane.Stats, error) {
	return plane.Stats{Chains: []plane.ChainStats{{Name: "edge", Packets: 1 << 60, Drops: map[string]uint64{"fw.denied": 3}}}}, nil
}

func (m *memory) Flows(_ context.Context, q plane.FlowQuery) ([]plane.Flow, error) {
	return []plane.Flow{{Tenant: q.Tenant, Worker: q.Worker, Idle: time.Second}}, nil
}

func (m *memory) Events(ctx context.Context, after uint64) ([]plane.Event, error) {
	select {
	case e := <-m.events:
		e.Seq = after + 1
		return []plane.Event{e}, nil
	case <-ctx.Done():
		return nil, nil
	}
}

// looker looks into packets, too.
type looker struct{ *memory }

func (looker) Trace(ctx context.Context, r plane.TraceRequest) ([]plane.Trace, error) {
	<-ctx.Done()
	return []plane.Trace{{Port: r.Chain}}, nil
}

func (looker) Capture(ctx context.Context, r plane.CaptureRequest, out *os.File) (plane.CaptureReport, error) {
	_, err := out.WriteString("packets at " + r.At)
	<-ctx.Done()
	return plane.CaptureReport{Written: 7}, err
}

// connected returns a client of a plane, and what ends the connection.
func connected(t *testing.T, c *Client, p Server) (end func()) {
	t.Helper()
	m := ipc.NewMux()
	Serve(m, p)
	a, b, err := ipc.Pair()
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan *ipc.Conn, 1)
	go func() {
		conn, err := ipc.Open(t.Context(), b, ipc.Options{Name: "dataplane", Mux: m})
		if err != nil {
			t.Error(err)
		}
		served <- conn
	}()
	conn, err := ipc.Open(t.Context(), a, ipc.Options{Name: "control"})
	if err != nil {
		t.Fatal(err)
	}
	far := <-served
	t.Cleanup(func() { conn.Close(); far.Close() })
	c.Attach(conn)
	return far.Close
}

func TestEveryMethodGoesThrough(t *testing.T) {
	gate.Leaks(t)
	m := &memory{codes: map[string]string{}, events: make(chan plane.Event, 1)}
	c := NewClient()
	connected(t, c, looker{m})
	ctx := t.Context()
	code, err := ipc.Memfd("code", []byte("machine code"))
	if err != nil {
		t.Fatal(err)
	}
	defer code.Close()
	if err := c.PutCode(ctx, "sha256:1", code); err != nil || m.codes["sha256:1"] != "machine code" {
		t.Errorf("put: %v, %v", m.codes, err)
	}
	want := plane.Desired{Revision: 7, Ports: []plane.Port{{Name: "in", Interface: "eth1"}}, Chains: make([]plane.Chain, 10_000)}
	for i := range want.Chains {
		want.Chains[i] = plane.Chain{Name: "chain", Spec: json.RawMessage(`{"name":"` + strings.Repeat("x", 200) + `"}`)}
	}
	o, err := c.Apply(ctx, want)
	if err != nil || o.Revision != 7 || !reflect.DeepEqual(m.desired, want) {
		t.Errorf("apply of %d chains: %+v, %v", len(want.Chains), o, err)
	}
	if _, err := c.Apply(ctx, plane.Desired{}); ipc.Code(err) != "stale" {
		t.Errorf("refused apply: %v", err)
	}
	if o, err := c.Observe(ctx); err != nil || o.Revision != 7 {
		t.Errorf("observe: %+v, %v", o, err)
	}
	if s, err := c.Stats(ctx); err != nil || s.Chains[0].Packets != 1<<60 || s.Chains[0].Drops["fw.denied"] != 3 {
		t.Errorf("stats: %+v, %v", s, err)
	}
	if f, err := c.Flows(ctx, plane.FlowQuery{Tenant: "acme", Worker: -1}); err != nil || f[0].Tenant != "acme" || f[0].Worker != -1 || f[0].Idle != time.Second {
		t.Errorf("flows: %+v, %v", f, err)
	}
	m.events <- plane.Event{Kind: "log"}
	if e, err := c.Events(ctx, 41); err != nil || e[0].Seq != 42 {
		t.Errorf("events: %+v, %v", e, err)
	}
}

// What goes on until its context ends answers then with what it has.
func TestWhatWaitsEndsWithItsContext(t *testing.T) {
	gate.Leaks(t)
	c := NewClient()
	connected(t, c, looker{&memory{}})
	short := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	if e, err := c.Events(short(), 0); err != nil || len(e) != 0 {
		t.Errorf("events: %v, %v", e, err)
	}
	if tr, err := c.Trace(short(), plane.TraceRequest{Chain: "edge"}); err != nil || len(tr) != 1 || tr[0].Port != "edge" {
		t.Errorf("trace: %v, %v", tr, err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	report, err := c.Capture(short(), plane.CaptureRequest{At: "ingress"}, w)
	if err != nil || report.Written != 7 {
		t.Errorf("capture: %+v, %v", report, err)
	}
	w.Close() // the caller's; the other side's is closed already
	if text, err := io.ReadAll(r); err != nil || string(text) != "packets at ingress" {
		t.Errorf("captured %q, %v", text, err)
	}
}

func TestDataPlanesComeAndGo(t *testing.T) {
	gate.Leaks(t)
	c := NewClient()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Observe(ctx); !errors.Is(err, ErrDown) {
		t.Errorf("without a data plane: %v", err)
	}
	serial, next := c.Attached()
	waiting := make(chan error)
	go func() {
		_, err := c.Observe(t.Context())
		waiting <- err
	}()
	end := connected(t, c, &memory{})
	<-next
	if n, _ := c.Attached(); n != serial+1 {
		t.Errorf("%d data planes after %d", n, serial)
	}
	if err := <-waiting; err != nil {
		t.Errorf("a call that waited for it: %v", err)
	}
	if _, err := c.Trace(t.Context(), plane.TraceRequest{}); ipc.Code(err) != ipc.CodeNoMethod {
		t.Errorf("a plane that does not look into packets: %v", err)
	}
	end()
	go func() {
		_, err := c.Observe(t.Context())
		waiting <- err
	}()
	connected(t, c, &memory{})
	if err := <-waiting; err != nil && !errors.Is(err, ipc.ErrLost) {
		t.Errorf("a call between two data planes: %v", err)
	}
	if _, err := c.Observe(t.Context()); err != nil {
		t.Errorf("with the next one: %v", err)
	}
}
