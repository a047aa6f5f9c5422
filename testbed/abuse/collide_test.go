package abuse

import (
	"math"
	"math/rand/v2"
	"testing"

	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
)

// tuples is a way to choose flows: the i-th of its sources.
type tuples func(i uint32) end

// victim is where all of them go.
var victim = end{198<<24 | 51<<16 | 100<<8 | 1, 53}

// hashOf is the hash of a UDP flow to the victim under a key.
func hashOf(key [2]uint64, src end) uint32 {
	in := packet.Info{Proto: packet.ProtoUDP, Flags: packet.FlagIPv4, SrcPort: src.port, DstPort: victim.port}
	be.PutUint32(in.Src[:], src.addr)
	be.PutUint32(in.Dst[:], victim.addr)
	return packet.FlowHash(key, &in)
}

// spread is the chi-square statistic of how n flows fall into 2^bits cells: by
// the low bits of the hash, which say who owns a flow, or by those that place it
// in the index. It returns how many standard deviations it lies from what
// chance gives.
func spread(n, bits int, cell func(i uint32) uint32) float64 {
	cells := make([]float64, 1<<bits)
	for i := range uint32(n) {
		cells[cell(i)]++
	}
	want, sum := float64(n)/float64(len(cells)), 0.0
	for _, c := range cells {
		sum += (c - want) * (c - want) / want
	}
	degrees := float64(len(cells) - 1)
	return (sum - degrees) / math.Sqrt(2*degrees)
}

// golden and indexBits are those of the flow table's index: see index.place.
const golden = 0x9e3779b97f4a7c15

func indexBits(hash uint32, bits int) uint32 { return uint32(uint64(hash) * golden >> (64 - bits)) }

// collidingWithout returns sources that all fall into one bucket of the index
// and one of ownership for somebody who takes the key to be zero.
func collidingWithout(n int) []end {
	var list []end
	rnd := rand.New(rand.NewPCG(11, 12))
	for len(list) < n {
		e := end{10<<24 | rnd.Uint32()>>8, uint16(rnd.Uint32())}
		if h := hashOf([2]uint64{}, e); h&0x3f == 0x1a && indexBits(h, 2) == 3 {
			list = append(list, e)
		}
	}
	return list
}

// TestCollisionsWithoutTheSecret is what an attacker can do who knows all but
// the key of the hash: choose tuples that are alike, or that collide under
// another key. They spread as evenly as by chance, over workers and over the
// index, and none is refused.
func TestCollisionsWithoutTheSecret(t *testing.T) {
	const flows = 12_000
	blind := collidingWithout(flows)
	for _, o := range []struct {
		name string
		at   tuples
	}{
		{"ports in turn", func(i uint32) end { return end{10<<24 | 5 + i>>15, uint16(i)} }},
		{"addresses in turn", func(i uint32) end { return end{10<<24 | i, 1234} }},
		{"addresses in steps of 1,024", func(i uint32) end { return end{10<<24 | i<<10&0xffffff | i>>14, 1234} }},
		{"collide under another key", func(i uint32) end { return blind[i] }},
	} {
		t.Run(o.name, func(t *testing.T) {
			b := newBed(t, bedOptions{chain: stateful(t, 16384), packets: 2*flows + 10*crowdSize})
			key := b.e.HashKey()
			owners := spread(flows, 10, func(i uint32) uint32 { return uint32(steer.Bucket(hashOf(key, o.at(i)))) })
			index := spread(flows, 10, func(i uint32) uint32 { return indexBits(hashOf(key, o.at(i)), 10) })
			c := newCrowd(b, crowdSize)
			b.cost()
			var buf [maxData]byte
			for i := range uint32(flows) {
				b.offer(portIn, udpFrame(buf[:], o.at(i), victim, payload), attack, i)
				c.one()
			}
			cost := b.cost()
			c.unharmed(o.name)
			s, a := flowsOf(b.e), b.account(attack, 0)
			t.Logf("chi-square over 1,024 ownership buckets %+.1f sigma, over the index %+.1f; %.0f ns a packet; %v", owners, index, cost, a)
			// The secret is another in every run: 6 sigma come once in 10^8, allowing for the skew of chi-square.
			if math.Abs(owners) > 6 || math.Abs(index) > 6 {
				t.Error("flows do not spread evenly")
			}
			if s.refused != 0 || s.evicted != 0 || a.received != flows {
				t.Errorf("flows were refused or evicted: %+v", s)
			}
		})
	}
}

// TestCollisionsWithTheSecret is what could be done if the key were known: all
// flows fall into the same two buckets of the index. Their places are full
// then, further ones are refused at bounded cost, and no other flow notices.
func TestCollisionsWithTheSecret(t *testing.T) {
	const (
		table  = 1024
		bits   = 9 // 1,024 flows and 2,048 tuples that are bound, at six a bucket
		talks  = 200
		wanted = 48
		rounds = 400
		places = 16 // of two buckets
	)
	b := newBed(t, bedOptions{chain: stateful(t, table), packets: 2*wanted*rounds + 10*crowdSize})
	c := newCrowd(b, talks)
	key := b.e.HashKey()
	// The other bucket, see index.other.
	pair := func(h uint32) uint32 {
		at, tag := indexBits(h, bits), uint32(uint64(h)*golden>>16)&0xffff|1
		return at<<16 | at ^ (tag*0x5bd1e995>>8|1)&(1<<bits-1)
	}
	target := pair(hashOf(key, end{10<<24 | 77, 7}))
	rnd, list := rand.New(rand.NewPCG(13, 14)), []end(nil)
	for len(list) < wanted {
		if e := (end{10<<24 | rnd.Uint32()>>8, uint16(rnd.Uint32())}); pair(hashOf(key, e)) == target {
			list = append(list, e)
		}
	}
	b.cost()
	var buf [maxData]byte
	for range rounds {
		for i, e := range list {
			b.offer(portIn, udpFrame(buf[:], e, victim, payload), attack, uint32(i))
			c.one()
		}
	}
	cost := b.cost()
	c.unharmed("collisions")
	s, a := flowsOf(b.e), b.account(attack, 0)
	t.Logf("%d tuples with the same two buckets: %v; %.0f ns a packet; flows: %+v", wanted, a, cost, s)
	if live := s.live - talks; live == 0 || live > places {
		t.Errorf("%d colliding flows are live, %d places are theirs", live, places)
	}
	if s.refused == 0 || int(s.refused) != a.dropped["firewall.no_flow"] || s.evicted != 0 {
		t.Errorf("want refusals, one for each packet without a flow, and no eviction: %+v", s)
	}
}
