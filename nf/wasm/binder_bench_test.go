package wasm

import (
	"math/rand/v2"
	"testing"
	"time"

	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
)

// BenchmarkBind is what a new flow pays for a tuple and a key, the flow table's
// part included, where tables hold so many others, and what a look for a key
// costs. The function reads each order from the packet: "nothing" is what that
// takes.
func BenchmarkBind(b *testing.B) {
	for name, others := range map[string]int{"1k": 1000, "100k": 100_000, "1M": 1_000_000} {
		pins, claims := newTestPins(b, others*5/4), newTestPins(b, others*5/4)
		for range others {
			pins.Insert(rand.Uint64(), 1)
			claims.Insert(rand.Uint64(), 1)
		}
		g := newGiver(b, giverOptions{pins: pins, claims: claims, max: 4096, room: 4096})
		for _, c := range []struct {
			name string
			what uint8
		}{{"nothing", 0}, {"flow_bind", giveTuple}, {"claim", giveClaim}, {"claim_find", giveFind}} {
			b.Run(c.name+"/"+name, func(b *testing.B) { g.bench(b, c.what) })
		}
	}
}

// bench gives something to a burst of new flows again and again, and takes the
// time of that alone.
func (g *giver) bench(b *testing.B, what uint8) {
	g.t = b
	var spent time.Duration
	flows := 0
	gives := make([]give, packet.BurstSize)
	for n := uint32(1); b.Loop(); n += packet.BurstSize {
		for k := range gives {
			gives[k] = give{flow: 1 + (n+uint32(k))%1_000_000, what: what, i: -1, lo: rand.Uint64(), value: 1, tuple: translated(uint16(n) + uint16(k))}
			gives[k].tuple[1] = byte(n >> 16)
		}
		g.lay(gives)
		start := time.Now()
		g.group.Process(&g.burst)
		g.group.ApplyBinds(g.table)
		spent += time.Since(start)
		flows += len(gives)
		for _, slot := range g.burst.Slot[:len(gives)] {
			h := g.table.Ledger().Flows[slot]
			if what == giveTuple && h.Binds != 1 || what == giveClaim && h.Claims == [steer.MaxClaims]uint64{} {
				b.Fatalf("nothing given: %+v", h)
			}
			r, _ := g.table.Extract(slot)
			g.table.Abandon(&r)
		}
	}
	b.ReportMetric(float64(spent)/float64(flows), "ns/flow")
	b.ReportMetric(0, "ns/op")
}
