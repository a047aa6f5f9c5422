package nftest

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"sfc/dataplane/packet"
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
func aclRules(n int, ip6 bool) string {
	rng := rand.New(rand.NewPCG(7, 7))
	var rules []string
	for range n - 1 {
		r := fmt.Sprintf(`{"action":"deny","src":"10.%d.%d.0/%d","dst":"172.16.%d.0/%d"`,
			rng.IntN(64), rng.IntN(256), 16+rng.IntN(17), rng.IntN(64), 20+rng.IntN(13))
		if ip6 {
			r = fmt.Sprintf(`{"action":"deny","src":"2001:db8:%x:%x::/%d","dst":"2001:db8:%x::/%d"`,
				rng.IntN(64), rng.IntN(256), 48+rng.IntN(17), rng.IntN(64), 40+rng.IntN(9))
		}
		switch rng.IntN(3) {
		case 0:
			r += fmt.Sprintf(`,"proto":"tcp","dst_ports":"%d"`, 1+rng.IntN(1024))
		case 1:
			from := rng.IntN(60000)
			r += fmt.Sprintf(`,"proto":"udp","dst_ports":"%d-%d"`, from, from+rng.IntN(5000))
		}
		rules = append(rules, r+"}")
	}
	rules = append(rules, `{"action":"permit","src":"`+map[bool]string{false: "10.0.0.0/8", true: "2001:db8::/32"}[ip6]+`"}`)
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
			copy(a[:], []byte{0x20, 0x01, 0x0d, 0xb8, 0, a[8] % 64, 0, a[9]})
			copy(b[:], []byte{0x20, 0x01, 0x0d, 0xb8, 0, b[8] % 64})
			s.Src, s.Dst = netip.AddrFrom16(a), netip.AddrFrom16(b)
		} else {
			s.Src = netip.AddrFrom4([4]byte{10, a[8] % 64, a[9], a[10]})
			s.Dst = netip.AddrFrom4([4]byte{172, 16, b[8] % 64, b[9]})
		}
		out[i] = s.Packet(uint64(i) * 100)
		out[i].Flow = uint32(i) + 1
	}
	return out
}

// tcpData returns n TCP segments of 64 bytes (with FCS), each of a random flow.
func tcpData(n int, ip6 bool) []Packet {
	out := randomFlows(n, ip6)
	for i := range out {
		in, _ := packet.Parse(out[i].Frame)
		s := Spec{Src: netip.AddrFrom4([4]byte(in.Src[:4])), Dst: netip.AddrFrom4([4]byte(in.Dst[:4])),
			Proto: packet.ProtoTCP, SPort: in.SrcPort, DPort: in.DstPort, TCPFlags: 0x10, Payload: make([]byte, 6)}
		if ip6 {
			s.Src, s.Dst = netip.AddrFrom16(in.Src), netip.AddrFrom16(in.Dst)
		}
		flow := out[i].Flow
		out[i] = s.Packet(out[i].RxNs)
		out[i].Flow = flow
	}
	return out
}

// connections are segments of established connections: see handshake.
func connections(n int, ip6 bool) []Packet {
	out := tcpData(n, ip6)
	for i := range out {
		out[i].Flags |= packet.FlagNewFlow // marks what needs a handshake
	}
	return out
}

// synFlood are SYNs from random sources to random destinations.
func synFlood(n int, ip6 bool) []Packet {
	out := tcpData(n, ip6)
	for i := range out {
		out[i].Frame[out[i].L4+13] = syn
	}
	return out
}

// handshake returns the handshake of the connection that a packet of
// connections is part of; nil for other packets.
func handshake(p Packet) []Packet {
	if p.Flags&packet.FlagNewFlow == 0 {
		return nil
	}
	begin, answer, end := p, p, p
	begin.Frame, answer.Frame, end.Frame = slices.Clone(p.Frame), slices.Clone(p.Frame), slices.Clone(p.Frame)
	for _, f := range []struct {
		p        *Packet
		seq, ack uint32
		flags    byte
	}{{&begin, 0, 0, syn}, {&answer, 0, 1, synAck}, {&end, 1, 1, ack}} {
		h := f.p.Frame[f.p.L4:]
		binary.BigEndian.PutUint32(h[4:], f.seq)
		binary.BigEndian.PutUint32(h[8:], f.ack)
		h[13] = f.flags
	}
	answer.Flags |= packet.FlagReverse
	return []Packet{begin, answer, end}
}

