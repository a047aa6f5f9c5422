package flow

import (
	"math/rand/v2"
	"testing"
	"time"

	"sfc/dataplane/packet"
)

// fill opens n UDP flows that both sides have spoken in, hosts 1 to n.
func (g *rig) fill(n int) {
	for i := range uint32(n) {
		g.one(udp(i+1, 5000, 1, 2))
		g.one(udp(5000, i+1, 2, 1))
	}
	g.drain()
}

// Who goes first when the table is full.
func TestEvictionOrder(t *testing.T) {
	g := newRig(t, Options{Max: 16}) // reserve 4
	g.fill(8)
	oneWay := g.one(udp(100, 5000, 1, 1)).Slot
	active := g.one(udp(101, 5000, 1, 1)).Slot
	g.one(udp(101, 5000, 1, 1)) // a second packet
	g.one(tcp(102, 5000, 1, 1, tcpFIN))
	closed := g.one(tcp(5000, 102, 1, 1, tcpFIN)).Slot
	reset := g.one(tcp(103, 5000, 1, 1, tcpRST)).Slot
	// Closed ones, then the oldest one-way flow. The active one is passed over
	// once, and has its turn behind those that were there.
	want := []uint32{closed, reset, oneWay}
	for i := range 7 {
		r := g.one(udp(200+uint32(i), 5000, 1, 1))
		want = append(want, r.Slot)
		if i == 2 {
			want = append(want, active)
		}
		if got := g.drain(); len(got) != 1 || got[0] != want[i] || r.Status != Created {
			t.Fatalf("eviction %d: %v took slots %v, want %d", i, r.Status, got, want[i])
		}
	}
	for i := range uint32(8) {
		r := g.one(udp(i+1, 5000, 1, 2))
		g.want("an open flow", r, Found, r.Slot, 0)
	}
	if c := g.t.Counters(); c.Evicted[TCP] != 2 || sum(c.Refused) != 0 {
		t.Errorf("%+v", c)
	}
}

// A table full of active flows lets nobody in; idle ones give way.
func TestFullOfActiveFlows(t *testing.T) {
	g := newRig(t, Options{Max: 64, IdleFloor: 10 * time.Second})
	g.fill(64)
	if g.t.Live() != 64 {
		t.Fatalf("%d flows of 64: the reserve is lost", g.t.Live())
	}
	for i := range uint32(100) {
		g.want("a new flow", g.one(udp(1000+i, 5000, 1, 1)), Refused, NoSlot, 0)
	}
	if c := g.t.Counters(); c.Refused[UDP] != 100 || sum(c.Evicted) != 0 {
		t.Errorf("%+v", c)
	}
	g.now += 11 * second
	g.one(udp(7, 5000, 1, 2)) // active again
	ended := 0
	for i := range uint32(400) {
		g.one(udp(2000+i, 5000, 1, 1))
		for _, slot := range g.drain() {
			ended++
			if slot == 6 {
				t.Fatal("the active flow was evicted")
			}
		}
	}
	g.want("the active flow", g.one(udp(7, 5000, 1, 2)), Found, 6, 0)
	if ended < 300 {
		t.Errorf("%d flows gave way", ended)
	}
}

// No slot is given out twice before it was drained, whatever a burst does.
func TestSlotsAreNotReusedBeforeDrain(t *testing.T) {
	g := newRig(t, Options{Max: 256})
	host := uint32(0)
	for range 50 {
		given := map[uint32]bool{}
		var out []Result
		for range 3 { // three bursts without a drain: more than the reserve
			var burst []*sent
			for range packet.BurstSize {
				host++
				burst = append(burst, udp(host, 5000, 1, 1))
			}
			out = append(out[:0], g.burst(burst...)...)
			for _, r := range out {
				if r.Status == Created {
					if given[r.Slot] {
						t.Fatalf("slot %d was given out twice", r.Slot)
					}
					given[r.Slot] = true
				}
			}
			g.verify()
		}
		drained := map[uint32]bool{}
		for _, slot := range g.drain() {
			if drained[slot] {
				t.Fatalf("slot %d was drained twice", slot)
			}
			drained[slot] = true
		}
		if g.t.Pending() != 0 {
			t.Fatalf("%d slots still pending", g.t.Pending())
		}
	}
	// With a drain per burst, every new flow gets in.
	refused := sum(g.t.Counters().Refused)
	for range 50 {
		var burst []*sent
		for range packet.BurstSize {
			host++
			burst = append(burst, udp(host, 5000, 1, 1))
		}
		g.burst(burst...)
		g.drain()
	}
	if got := sum(g.t.Counters().Refused); got != refused {
		t.Errorf("%d new flows refused although the table was drained", got-refused)
	}
}

// A flood of SYN from random sources, some repeated, some followed by blind
// acknowledgments, against a full table: no established flow is lost.
func TestSYNFlood(t *testing.T) {
	seed := testSeed(t)
	rng := rand.New(rand.NewPCG(seed, 1))
	const established = 3000
	g := newRig(t, Options{Max: 4096, IdleFloor: time.Second})
	slots := map[uint32]uint32{}
	server := uint32(500_000)
	open := func(host uint32) {
		g.one(tcp(host, server, 1000, 80, tcpSYN))
		g.one(tcp(server, host, 80, 1000, tcpSYN|tcpACK).with(func(s *sent) { s.seq = 1999 }))
		slots[host] = g.one(tcp(host, server, 1000, 80, tcpACK)).Slot
	}
	for i := range uint32(established) {
		open(i + 1)
	}
	g.drain()
	next := uint32(0)
	for range 3000 { // bursts: 48 of the flood, 16 of established flows
		g.now += second / 1000
		var burst []*sent
		for len(burst) < 48 {
			s := tcp(1_000_000+rng.Uint32N(1<<22), server, uint16(rng.Uint32()), 80, tcpSYN)
			burst = append(burst, s)
			if rng.Uint32N(4) == 0 {
				burst = append(burst, s.with(func(s *sent) { s.tcp, s.ack = tcpACK, rng.Uint32() }))
			}
			if rng.Uint32N(4) == 0 {
				burst = append(burst, s.back().with(func(s *sent) { s.tcp = tcpSYN | tcpACK }))
			}
		}
		first := len(burst)
		var hosts []uint32
		for len(burst) < packet.BurstSize {
			next = next%established + 1
			hosts = append(hosts, next)
			burst = append(burst, tcp(next, server, 1000, 80, tcpACK))
		}
		out := g.burst(burst...)
		for i, host := range hosts {
			if r := out[first+i]; r.Status != Found || r.Slot != slots[host] {
				t.Fatalf("established flow of host %d: %v, slot %d, want %d", host, r.Status, r.Slot, slots[host])
			}
		}
		g.drain()
		g.t.Age(g.now, 64)
	}
	c := g.t.Counters()
	if c.Refused[TCP] != 0 || c.Evicted[TCP] < 50_000 {
		t.Errorf("%+v", c)
	}
	t.Logf("%d flows made, %d evicted, %d refused, 0 of %d established lost", c.Created[TCP], c.Evicted[TCP], c.Refused[TCP], established)
}
