package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"sfc/ctrl/place"
	"sfc/dataplane"
	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
	"sfc/nf/wasm"
	"sfc/testbed/gate"
)

// Everything that may happen to a running engine does, at the same time: flows
// move, functions are replaced, everything is asked for. Nothing is lost.
func TestLiveChanges(t *testing.T) {
	w := newWire(t)
	e := w.open(t)
	if _, err := e.Move(0, 0, 1); !errors.Is(err, ErrNotConnected) {
		t.Errorf("move before: %v", err)
	}
	if err := w.connect(e); err != nil {
		t.Fatal(err)
	}
	if err := w.connect(e); !errors.Is(err, ErrConnected) {
		t.Errorf("connected twice: %v", err)
	}
	if _, err := e.Move(0, 0, 1); !errors.Is(err, dataplane.ErrStopped) {
		t.Errorf("move before the start: %v", err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); !errors.Is(err, dataplane.ErrStarted) {
		t.Errorf("started twice: %v", err)
	}
	stop := make(chan struct{})
	sent := w.load(t, 500, stop)
	ctx, cancel := context.WithCancel(context.Background())
	var others sync.WaitGroup
	var moves, flows, swaps int
	others.Go(func() {
		if err := e.Balance(ctx, 5*time.Millisecond, place.Options{}, nil, func([]place.Elephant) {}); err != nil {
			t.Errorf("balance: %v", err)
		}
	})
	others.Go(func() {
		rnd := rand.New(rand.NewPCG(5, 5))
		for ctx.Err() == nil {
			r, err := e.Move(0, uint16(rnd.IntN(steer.Buckets)), rnd.IntN(2))
			if err != nil || r.Refused != 0 || r.Stuck {
				t.Errorf("%+v, %v", r, err)
				return
			}
			moves++
			flows += r.Flows
		}
	})
	others.Go(func() {
		for ctx.Err() == nil {
			_, err := e.Swap(0, swaps%2, SwapOptions{Module: catalog + []string{"firewall/firewall.wasm", "flowstat/flowstat.wasm"}[swaps%2], Probation: -1})
			if err != nil && !errors.Is(err, wasm.ErrProbation) {
				t.Errorf("swap: %v", err)
				return
			}
			swaps++
			time.Sleep(10 * time.Millisecond)
		}
	})
	others.Go(func() {
		for last := e.Load(nil); ctx.Err() == nil; last = e.Load(last) {
			e.Stats()
			e.Workers()
			e.Owned(0)
			e.Flows(FlowFilter{Chain: -1, Bucket: -1, Limit: 100})
			if _, err := e.Holds(); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Millisecond)
		}
	})
	time.Sleep(time.Second)
	close(stop)
	total := sent()
	cancel()
	others.Wait()
	time.Sleep(50 * time.Millisecond) // what is on its way
	if err := e.Stop(); err != nil {
		t.Fatal(err)
	}
	sum := account(t, e)
	var received uint64
	for p := range portNames {
		c, err := e.Steered(p)
		if err != nil {
			t.Fatal(err)
		}
		received += c.Redirected
	}
	// A packet of the way back whose flow had not begun is denied.
	if want := uint64(total[0] + total[1]); received != want || sum.Received != want || sum.Engine != ([packet.NumReasons]uint64{}) {
		t.Errorf("%d packets were sent, %d steered: %+v", want, received, sum)
	}
	if err := e.VerifyFlows(); err != nil {
		t.Error(err)
	}
	if moves == 0 || flows == 0 || swaps == 0 {
		t.Errorf("%d moves of %d flows, %d replacements: nothing was tested", moves, flows, swaps)
	}
	t.Logf("%d packets, %d moves of %d flows, %d replacements", received, moves, flows, swaps)
}

// An engine may be taken down at any moment, whatever is going on.
func TestLiveDisconnect(t *testing.T) {
	w := newWire(t)
	for i := range 4 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			gate.Leaks(t)
			e := w.open(t)
			if err := w.connect(e); err != nil {
				t.Fatal(err)
			}
			if i > 0 {
				if err := e.Start(); err != nil {
					t.Fatal(err)
				}
			}
			stop := make(chan struct{})
			sent := w.load(t, 200, stop)
			var others sync.WaitGroup
			others.Go(func() {
				for n := uint16(0); ; n++ {
					if _, err := e.Move(0, n%64, int(n/64)%2); err != nil {
						return
					}
				}
			})
			others.Go(func() {
				_ = e.Balance(context.Background(), time.Millisecond, place.Options{}, nil, nil)
			})
			others.Go(func() {
				for {
					_, err := e.Swap(0, 1, SwapOptions{Config: []byte(`{"tcp_rtt": true}`), Probation: -1})
					if err != nil && !errors.Is(err, wasm.ErrProbation) {
						return
					}
					e.Load(nil)
					e.Owned(0)
				}
			})
			time.Sleep(time.Duration(10+30*i) * time.Millisecond)
			if err := e.Disconnect(); err != nil {
				t.Errorf("disconnect: %v", err)
			}
			close(stop)
			sent()
			done := make(chan struct{})
			go func() { others.Wait(); close(done) }()
			select {
			case <-done:
			case <-time.After(5 * time.Second):
				t.Fatal("something waits for an engine that is gone")
			}
			if err := e.Start(); !errors.Is(err, dataplane.ErrStopped) {
				t.Errorf("start afterwards: %v", err)
			}
			if n := e.Owned(0); n[0]+n[1] != 0 {
				t.Errorf("owned afterwards: %v", n)
			}
			if s := e.Stats(); len(s) != 1 || i > 1 && s[0].Functions[0].Packets == 0 {
				t.Errorf("%+v", s)
			}
			if err := errors.Join(e.Disconnect(), e.Close()); err != nil {
				t.Error(err)
			}
		})
	}
}

// What fails half-way leaves nothing, neither here nor on the interfaces.
func TestLiveFailures(t *testing.T) {
	w := newWire(t)
	for name, ports := range map[string][]Port{
		"the second interface is not there": {w.ports[0], {Ifindex: 99}},
		"the first interface is not there":  {{Ifindex: 99}, w.ports[1]},
		"one interface for both ports":      {w.ports[0], w.ports[0]},
	} {
		t.Run(name, func(t *testing.T) {
			gate.Leaks(t)
			e := w.open(t)
			if err := w.engine.Do(func() error { return e.Connect(ports) }); err == nil {
				t.Error("no error")
			}
			if err := e.Start(); err == nil {
				t.Error("an engine that is not connected was started")
			}
			if err := w.connect(e); !errors.Is(err, ErrConnected) {
				t.Errorf("again: %v", err)
			}
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("a core that is not there", func(t *testing.T) {
		gate.Leaks(t)
		e, err := Open(Options{Specs: specs(t, guard), Ports: portNames, Workers: 2, Cores: []int{-1, 4000}})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.connect(e); err != nil {
			t.Fatal(err)
		}
		if err := e.Start(); err == nil {
			t.Error("no error")
		}
		if _, err := e.Move(0, 0, 1); !errors.Is(err, dataplane.ErrStopped) {
			t.Errorf("move: %v", err)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	// The interfaces are free for the next one.
	e := w.open(t)
	if err := w.connect(e); err != nil {
		t.Fatal(err)
	}
}
