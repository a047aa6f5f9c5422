package abuse

import (
	"math/rand/v2"
	"testing"

	"sfc/dataplane/packet"
)

// forger makes ICMP errors about packets that nobody sent. It knows the
// connections' addresses and ports as the other side of the engine sees them,
// but not their sequence numbers.
type forger struct {
	rnd   *rand.Rand
	c     *crowd
	buf   [maxData]byte
	quote [maxData]byte
}

// icmpErrors are the types and codes that hosts act upon.
var icmpErrors = [][2]uint8{{3, 0}, {3, 1}, {3, 2}, {3, 3}, {3, 4}, {4, 0}, {5, 1}, {11, 0}, {12, 0}}

// send sends an error that quotes a packet, from the side that the packet was
// going to.
func (f *forger) send(b *bed, port int, quote []byte, k kind) {
	e := icmpErrors[f.rnd.IntN(len(icmpErrors))]
	dst := uint32(203<<24 | 113<<8 | f.rnd.Uint32()&63)
	if len(quote) >= packet.IPv4Len {
		dst = be.Uint32(quote[12:])
	}
	b.offer(port, icmpError(f.buf[:], 100<<24|f.rnd.Uint32()>>8, dst, e[0], e[1], quote), k, 0)
}

// quoteOf makes the packet that an error quotes: IP header and size bytes.
func (f *forger) quoteOf(src, dst end, seq uint32, size int) []byte {
	frame := tcpFrame(f.quote[:], src, dst, ack, seq, 0, 0)[packet.EtherLen:]
	return frame[:packet.IPv4Len+size]
}

// known quotes a segment of a connection as it leaves a port.
func (f *forger) known(port int, seq uint32, size int) []byte {
	n := &f.c.conns[f.rnd.IntN(len(f.c.conns))]
	if port == portOut {
		return f.quoteOf(unpack(n.outside.Load()), n.server, n.number[0]+seq, size)
	}
	return f.quoteOf(n.server, n.client, n.number[1]+seq, size)
}

// random quotes a segment that is of no connection.
func (f *forger) random() []byte {
	return f.quoteOf(end{203<<24 | 113<<8 | f.rnd.Uint32()&63, uint16(f.rnd.Uint32())},
		end{198<<24 | 51<<16 | 100<<8 | f.rnd.Uint32()&0xff, 443}, f.rnd.Uint32(), 8)
}

// TestForgedErrors floods with ICMP errors that quote what nobody sent. They
// make no flow, end none and tell no connection anything; and each of them is
// counted.
func TestForgedErrors(t *testing.T) {
	const packets = 60_000
	const far = 1 << 20 // sequence numbers outside every window
	for _, o := range []struct {
		name string
		next func(*forger, int) []byte
		pass bool // it is as true errors are
	}{
		{"about nothing", func(f *forger, _ int) []byte { return f.random() }, false},
		{"about others' connections", func(f *forger, port int) []byte {
			return f.known(port, far+f.rnd.Uint32()>>1, 8)
		}, false},
		{"cut short", func(f *forger, port int) []byte {
			q := f.known(port, 0, 8)
			return q[:f.rnd.IntN(len(q)-1)]
		}, false},
		{"nested", func(f *forger, port int) []byte {
			inner := append([]byte(nil), f.known(port, 0, 8)...)
			frame := icmpError(f.quote[:], be.Uint32(inner[12:]), be.Uint32(inner[16:]), 3, 1, inner)
			return frame[packet.EtherLen:]
		}, false},
		{"noise", func(f *forger, port int) []byte {
			q := f.known(port, far+f.rnd.Uint32()>>1, 8)
			for range 1 + f.rnd.IntN(6) {
				q[f.rnd.IntN(packet.IPv4Len)] = byte(f.rnd.Uint32())
			}
			return q
		}, false},
		{"true ones", func(f *forger, port int) []byte { return f.known(port, 0, 8) }, true},
	} {
		t.Run(o.name, func(t *testing.T) {
			b := newBed(t, bedOptions{chain: stateful(t, 16384), packets: 2 * packets})
			rnd := rand.New(rand.NewPCG(9, 10))
			c := newCrowd(b, crowdSize)
			f := &forger{rnd: rnd, c: c}
			begun := flowsOf(b.e)
			b.cost()
			mix(c, packets, 70, rnd, func() {
				port := rnd.IntN(2)
				f.send(b, port, o.next(f, port), attack)
			})
			cost := b.cost()
			c.unharmed("ICMP errors, " + o.name)
			a, s, st := b.account(attack, 0), flowsOf(b.e), b.e.Stats()[0].Flows
			t.Logf("%.0f ns a packet; %v; related %d, unrelated %d", cost, a, st.Related, st.Unrelated)
			if s != begun {
				t.Errorf("flows were %+v, are %+v: an error made or ended one", begun, s)
			}
			if o.pass && a.received != a.sent || !o.pass && a.received != 0 {
				t.Errorf("%d of %d errors came through", a.received, a.sent)
			}
			if st.Related+st.Unrelated > uint64(a.sent) || st.Related+st.Unrelated == 0 && !o.pass && o.name != "cut short" {
				t.Errorf("%d errors were counted as related and %d as not, of %d", st.Related, st.Unrelated, a.sent)
			}
		})
	}
}
