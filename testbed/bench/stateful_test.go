package bench

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"sfc/dataplane/cpu"
	"sfc/dataplane/packet"
)

// transports by the names of benchmarks.
var transports = []struct {
	name  string
	proto uint8
}{{"udp", packet.ProtoUDP}, {"tcp", packet.ProtoTCP}}

// BenchmarkStateful is the stateful example chain, and each of its functions
// alone, on one worker, with flows that are established: packets of both
// directions, as many of each, all flows as often, in random order. Each
// operation is one packet. The time of functions is what the engine itself
// measures, of some bursts.
func BenchmarkStateful(b *testing.B) {
	for _, chain := range []string{"stateful", "firewall", "nat44", "ratelimit", "flowstat"} {
		for _, transport := range transports {
			for _, flows := range []int{1_000, 100_000, 1_000_000} {
				var r *rig // the same for all sizes
				for _, size := range []string{"64", "imix"} {
					if size == "imix" && chain != "stateful" {
						continue
					}
					t := traffic{proto: transport.proto, sizes: []int{64}}
					if size == "imix" {
						t.sizes = imix
					}
					b.Run(fmt.Sprintf("chain=%s/proto=%s/flows=%d/size=%s", chain, transport.name, flows, size), func(b *testing.B) {
						if r == nil {
							r = openStateful(b, chain, t, flows, lastCore())
						}
						benchmarkSteady(b, r, t)
					})
				}
				if r != nil {
					r.close(b)
				}
			}
		}
	}
}

// openStateful starts workers with the chain, and opens so many flows.
func openStateful(tb testing.TB, chain string, t traffic, flows int, cores ...int) *rig {
	tb.Helper()
	r := openRig(tb, twoWays("bench", flows+flows/64+1024, statefulChain(tb, chain)...), cores...)
	r.open(tb, t, distinctTuples(rand.New(rand.NewPCG(1, 2)), flows))
	var err error
	if r.mib, err = footprint(); err != nil {
		tb.Fatal(err)
	}
	return r
}

// lastCore is where a single worker runs: the kernel and everything else are on
// the first ones.
func lastCore() int {
	allowed := cpu.Allowed()
	if len(allowed) == 0 {
		return -1
	}
	return allowed[len(allowed)-1]
}

func benchmarkSteady(b *testing.B, r *rig, t traffic) {
	in, out := r.steady(b, t)
	n := max(b.N/2, 1) // each way
	warm := min(n, len(r.flows))
	r.run(b, []*flood{newFlood(warm, in[0], out[0])})
	runtime.GC()
	before := r.e.Functions(0)
	f := newFlood(n, in[0], out[0])
	b.ResetTimer()
	r.run(b, []*flood{f})
	b.StopTimer()
	ns, onCore := f.perPacket()
	b.ReportMetric(ns, "ns/op")
	b.ReportMetric(onCore, "core-ns")
	b.ReportMetric(1000/ns, "Mpps")
	b.ReportMetric(r.mib, "MiB")
	for i, s := range r.e.Functions(0) {
		was := &before[i]
		if n := s.Packets - was.Packets; n > 0 {
			b.ReportMetric((s.NsPerPacket*float64(s.Packets)-was.NsPerPacket*float64(was.Packets))/float64(n), s.Name+"-ns")
		}
	}
}
