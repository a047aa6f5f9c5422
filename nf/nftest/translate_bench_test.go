package nftest

import (
	"fmt"
	"testing"

	"sfc/dataplane/packet"
)

// Configurations for traffic as in randomFlows and toVIP.
const (
	natBench = `{"inside":["10.0.0.0/8"],"pool":["203.0.113.0/28"]}`
	lbBench  = `{"services":[{"vip":"192.0.2.10","backends":[{"addr":"10.0.1.1"},{"addr":"10.0.1.2"},{"addr":"10.0.1.3"},{"addr":"10.0.1.4"}]}]}`
)

// roomy is room for all flows of a benchmark.
var roomy = Room{Flows: 8192, Tuples: 8192, Claims: 32768}

// toVIP are randomFlows to the service of lbBench.
func toVIP(n int, ip6 bool) []Packet {
	out := randomFlows(n, ip6)
	for _, p := range out {
		if !ip6 {
			copy(p.Frame[packet.EtherLen+16:], []byte{192, 0, 2, 10})
			packet.SetChecksums(p.Frame)
		}
	}
	return out
}

// BenchmarkNewSessions is what the first packet of a flow costs functions that
// ask the engine for tuples and claims, in the sandbox, at burst 64.
func BenchmarkNewSessions(b *testing.B) {
	for _, bc := range []struct {
		name, function, config string
		packets                []Packet
	}{
		{"nat44", "nat44", natBench, randomFlows(4096, false)},
		{"nat44-per-destination", "nat44", `{"inside":["10.0.0.0/8"],"pool":["203.0.113.0/28"],"mapping":"address_and_port_dependent"}`, randomFlows(4096, false)},
		{"nat44-address-dependent", "nat44", `{"inside":["10.0.0.0/8"],"pool":["203.0.113.0/28"],"filtering":"address_dependent"}`, randomFlows(4096, false)},
		{"lb4", "lb4", lbBench, toVIP(4096, false)},
	} {
		b.Run("nf="+bc.name, func(b *testing.B) {
			r := newSandboxed(b, bc.function)
			r.Limit(roomy)
			ns, n := 0.0, 0
			for b.Loop() {
				if err := r.Configure([]byte(bc.config)); err != nil {
					b.Fatal(err)
				}
				r.Process(bc.packets)
				if c := r.Counters(); c[0] != uint64(len(bc.packets)) {
					b.Fatalf("%d sessions of %d", c[0], len(bc.packets))
				}
				ns += r.Spent()
				n += len(bc.packets)
			}
			b.ReportMetric(ns/float64(n), "ns/flow")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkLB4Configure is what a configuration costs: the largest there may be.
func BenchmarkLB4Configure(b *testing.B) {
	r := newSandboxed(b, "lb4")
	for _, n := range []int{1, 64} {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			for b.Loop() { // an instance and its spare
				if err := r.Configure([]byte(lbServices(n))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
