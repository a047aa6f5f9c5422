package bench

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
)

// BenchmarkCreate is a flow per packet on one worker: through the stateful
// chain, and through each of its functions alone. The table is full, as under
// a flood: each flow that begins ends another, with all that functions have to
// do about it. fill-flows/s is before that, from an empty table whose memory was
// never touched to a full one.
func BenchmarkCreate(b *testing.B) {
	const room = 500_000
	for _, chain := range []string{"stateful", "firewall", "nat44", "ratelimit", "flowstat"} {
		for _, transport := range transports {
			var r *rig
			var filled float64
			var fresh []way
			b.Run(fmt.Sprintf("chain=%s/proto=%s", chain, transport.name), func(b *testing.B) {
				if r == nil {
					r, fresh, filled = openFull(b, chain, transport.proto, room)
				}
				before := r.e.Stats()[0].Flows
				f := newFlood(b.N, fresh[0], way{})
				b.ResetTimer()
				r.run(b, []*flood{f})
				b.StopTimer()
				fresh[0].at = f.ways[portIn].at
				after := r.e.Stats()[0].Flows
				made := after.Created[flowClass(transport.proto)] - before.Created[flowClass(transport.proto)]
				if made != uint64(b.N) {
					b.Errorf("%d packets made %d flows", b.N, made)
				}
				ns, onCore := f.perPacket()
				b.ReportMetric(ns, "ns/op")
				b.ReportMetric(onCore, "core-ns")
				b.ReportMetric(1e9/ns, "flows/s")
				b.ReportMetric(filled, "fill-flows/s")
			})
			if r != nil {
				r.close(b)
			}
		}
	}
}

// openFull fills a table. It returns packets that each begin a flow, more than
// the table has room for, and at what rate it was filled.
func openFull(tb testing.TB, chain string, proto uint8, room int) (r *rig, fresh []way, perSecond float64) {
	tb.Helper()
	r = openRig(tb, twoWays("bench", room, statefulChain(tb, chain)...), lastCore())
	kinds, _ := traffic{proto: proto}.opening()
	// Twice as many: when the first come again, they have ended long ago.
	fresh = r.ways(tb, portIn, kinds[:1], distinctTuples(rand.New(rand.NewPCG(1, 2)), 2*room))
	fill := newFlood(room, fresh[0], way{})
	r.run(tb, []*flood{fill})
	fresh[0].at = fill.ways[portIn].at
	ns, _ := fill.perPacket()
	return r, fresh, 1e9 / ns
}

// flowClass is the class of flows that the table counts a protocol's as.
func flowClass(proto uint8) flow.Class {
	if proto == packet.ProtoTCP {
		return flow.TCP
	}
	return flow.UDP
}
