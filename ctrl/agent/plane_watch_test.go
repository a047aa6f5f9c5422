package agent

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"sfc/ctrl/plane"
	"sfc/testbed/capture"
	"sfc/testbed/gate"
)

// watched is a data plane with a chain that has packets all the time.
func watched(t *testing.T) (*rig, func()) {
	t.Helper()
	r := openRig(t, PlaneOptions{Workers: 2}, "firewall", "hop")
	r.apply(t, chainOf("acme", "a", 5,
		fn{"fw", "firewall", `{"default":"permit","rules":[{"action":"deny","src":"10.0.0.7/32"}]}`},
		fn{"hop", "hop", `{"src_mac":"02:00:00:00:00:0c","dst_mac":"02:00:00:00:00:0d"}`}))
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Microsecond):
				r.k.offer(0, tagged(5, i%20))
			}
		}
	}()
	return r, func() { close(stop); <-done }
}

func TestPlaneTrace(t *testing.T) {
	gate.Leaks(t)
	r, stop := watched(t)
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	list, err := r.Trace(ctx, plane.TraceRequest{Tenant: "acme", Chain: "a", Filter: "src host 10.0.0.3 and udp", Count: 5})
	if err != nil || len(list) != 5 {
		t.Fatalf("%d traces: %v", len(list), err)
	}
	for _, one := range list {
		if one.Port != "in" || one.Path != "forward" || one.Verdict != "sent" || one.Egress != "out" || len(one.Hops) != 2 || one.Length != 64 || !strings.Contains(one.Flow, "udp 10.0.0.3:5000 -> 10.1.0.1:53") {
			t.Fatalf("%+v", one)
		}
		if fw, hop := one.Hops[0], one.Hops[1]; fw.Function != "fw" || fw.Verdict != "next" || len(fw.Changes) != 0 || hop.Function != "hop" || len(hop.Changes) == 0 || hop.Changes[0].Offset != 5 || hop.TookNs == 0 {
			t.Errorf("%+v", one.Hops)
		}
	}
	list, err = r.Trace(ctx, plane.TraceRequest{Tenant: "acme", Chain: "a", Filter: "10.0.0.7", Count: 1})
	if err != nil || len(list) != 1 || list[0].Verdict != "dropped" || !strings.HasPrefix(list[0].Reason, "fw.") || len(list[0].Hops) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	for want, q := range map[string]plane.TraceRequest{
		"does not run": {Tenant: "acme", Chain: "b", Count: 1},
		"1 to 1000":    {Tenant: "acme", Chain: "a"},
		"filter":       {Tenant: "acme", Chain: "a", Count: 1, Filter: "host"},
	} {
		if _, err := r.Trace(ctx, q); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", q, err, want)
		}
	}
}

func TestPlaneCapture(t *testing.T) {
	gate.Leaks(t)
	r, stop := watched(t)
	defer stop()
	for _, tt := range []struct{ at, filter, comment string }{
		{"", "host 10.0.0.3", "ingress in, worker"},
		{"egress", "", "egress out, worker"},
		{"drops", "", "fw.denied"},
		{"fw:out", "", "function fw, worker"},
		{"hop:in", "", "function hop, worker"},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		file, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		report, err := r.Capture(ctx, plane.CaptureRequest{Tenant: "acme", Chain: "a", At: tt.at, Filter: tt.filter, Count: 10}, file)
		cancel()
		if err != nil || report.Written != 10 || report.Seen < 10 {
			t.Fatalf("%q: %+v, %v", tt.at, report, err)
		}
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		in, err := capture.NewReader(file, "capture")
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for {
			p, err := in.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if n++; len(p.Data) != 64 {
				t.Errorf("%q: %d bytes", tt.at, len(p.Data))
			}
		}
		raw, err := os.ReadFile(file.Name())
		if err != nil || n != 10 || !strings.Contains(string(raw), tt.comment) {
			t.Errorf("%q: %d packets, no comment %q: %v", tt.at, n, tt.comment, err)
		}
		if err := file.Close(); err != nil {
			t.Error(err)
		}
	}
	// The other end goes away.
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	go func() { time.Sleep(50 * time.Millisecond); pr.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := r.Capture(ctx, plane.CaptureRequest{Tenant: "acme", Chain: "a"}, pw); err != nil || ctx.Err() != nil {
		t.Errorf("%v, %v", err, ctx.Err())
	}
	pw.Close()
	if _, err := r.Capture(ctx, plane.CaptureRequest{Tenant: "acme", Chain: "a", At: "fw"}, pw); err == nil || !strings.Contains(err.Error(), "fw, hop with :in or :out") {
		t.Errorf("%v", err)
	}
}

// Looks at packets have memory of their own, so a tenant has a few at a time, and
// leaves room for others; those that end make room.
func TestPlaneLooksAreBounded(t *testing.T) {
	gate.Leaks(t)
	r := openRig(t, PlaneOptions{Workers: 1}, "hop")
	var list []plane.Chain
	for i, tenant := range []string{"acme", "blue"} {
		for k := range 2 {
			list = append(list, chainOf(tenant, string(rune('a'+k)), 5+2*i+k, fn{"hop", "hop", `{"src_mac":"02:00:00:00:00:0c","dst_mac":"02:00:00:00:00:0d"}`}))
		}
	}
	r.apply(t, list...)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error)
	look := func(tenant, chain string) {
		_, err := r.Trace(ctx, plane.TraceRequest{Tenant: tenant, Chain: chain, Count: 1})
		ended <- err
	}
	for i := range looksOfTenant {
		go look("acme", string(rune('a'+i%2)))
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		r.looks.mu.Lock()
		n := r.looks.of["acme"]
		r.looks.mu.Unlock()
		if n == looksOfTenant {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d looks began", n)
		}
		time.Sleep(time.Millisecond)
	}
	if _, err := r.Trace(ctx, plane.TraceRequest{Tenant: "acme", Chain: "a", Count: 1}); !errors.Is(err, errLooks) {
		t.Errorf("one look more: %v", err)
	}
	go look("blue", "a")
	r.apply(t, list[2:]...) // acme's looks end with its chains
	for range looksOfTenant {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if r.looks.all != 0 || len(r.looks.of) != 0 {
		t.Errorf("left: %d, %v", r.looks.all, r.looks.of)
	}
}