// randomQueries turns half of the packets into DNS queries, half of these for
// listed names.
func randomQueries(n int, ip6 bool) []Packet {
	rng := rand.New(rand.NewPCG(5, 6))
	out := randomFlows(n, ip6)
	for i := range out {
		if rng.IntN(2) == 0 {
			continue
		}
		s := udp
		if ip6 {
			s = udp6
		}
		name := fmt.Sprintf("ads%d", rng.IntN(20000))
		s.Payload = append([]byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3, 'w', 'w', 'w', byte(len(name))}, name...)
		s.Payload = append(s.Payload, "\x07example\x00\x00\x01\x00\x01"...)
		flow := out[i].Flow
		out[i] = s.Packet(out[i].RxNs)
		out[i].Flow = flow
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
	same := func(config string) func(bool) string { return func(bool) string { return config } }
	rules := func(n int) func(bool) string { return func(ip6 bool) string { return aclRules(n, ip6) } }
	names := same(`{"block":[` + strings.Join(many, ",") + `]}`)
	for _, bc := range []struct {
		name, function string
		config         func(ip6 bool) string
		packets        func(n int, ip6 bool) []Packet
	}{
		{"hop", "hop", same(`{"src_mac":"02:aa:bb:cc:dd:ee","dst_mac":"02:11:22:33:44:55"}`), randomFlows},
		{"acl=1", "acl", rules(1), randomFlows},
		{"acl=100", "acl", rules(100), randomFlows},
		{"acl=1000", "acl", rules(1000), randomFlows},
		{"firewall-established", "firewall", rules(100), connections},
		{"firewall-flood", "firewall", same(`{"syn_limits":{"per_source":{"rate":1},"per_destination":{"rate":1}}}`), synFlood},
		{"firewall-udp", "firewall", same(`{}`), randomFlows},
		{"flowstat", "flowstat", same(`{"tcp_rtt":true}`), randomFlows},
		{"flowstat-established", "flowstat", same(`{"tcp_rtt":true}`), tcpData},
		{"lb4", "lb4", same(lbBench), toVIP},
		{"nat44", "nat44", same(natBench), randomFlows},
		{"nat44-tcp", "nat44", same(natBench), tcpData},
		{"ratelimit", "ratelimit", same(`{"rate":1000}`), randomFlows},
		{"ratelimit-flow", "ratelimit", same(`{"rate":1000000000,"key":"flow"}`), randomFlows},
		{"ratelimit-flow-also", "ratelimit", same(`{"rate":1000000000,"key":"flow","also":{"rate":1000000000000,"unit":"bps"}}`), randomFlows},
		{"dnsguard", "dnsguard", names, randomFlows},
		{"dnsguard-queries", "dnsguard", names, randomQueries},
	} {
		for _, ip6 := range []bool{false, true} {
			for _, burst := range []int{1, 8, 32, 64} {
				family := map[bool]string{false: "ip4", true: "ip6"}[ip6]
				name := fmt.Sprintf("nf=%s/%s/burst=%d", bc.name, family, burst)
				config, packets := bc.config(ip6), bc.packets(32*burst, ip6)
				b.Run(name+"/wasm", func(b *testing.B) {
					benchBursts(b, newSandboxed(b, bc.function), config, burst, packets)
				})
				b.Run(name+"/native", func(b *testing.B) {
					benchBursts(b, newCompiled(b, bc.function), config, burst, packets)
				})
			}
		}
	}
}

// benchBursts runs 32 different bursts in turn and reports the median of the
// turns. Only the time in the function counts, not the laying out of packets.
func benchBursts(b *testing.B, r burster, config string, burst int, packets []Packet) {
	if l, ok := r.(Limiter); ok {
		l.Limit(roomy)
	}
	if err := r.Configure([]byte(config)); err != nil {
		b.Fatal(err)
	}
	for _, p := range packets {
		if before := handshake(p); before != nil {
			r.Process(before)
		}
	}
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
