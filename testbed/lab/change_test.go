package lab

import (
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sfc/testbed/gate"
)

// Flows move and functions are replaced while real stacks talk: every byte
// arrives.
func TestChangesUnderTraffic(t *testing.T) {
	gate.Root(t)
	gate.Leaks(t)
	c := run(t, Options{Workers: 2})
	echo(t, c, 7)
	firewall, err := filepath.Abs("../../nf/catalog/firewall/firewall.wasm")
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var changes sync.WaitGroup
	var moves, swaps atomic.Int64
	changes.Go(func() {
		for !closed(stop) {
			list, err := c.Flows(t.Context(), FlowQuery{Bucket: -1, Limit: 100})
			if err != nil {
				t.Error(err)
				return
			}
			for _, f := range list.Flows {
				if _, err := c.Move(t.Context(), MoveArgs{Bucket: f.Bucket, To: 1 - f.Worker}); err != nil {
					t.Error(err)
					return
				}
				moves.Add(1)
			}
		}
	})
	changes.Go(func() {
		for ; !closed(stop); time.Sleep(20 * time.Millisecond) {
			args := SwapArgs{Function: "firewall", ProbationNs: int64(time.Millisecond)}
			if swaps.Load()%2 == 0 {
				args.Module = firewall
			} else {
				args.Config = []byte(`{"default": "deny", "rules": [{"action": "permit", "src": "10.0.0.0/8"}, {"action": "permit", "src": "fd00::/8"}]}`)
			}
			r, err := c.Swap(t.Context(), args)
			if err != nil && strings.Contains(err.Error(), "on probation") {
				continue
			}
			if err != nil {
				t.Error(err)
				return
			}
			if swaps.Add(1); r.State != "kept" || len(r.HoldsNs) != 2 {
				t.Errorf("%+v", r)
			}
		}
	})
	var talks sync.WaitGroup
	for range 4 {
		talks.Go(func() {
			for range 3 {
				on(t, c, HostClient, func() error { return stream("10.0.1.2:7", 4<<20) })
				on(t, c, HostClient, func() error { return datagrams("[fd00:1::2]:7", 50) })
			}
		})
	}
	talks.Wait()
	// On a busy machine it takes longer until something was tested.
	for end := time.Now().Add(30 * time.Second); (moves.Load() < 50 || swaps.Load() < 3) && time.Now().Before(end); {
		on(t, c, HostClient, func() error { return datagrams("[fd00:1::2]:7", 50) })
	}
	close(stop)
	changes.Wait()
	if moves.Load() < 50 || swaps.Load() < 3 {
		t.Errorf("%d moves, %d replacements", moves.Load(), swaps.Load())
	}
	s, err := c.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if h := s.Holds; h == nil || h.Packets == 0 || h.P50Ns > h.P99Ns || h.P99Ns > h.MaxNs {
		t.Errorf("%+v", h)
	}
	f := s.Chains[0].Functions[0]
	if f.Faults != 0 || f.State != "running" || f.Replaced == "" || f.Replaced == "rolled_back" {
		t.Errorf("%+v", f)
	}
	t.Logf("%d moves, %d replacements, holds %+v", moves.Load(), swaps.Load(), s.Holds)
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// A bucket goes with its flows, which then are the other worker's.
func TestMove(t *testing.T) {
	gate.Root(t)
	gate.Leaks(t)
	c := run(t, Options{Workers: 2})
	echo(t, c, 7)
	on(t, c, HostClient, func() error { return datagrams("10.0.1.2:7", 1) })
	udp := func() (f FlowInfo) {
		list, err := c.Flows(t.Context(), FlowQuery{Chain: "guard", Bucket: -1, Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range list.Flows {
			if f.Protocol == "udp" {
				return f
			}
		}
		t.Fatalf("no flow of UDP in %+v", list)
		return f
	}
	f := udp()
	to := 1 - f.Worker
	r, err := c.Move(t.Context(), MoveArgs{Chain: "test/guard", Bucket: f.Bucket, To: to})
	if err != nil {
		t.Fatal(err)
	}
	if r.From != f.Worker || r.To != to || r.Flows < 1 || r.Refused != 0 || r.Chain != "test/guard" || r.TookNs <= 0 {
		t.Errorf("%+v", r)
	}
	if now := udp(); now.Worker != to || now.Bucket != f.Bucket {
		t.Errorf("%+v after %+v", now, f)
	}
	only, err := c.Flows(t.Context(), FlowQuery{Bucket: f.Bucket, Limit: 1})
	if err != nil || len(only.Flows) != 1 || only.Flows[0].Bucket != f.Bucket {
		t.Errorf("%+v, %v", only, err)
	}
	if r, err := c.Move(t.Context(), MoveArgs{Bucket: f.Bucket, To: to}); err != nil || r.From != to || r.Flows != 0 {
		t.Errorf("to whom it belongs: %+v, %v", r, err)
	}
	if _, err := c.Move(t.Context(), MoveArgs{Bucket: 0, To: 2}); err == nil {
		t.Error("there is no worker 2")
	}
}
