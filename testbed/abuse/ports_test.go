package abuse

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

// natBed is an address translation with one address and few ports, and clients
// that each send from an address and port of their own.
type natBed struct {
	*bed
	outside []atomic.Uint64 // by client: where it seems to be
	strange atomic.Uint32   // packets that came to somebody else
	clients []end
	buf     [maxData]byte
}

// natPorts is how many ports there are: no more than the function tries.
const natPorts = 60

func newNATBed(t *testing.T, workers int, config string) *natBed {
	t.Helper()
	n := &natBed{bed: newBed(t, bedOptions{workers: workers, packets: 20_000, chain: chainText(t, 4096,
		`firewall {default: permit}`,
		`nat44 {inside: [10.0.0.0/16], pool: [203.0.113.1], ports: "2000-2059", others: pass`+config+`}`,
		`flowstat {}`)})}
	n.outside = make([]atomic.Uint64, 1000)
	n.seen = func(ref uint32, k kind, port uint16, frame []byte) {
		src, dst := ends(frame)
		switch {
		case k == others: // not translated
		case port == portIn && dst != n.clients[ref]:
			n.strange.Add(1)
		case port == portOut && !n.outside[ref].CompareAndSwap(0, pack(src)) && n.outside[ref].Load() != pack(src):
			n.strange.Add(1)
		}
	}
	return n
}

// add makes so many clients of a subscriber and returns the number of the first.
func (n *natBed) add(subscriber uint32, count int) (first int) {
	first = len(n.clients)
	for i := range count {
		n.clients = append(n.clients, end{10<<24 | subscriber, uint16(30000 + first + i)})
	}
	return first
}

// round has clients send a packet, and those who seem to be somewhere be
// answered. It returns how many of each came through, and the account.
func (n *natBed) round(first, count int) (out, back int, a account) {
	n.tb.Helper()
	from := n.offered
	for i := first; i < first+count; i++ {
		n.offer(portIn, udpFrame(n.buf[:], n.clients[i], victim, payload), talk, uint32(i))
	}
	n.settle()
	out = n.account(talk, from).received
	for i := first; i < first+count; i++ {
		if o := n.outside[i].Load(); o != 0 {
			n.offer(portOut, udpFrame(n.buf[:], victim, unpack(o), payload), talk, uint32(i))
		}
	}
	n.settle()
	a = n.account(talk, from)
	return out, a.received - out, a
}

// stirAll has every worker look at its flows: packets of others.
func (n *natBed) stirAll() {
	for i := range uint32(256) {
		n.offer(portIn, udpFrame(n.buf[:], end{172<<24 | 16<<16 | i, 5}, victim, payload), others, 0)
	}
	n.settle()
}

// TestPortExhaustion uses up the ports of an address translation: who comes too
// late is counted, packet by packet, mappings that are there go on, and ports
// come back when flows end.
func TestPortExhaustion(t *testing.T) {
	for _, workers := range []int{1, 2} {
		t.Run(fmt.Sprintf("workers=%d", workers), func(t *testing.T) {
			const late, rounds = 40, 5
			n := newNATBed(t, workers, "")
			var exhausted int
			for s := range 10 {
				n.add(uint32(256+s), natPorts/10)
			}
			if out, back, a := n.round(0, natPorts); out != natPorts || back != natPorts {
				t.Fatalf("%d ports for as many clients: %v", natPorts, a)
			}
			n.add(1000, late)
			for range rounds {
				out, _, a := n.round(natPorts, late)
				exhausted += a.dropped["nat44.port_exhausted"]
				if out != 0 {
					t.Errorf("%d clients too many have got a port", out)
				}
				if out, back, a := n.round(0, natPorts); out != natPorts || back != natPorts {
					t.Errorf("mappings that are there stopped working: %v", a)
				}
			}
			if exhausted != late*rounds || n.e.Functions(0)[1].Drops["port_exhausted"] != late*rounds {
				t.Errorf("%d packets were port_exhausted, want %d: %v", exhausted, late*rounds, n.e.Functions(0)[1].Drops)
			}
			n.skip(6 * time.Minute) // flows of both directions last 5
			n.stirAll()
			fresh := n.add(2000, natPorts)
			out, back, a := n.round(fresh, natPorts)
			if out != natPorts || back != natPorts {
				t.Errorf("after all flows have ended: %v", a)
			}
			t.Logf("%d ports; %d packets of %d late clients port_exhausted; later %d of %d new clients got a port; %v",
				natPorts, exhausted, late, out, natPorts, n.e.Functions(0)[1].Counters)
			if s := n.strange.Load(); s != 0 {
				t.Errorf("%d packets came from or to somebody else", s)
			}
		})
	}
}

// TestOneSubscribersPorts has one subscriber take all ports it can get: others
// have theirs.
func TestOneSubscribersPorts(t *testing.T) {
	const share, greedy = 20, 300
	n := newNATBed(t, 1, fmt.Sprintf(", ports_per_subscriber: %d", share))
	n.add(1, greedy)
	n.add(2, share)
	out, _, a := n.round(0, greedy)
	others, _, _ := n.round(greedy, share)
	t.Logf("one subscriber got %d of %d ports, then another %d of %d: %v", out, natPorts, others, share, a)
	if out != share || others != share || a.dropped["nat44.port_exhausted"] != greedy-share {
		t.Errorf("want %d ports for each: %v", share, a)
	}
	for i := range n.clients {
		if o := unpack(n.outside[i].Load()); o.port != 0 && (int(o.port)-2000)/share != map[bool]int{true: 1, false: 2}[i < greedy] {
			t.Errorf("client %v got port %d, which is another subscriber's", n.clients[i], o.port)
		}
	}
}
