package flow

import (
	"math/rand/v2"
	"testing"

	"sfc/dataplane/packet"
)

// A turn with new flows, evictions, expiry, fragments, quotes, bindings and
// moves allocates nothing.
func TestNothingIsAllocated(t *testing.T) {
	g := newRig(t, Options{Max: 1000, Bindings: 1000, Buckets: 64})
	far := newRig(t, Options{Max: 1000, Bindings: 1000, Buckets: 64})
	frames, metas := corpus(t)
	bound := *udp(200, 201, 1, 2).tuple()
	rng := rand.New(rand.NewPCG(1, 1))
	var slots [32]uint32
	turns := 0
	turn := func() {
		g.now += second / 10
		if turns++; turns%64 == 0 {
			g.now += 4000 * second
		}
		for k := range packet.BurstSize {
			i := rng.IntN(len(frames))
			frame, m := frames[i], metas[i]
			if m.Flags&packet.FlagIPv4 != 0 { // another source
				frame[m.L3+13], frame[m.L3+14] = byte(rng.Uint32()), byte(rng.Uint32())
			}
			m.RxNs = g.now
			m.Hash = 0
			g.r.Read(frame, &m, &g.qs[k])
			if q := &g.qs[k]; q.kind == Packet {
				q.hash = q.key.hash(secret)
			}
		}
		g.t.Lookup(&g.qs, packet.BurstSize, &g.out)
		for _, r := range g.out {
			if r.Status == Created {
				bound.SrcPort++
				g.t.Bind(r.Slot, &bound)
			}
		}
		g.t.Age(g.now, 1000)
		for g.t.Drain(slots[:]) > 0 {
		}
		bucket := rng.Uint32N(64)
		for slot := g.t.First(bucket); slot != NoSlot; slot = g.t.First(bucket) {
			r, _ := g.t.Extract(slot)
			far.t.Insert(&r)
		}
		for far.t.Drain(slots[:]) > 0 {
		}
		g.t.Counters()
	}
	if n := testing.AllocsPerRun(2000, turn); n != 0 {
		t.Errorf("%v allocations a turn", n)
	}
	c := g.t.Counters()
	if sum(c.Evicted) == 0 || sum(c.Expired) == 0 || sum(c.Extracted) == 0 || c.Related == 0 || c.Bindings == 0 || g.r.Fragments().Resolved == 0 {
		t.Errorf("the turns did too little: %+v", c)
	}
}
