package nftest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sfc/dataplane/packet"
	"sfc/nf/build"
)

// burster is a Runner that can run one burst again and again.
type burster interface {
	Runner
	Fill(packets []Packet) []packet.Desc
	Burst(n int)
	Spent() float64 // ns
}

// aclRules returns the rules of a plausible access list: n of them, prefixes of
// 8 to 32 bits, ports, protocols, the last of them permitting most traffic.
func aclRules(n int) string {
	rng := rand.New(rand.NewPCG(7, 7))
	var rules []string
	for range n - 1 {
		r := fmt.Sprintf(`{"action":"deny","src":"10.%d.%d.0/%d","dst":"172.16.%d.0/%d"`,
			rng.IntN(64), rng.IntN(256), 16+rng.IntN(17), rng.IntN(64), 20+rng.IntN(13))
		switch rng.IntN(3) {
		case 0:
			r += fmt.Sprintf(`,"proto":"tcp","dst_ports":"%d"`, 1+rng.IntN(1024))
		case 1:
			from := rng.IntN(60000)
			r += fmt.Sprintf(`,"proto":"udp","dst_ports":"%d-%d"`, from, from+rng.IntN(5000))
		}
		rules = append(rules, r+"}")
	}
	rules = append(rules, `{"action":"permit","src":"10.0.0.0/8"}`)
	return `{"default":"deny","rules":[` + strings.Join(rules, ",") + `]}`
}

// randomFlows returns n packets of 64 bytes (with FCS), each of a random flow.
func randomFlows(n int, ip6 bool) []Packet {
	rng := rand.New(rand.NewPCG(3, 4))
	out := make([]Packet, n)
	for i := range out {
		var a, b [16]byte
		binary.LittleEndian.PutUint64(a[8:], rng.Uint64())
		binary.LittleEndian.PutUint64(b[8:], rng.Uint64())
		s := Spec{Proto: packet.ProtoUDP, SPort: uint16(1024 + rng.IntN(60000)), DPort: uint16(1 + rng.IntN(60000)), Payload: make([]byte, 18), TTL: 255}
		if ip6 {
			copy(a[:], "\x20\x01\x0d\xb8")
			copy(b[:], "\x20\x01\x0d\xb8")
			s.Src, s.Dst = netip.AddrFrom16(a), netip.AddrFrom16(b)
		} else {
			s.Src = netip.AddrFrom4([4]byte{10, a[8] % 64, a[9], a[10]})
			s.Dst = netip.AddrFrom4([4]byte{172, 16, b[8] % 64, b[9]})
		}
		out[i] = s.Packet(uint64(i) * 100)
	}
	return out
}

// BenchmarkCatalogue is the cost of each function per packet, in the engine's
// sandbox with deadlines and as the same C compiled for this machine. Many
// different bursts take turns, so that tables and branches see random flows.
func BenchmarkCatalogue(b *testing.B) {
	many := make([]string, 10000)
	for i := range many {
		many[i] = fmt.Sprintf("%q", fmt.Sprintf("ads%d.example", i))
	}
	for _, bc := range []struct{ name, function, config string }{
		{"hop", "hop", `{"src_mac":"02:aa:bb:cc:dd:ee","dst_mac":"02:11:22:33:44:55"}`},
		{"acl=1", "acl", aclRules(1)},
		{"acl=100", "acl", aclRules(100)},
		{"acl=1000", "acl", aclRules(1000)},
		{"ratelimit", "ratelimit", `{"rate":1000}`},
		{"dnsguard", "dnsguard", `{"block":[` + strings.Join(many, ",") + `]}`},
	} {
		for _, ip6 := range []bool{false, true} {
			for _, burst := range []int{1, 8, 32, 64} {
				family := map[bool]string{false: "ip4", true: "ip6"}[ip6]
				name := fmt.Sprintf("nf=%s/%s/burst=%d", bc.name, family, burst)
				b.Run(name+"/wasm", func(b *testing.B) {
					benchBursts(b, newSandboxed(b, bc.function), bc.config, burst, ip6)
				})
				b.Run(name+"/native", func(b *testing.B) {
					c, err := NewCompiled(filepath.Join("..", "catalog", bc.function))
					if errors.Is(err, build.ErrNoCompiler) {
						b.Skip(err)
					}
					if err != nil {
						b.Fatal(err)
					}
					b.Cleanup(func() { c.Close() })
					benchBursts(b, c, bc.config, burst, ip6)
				})
			}
		}
	}
}

// benchBursts runs 32 different bursts in turn and reports the median of the
// turns. Only the time in the function counts, not the laying out of packets.
func benchBursts(b *testing.B, r burster, config string, burst int, ip6 bool) {
	if err := r.Configure([]byte(config)); err != nil {
		b.Fatal(err)
	}
	packets := randomFlows(32*burst, ip6)
	var turns []float64
	for b.Loop() {
		before := r.Spent()
		for start := 0; start < len(packets); start += burst {
			r.Fill(packets[start : start+burst])
			r.Burst(burst)
		}
		turns = append(turns, r.Spent()-before)
	}
	slices.Sort(turns)
	b.ReportMetric(turns[len(turns)/2]/float64(len(packets)), "ns/pkt")
	b.ReportMetric(0, "ns/op")
}
