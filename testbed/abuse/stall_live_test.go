package abuse

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sfc/bpf"
	"sfc/ctrl/agent"
	"sfc/dataplane/classify"
	"sfc/dataplane/steer"
	"sfc/testbed/gate"
	"sfc/testbed/netns"
	"sfc/testbed/trafgen"
)

// wire is an engine between two links:
//
//	c0 ---- veth ---- in  XDP -> XSK -> workers -> XSK  out ---- veth ---- s0
type wire struct {
	e      *agent.Engine
	place  *classify.Placing
	owners *steer.Owners
	send   *trafgen.Sender
	recv   *trafgen.Receiver
}

func newWire(t *testing.T, chain string, workers int) *wire {
	t.Helper()
	gate.Root(t)
	gate.Leaks(t)
	file := filepath.Join(t.TempDir(), "chain.yaml")
	check(t, os.WriteFile(file, []byte(chain), 0o644))
	specs, err := agent.LoadSpecs([]string{file})
	check(t, err)
	ns, err := netns.New()
	check(t, err)
	t.Cleanup(func() { check(t, ns.Close()) })
	far, err := netns.New()
	check(t, err)
	t.Cleanup(func() { check(t, far.Close()) })
	c0, in, err := netns.Veth(far, "c0", ns, portNames[portIn], netns.VethOptions{})
	check(t, err)
	out, s0, err := netns.Veth(ns, portNames[portOut], far, "s0", netns.VethOptions{})
	check(t, err)
	for _, l := range []*netns.Link{c0, s0} {
		stub, err := l.EnableNAPI()
		check(t, err)
		t.Cleanup(func() { check(t, stub.Close()) })
	}
	w := &wire{}
	w.e, err = agent.Open(agent.Options{Specs: specs, Ports: portNames, Workers: workers})
	check(t, err)
	t.Cleanup(func() { check(t, w.e.Close()) })
	check(t, ns.Do(func() error {
		return w.e.Connect([]agent.Port{{Ifindex: in.Index, Mode: bpf.Native}, {Ifindex: out.Index, Mode: bpf.Native}})
	}))
	w.place, w.owners = w.e.Placing(), w.e.Owners()
	check(t, w.e.Start())
	w.send, err = trafgen.OpenSender(c0)
	check(t, err)
	t.Cleanup(func() { check(t, w.send.Close()) })
	w.recv, err = trafgen.OpenReceiver(s0)
	check(t, err)
	t.Cleanup(func() { check(t, w.recv.Close()) })
	return w
}

// packet makes a UDP datagram to a port whose flow a worker has.
func (w *wire) packet(worker int, dport uint16, rnd *rand.Rand) []byte {
	for {
		f := udpFrame(make([]byte, maxData), end{10<<24 | rnd.Uint32()>>8, uint16(rnd.Uint32())}, end{victim.addr, dport}, payload)
		d := w.e.Table().Steer(portIn, 0, f)
		if at := w.place.Place(d.Path, &d.Info); w.owners.Owner(at.Row, at.Bucket) == worker {
			return f
		}
	}
}

// put sends frames, however long the link takes.
func (w *wire) put(t *testing.T, frames [][]byte) {
	t.Helper()
	for len(frames) > 0 {
		n, err := w.send.Send(frames)
		check(t, err)
		if frames = frames[n:]; n == 0 {
			time.Sleep(100 * time.Microsecond)
		}
	}
}

// got counts what has arrived for a port of the victim, and waits a little for
// it when there is nothing.
func (w *wire) got(t *testing.T, dport uint16) (n int) {
	t.Helper()
	if _, err := w.recv.Wait(20 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
	frames, err := w.recv.Receive()
	check(t, err)
	for _, f := range frames {
		if _, dst := ends(f); dst.port == dport {
			n++
		}
	}
	return n
}

// TestStalledWorkerLive is the same over real links: one worker's ring is full
// and it takes nothing, and the other one's packets all arrive. The rings of
// both share their chunks of memory.
func TestStalledWorkerLive(t *testing.T) {
	const (
		packets = 5000
		window  = 64 // a veth ring has 256 places
		port    = 53
		full    = 6000 // more than the ring of the stalled worker takes
	)
	w := newWire(t, chainText(t, 16384, `firewall {default: permit}`, fmt.Sprintf("%s {turns: %d}", slowModule(t), slowTurns)), 2)
	rnd := rand.New(rand.NewPCG(17, 18))
	var free [][]byte
	for range 64 {
		free = append(free, w.packet(1, port, rnd))
	}
	holdUp, crowd := w.packet(0, marked, rnd), w.packet(0, port+1, rnd)
	received := func() uint64 {
		c, err := w.e.Steered(portIn)
		check(t, err)
		return c.Redirected
	}
	stuff := make([][]byte, window)
	for i := 0; i < full; i += window {
		for k := range stuff {
			stuff[k] = crowd
			if i+k < 2048 {
				stuff[k] = holdUp // first of all: each burst of them takes its time
			}
		}
		w.put(t, stuff)
		time.Sleep(200 * time.Microsecond) // the program runs in between
	}
	start, sent, arrived := time.Now(), 0, 0
	for end := start.Add(10 * time.Second); arrived < packets && time.Now().Before(end); {
		if n := min(window-(sent-arrived), packets-sent); n > 0 {
			w.put(t, free[:n])
			sent += n
		}
		arrived += w.got(t, port)
	}
	took := time.Since(start)
	before := w.e.Functions(0)[1].Packets
	t.Logf("%d of %d packets arrived, in %v; the functions had %d packets then, steering sent %d to workers", arrived, sent, took, before, received())
	if arrived != packets {
		t.Errorf("%d of %d packets of the worker that is not stalled arrived", arrived, packets)
	}
	if waits := int(received()) - int(before); waits < window {
		t.Errorf("only %d packets wait for the stalled worker: nothing was tested", waits)
	}
	check(t, w.e.Stop())
	stats, err := w.e.SocketStats(portIn)
	check(t, err)
	t.Logf("sockets: %+v", stats)
	if stats[1].RxRingFull != 0 {
		t.Errorf("the worker that was not stalled lost packets: %+v", stats[1])
	}
}
