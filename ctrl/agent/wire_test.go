package agent

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"sfc/dataplane"
	"sfc/dataplane/packet"
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
