package agent

import (
	"context"
	"sync"
	"testing"
	"time"

	"sfc/ctrl/plane"
	"sfc/testbed/gate"
	"sfc/testbed/trafgen"
)

// planeOn is a data plane on a wire, with codes to be put.
func planeOn(t *testing.T, w *wire, o PlaneOptions, codes ...string) *rig {
	t.Helper()
	r := &rig{codes: codesOf(t, codes...)}
	o.Workers, o.Cores = 2, []int{-1, -1}
	o.Kernel = LocalKernel(w.engine.Do)
	var err error
	if r.Dataplane, err = OpenPlane(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// Chains are added, changed, made anew and removed every few milliseconds while
// two others have traffic: those lose nothing, and see every packet once.
func TestPlaneLiveChanges(t *testing.T) {
	gate.Leaks(t)
	w := newWire(t)
	r := planeOn(t, w, PlaneOptions{Probation: -1}, "firewall", "flowstat", "hop")
	steady := []plane.Chain{chainOf("acme", "a", 5, guards...), chainOf("acme", "b", 6, fn{"hop", "hop", ""})}
	if o := r.apply(t, steady...); !o.Chains[0].Active || !o.Chains[1].Active {
		t.Fatal(reasons(o))
	}
	stop := make(chan struct{})
	var sent uint64
	var wg sync.WaitGroup
	s, err := trafgen.OpenSender(w.far[0])
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			n, err := s.Send([][]byte{tagged(5, i%300), tagged(6, i%300)})
			if sent += uint64(n); err != nil {
				t.Error(err)
				return
			}
			time.Sleep(50 * time.Microsecond)
		}
	})
	var applied int
	for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); applied++ {
		extra := chainOf("else", "x", 7, guards...)
		switch applied % 4 {
		case 1:
			extra = chainOf("else", "x", 8, fn{"fw", "firewall", `{"default":"deny"}`}, guards[1]) // another configuration, other packets
		case 2:
			extra = chainOf("else", "x", 8, fn{"hop", "hop", ""}) // made anew
		case 3:
			extra = chainOf("else", "y", 9, guards...) // x goes
		}
		o := r.apply(t, append(steady, extra)...)
		for _, c := range o.Chains {
			if !c.Active || c.Reason != "" {
				t.Fatalf("%d: %+v", applied, c)
			}
		}
	}
	close(stop)
	wg.Wait()
	time.Sleep(50 * time.Millisecond) // what is on its way
	stats, err := r.Stats(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var came, left uint64
	for _, c := range stats.Chains[:2] {
		came, left = came+c.Packets, left+c.Sent
		if len(c.Drops) > 0 {
			t.Errorf("chain %s dropped %v", c.Name, c.Drops)
		}
	}
	if came != sent || left != sent {
		t.Errorf("%d packets were sent, %d came, %d left: %+v", sent, came, left, stats)
	}
	if f, want := uint64(stats.Chains[0].Flows), min(sent/2, 300); f != want {
		t.Errorf("%d flows, want %d", f, want)
	}
	t.Logf("%d packets, %d changes", sent, applied)
}
