package abuse

import (
	"math/rand/v2"
	"testing"

	"sfc/ctrl/agent"
	"sfc/dataplane/flow"
)

// stateful is the chain that is abused: firewall, address translation, a limit
// and statistics, all with state per flow.
func stateful(tb testing.TB, flows int) string {
	return chainText(tb, flows,
		`firewall {default: deny, rules: [{action: permit, src: 10.0.0.0/8}]}`,
		`nat44 {inside: [10.0.0.0/8], pool: [203.0.113.0/26]}`,
		`ratelimit {key: flow, rate: 1000000000, burst: 1000000000}`,
		`flowstat {}`)
}

// Hops of that chain.
const (
	hopFirewall = iota
	hopNAT
	hopLimit
	hopStat
)

// crowdSize is how many established connections have to survive.
const crowdSize = 1000

// flood makes SYNs of random sources: from the inside, where each of them may
// begin a flow and gets an address and a port, or from the outside to the pool.
type flood struct {
	rnd     *rand.Rand
	outside bool
	buf     [maxData]byte
}

func (f *flood) offer(b *bed) {
	src := end{10<<24 | 1<<23 | f.rnd.Uint32()>>9, uint16(f.rnd.Uint32())}
	dst := end{198<<24 | 51<<16 | 100<<8 | f.rnd.Uint32()&0xff, 443}
	port := portIn
	if f.outside {
		src = end{100<<24 | f.rnd.Uint32()>>8, uint16(f.rnd.Uint32())}
		dst = end{203<<24 | 113<<8 | f.rnd.Uint32()&63, uint16(f.rnd.Uint32())}
		port = portOut
	}
	b.offer(port, tcpFrame(f.buf[:], src, dst, syn, f.rnd.Uint32(), 0, 0), attack, 0)
}

// mix offers n packets, of which so many of a hundred are the attacker's.
func mix(c *crowd, n, percent int, rnd *rand.Rand, attacker func()) {
	for range n {
		if rnd.IntN(100) < percent {
			attacker()
		} else {
			c.one()
		}
	}
}

// flows are a chain's flow tables' counters, over all protocols.
type flowSums struct{ live, created, expired, evicted, replaced, refused, extracted, inserted uint64 }

func flowsOf(e *agent.Engine) (s flowSums) {
	f := e.Stats()[0].Flows
	s.live = uint64(f.Live)
	for k := range flow.NumClasses {
		s.created += f.Created[k]
		s.expired += f.Expired[k]
		s.evicted += f.Evicted[k]
		s.replaced += f.Replaced[k]
		s.refused += f.Refused[k]
		s.extracted += f.Extracted[k]
		s.inserted += f.Inserted[k]
	}
	return s
}

// TestSYNFlood fills the flow table many times over with SYNs of random
// sources, which have 70 of 100 packets of what the engine can do, while 1,000
// established connections exchange data in the rest. None of these loses a
// packet.
func TestSYNFlood(t *testing.T) {
	const table, packets = 16384, 300_000
	for _, o := range []struct {
		name    string
		outside bool
	}{{"from the inside", false}, {"from the outside", true}} {
		t.Run(o.name, func(t *testing.T) {
			b := newBed(t, bedOptions{chain: stateful(t, table), packets: 2*packets + 10*crowdSize})
			rnd := rand.New(rand.NewPCG(1, 2))
			c := newCrowd(b, crowdSize)
			b.cost()
			mix(c, packets/2, 0, rnd, nil)
			quiet := b.cost()
			f := &flood{rnd: rnd, outside: o.outside}
			mix(c, packets, 70, rnd, func() { f.offer(b) })
			flooded := b.cost()
			c.unharmed("SYN flood")
			s, a := flowsOf(b.e), b.account(attack, 0)
			t.Logf("table of %d flows; %.0f ns a packet without the flood (capacity %.1f Mpps), %.0f with it (%.1f Mpps, 70 of 100 the flood's)",
				table, quiet, 1e3/quiet, flooded, 1e3/flooded)
			t.Logf("talk: %v", b.account(talk, 0))
			t.Logf("flood: %v", a)
			t.Logf("flows: %+v", s)
			if s.evicted < uint64(a.sent)/2 || s.created != s.evicted+s.expired+s.replaced+s.live {
				t.Errorf("the table was not full, or its books do not balance: %+v", s)
			}
			if n := b.e.Functions(0)[hopFirewall].Counters["established"]; n != crowdSize {
				t.Errorf("%d handshakes were completed, want %d: an established flow was made anew", n, crowdSize)
			}
		})
	}
}

// TestSYNFloodWhileFlowsMove is the same with two workers between which flows
// move, and functions that are replaced.
func TestSYNFloodWhileFlowsMove(t *testing.T) {
	const table, packets, most = 16384, 300_000, 3_000_000
	b := newBed(t, bedOptions{chain: stateful(t, table), workers: 2, packets: most + 10*crowdSize})
	rnd := rand.New(rand.NewPCG(5, 6))
	c := newCrowd(b, crowdSize)
	in, out := &flood{rnd: rnd}, &flood{rnd: rnd, outside: true}
	s := stir(b, hopFirewall, hopNAT, hopStat)
	for sent := 0; sent < packets || sent < most && !s.enough(); sent += 1000 {
		mix(c, 1000, 70, rnd, func() {
			if rnd.IntN(2) == 0 {
				in.offer(b)
			} else {
				out.offer(b)
			}
		})
	}
	b.settle()
	figures := s.end()
	c.unharmed("SYN flood while flows move")
	t.Log(figures)
	t.Logf("talk: %v", b.account(talk, 0))
	t.Logf("flood: %v", b.account(attack, 0))
	f := flowsOf(b.e)
	t.Logf("flows: %+v", f)
	if !s.enough() || f.evicted == 0 || f.extracted != f.inserted+uint64(s.lost) {
		t.Errorf("nothing was tested, or flows were lost on their way: %+v", f)
	}
}
