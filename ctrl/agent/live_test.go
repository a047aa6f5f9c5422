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
	"sfc/testbed/netns"
	"sfc/testbed/trafgen"
)

// wire is an engine's namespace with two links, the far ends of which are the
// test's.
type wire struct {
	engine *netns.NS
	ports  []Port
	far    [2]*netns.Link
}

func newWire(t *testing.T) *wire {
	t.Helper()
	gate.Root(t)
	gate.Leaks(t)
	w := &wire{}
	closing := func(f func() error) {
		t.Cleanup(func() {
			if err := f(); err != nil {
				t.Error(err)
			}
		})
	}
	host, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	closing(host.Close)
	if w.engine, err = netns.New(); err != nil {
		t.Fatal(err)
	}
	closing(w.engine.Close)
	for i, name := range portNames {
		far, near, err := netns.Veth(host, fmt.Sprint("far", i), w.engine, name, netns.VethOptions{})
		if err != nil {
			t.Fatal(err)
		}
		stub, err := far.EnableNAPI()
		if err != nil {
			t.Fatal(err)
		}
		closing(stub.Close)
		w.far[i] = far
		w.ports = append(w.ports, Port{Ifindex: near.Index})
	}
	return w
}

// connect gives an engine the ports.
func (w *wire) connect(e *Engine) error {
	return w.engine.Do(func() error { return e.Connect(w.ports) })
}

// open makes an engine of two workers on the wire.
func (w *wire) open(t *testing.T) *Engine {
	t.Helper()
	e, err := Open(Options{Specs: specs(t, guard), Ports: portNames, Workers: 2, Cores: []int{-1, -1}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// udp is a packet of one of many flows: from inside, or the way back.
func udp(flow int, back bool) []byte {
	f := make([]byte, 60)
	copy(f, "\x02\x00\x00\x00\x00\x0b\x02\x00\x00\x00\x00\x0a\x08\x00")
	copy(f[14:], "\x45\x00\x00\x2e\x00\x00\x40\x00\x40\x11\x00\x00")
	src, dst, sport, dport := []byte{10, 0, byte(flow >> 8), byte(flow)}, []byte{10, 1, 0, 1}, uint16(5000), uint16(53)
	if back {
		src, dst, sport, dport = dst, src, dport, sport
	}
	copy(f[26:], src)
	copy(f[30:], dst)
	f[34], f[35], f[36], f[37], f[39] = byte(sport>>8), byte(sport), byte(dport>>8), byte(dport), 26
	packet.SetChecksums(f)
	return f
}

// load sends packets of flows, both ways, until stop; far ends are not looked
// at: the engine's own account must be even.
func (w *wire) load(t *testing.T, flows int, stop <-chan struct{}) (sent func() [2]int) {
	t.Helper()
	var counts [2]int
	var wg sync.WaitGroup
	for side := range w.far {
		s, err := trafgen.OpenSender(w.far[side])
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer s.Close()
			rnd := rand.New(rand.NewPCG(1, uint64(side)))
			for {
				select {
				case <-stop:
					return
				default:
				}
				var burst [][]byte
				for range 16 {
					burst = append(burst, udp(rnd.IntN(flows), side == 1))
				}
				n, err := s.Send(burst)
				if counts[side] += n; err != nil {
					t.Errorf("side %d: %v", side, err)
					return
				}
				time.Sleep(200 * time.Microsecond)
			}
		})
	}
	return func() [2]int { wg.Wait(); return counts }
}

// account checks what stopped workers counted against the steering.
func account(t *testing.T, e *Engine) (sum dataplane.Counters) {
	t.Helper()
	for i, c := range e.Workers() {
		if c.Received+c.HandedIn != c.Sent+c.Passed+c.Dropped+c.HandedOut {
			t.Errorf("worker %d: %+v", i, c)
		}
		sum.Received += c.Received
		sum.Sent += c.Sent
		sum.Dropped += c.Dropped
		sum.HandedIn += c.HandedIn
		sum.HandedOut += c.HandedOut
		for r, n := range c.Engine {
			sum.Engine[r] += n
		}
	}
	if sum.HandedIn != sum.HandedOut || sum.Received == 0 {
		t.Errorf("%+v", sum)
	}
	return sum
}

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
