package nftest

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"sfc/dataplane/packet"
	"sfc/nf/native"
)

var (
	hostA  = netip.MustParseAddr("10.0.0.1")
	hostB  = netip.MustParseAddr("192.0.2.9")
	hostA6 = netip.MustParseAddr("2001:db8::1")
	hostB6 = netip.MustParseAddr("2001:db8:ffff::9")

	udp  = Spec{Src: hostA, Dst: hostB, Proto: packet.ProtoUDP, SPort: 4000, DPort: 53}
	udp6 = Spec{Src: hostA6, Dst: hostB6, Proto: packet.ProtoUDP, SPort: 4000, DPort: 53}
	tcp  = Spec{Src: hostA, Dst: hostB, Proto: packet.ProtoTCP, SPort: 4000, DPort: 443, TCPFlags: 0x02}
	arp  = NewPacket(append([]byte("\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x01\x08\x06"), make([]byte, 46)...), 0)
)

// with returns a copy of s that f changed, as a packet at time 0.
func with(s Spec, f func(*Spec)) Packet {
	f(&s)
	return s.Packet(0)
}

// laterFragment returns the packet as if it were the second fragment.
func laterFragment(s Spec) Packet {
	frame := s.Frame()
	binary.BigEndian.PutUint16(frame[20:], 185)
	packet.SetChecksums(frame)
	return NewPacket(frame, 0)
}

// cut returns the packet with only n bytes of its frame, as a lying parser
// describes it.
func cut(p Packet, n int) Packet {
	p.Frame = p.Frame[:n]
	return p
}

var aclCases = []Case{
	{Name: "nothing is denied by default", Config: `{}`, Packets: []Packet{udp.Packet(0), udp6.Packet(0), arp},
		Want: []Want{Next, Next, Next}, Counters: []uint64{2, 1}},
	{Name: "deny spares what is not IP", Config: `{"default":"deny"}`, Packets: []Packet{udp.Packet(0), udp6.Packet(0), arp},
		Want: []Want{Drop(1), Drop(1), Next}, Counters: []uint64{0, 1}},
	{Name: "first match wins",
		Config:  `{"rules":[{"action":"permit","dst_ports":53},{"action":"deny","src":"10.0.0.0/8"}]}`,
		Packets: []Packet{udp.Packet(0), tcp.Packet(0)}, Want: []Want{Next, Drop(1)}},
	{Name: "prefix borders", Config: `{"rules":[{"action":"deny","src":"10.0.0.128/25"}]}`,
		Packets: []Packet{
			with(udp, func(s *Spec) { s.Src = netip.MustParseAddr("10.0.0.127") }),
			with(udp, func(s *Spec) { s.Src = netip.MustParseAddr("10.0.0.128") }),
			with(udp, func(s *Spec) { s.Src = netip.MustParseAddr("10.0.0.255") }),
			with(udp, func(s *Spec) { s.Src = netip.MustParseAddr("10.0.1.0") }),
		}, Want: []Want{Next, Drop(1), Drop(1), Next}},
	{Name: "IPv6 prefix", Config: `{"rules":[{"action":"deny","dst":"2001:db8:ffff::/48"}]}`,
		Packets: []Packet{udp6.Packet(0), with(udp6, func(s *Spec) { s.Dst = hostA6 }), udp.Packet(0)}, Want: []Want{Drop(1), Next, Next}},
	{Name: "port ranges", Config: `{"rules":[{"action":"deny","proto":"udp","dst_ports":["10-20","53",65535]}]}`,
		Packets: []Packet{
			with(udp, func(s *Spec) { s.DPort = 9 }), with(udp, func(s *Spec) { s.DPort = 10 }),
			with(udp, func(s *Spec) { s.DPort = 20 }), with(udp, func(s *Spec) { s.DPort = 21 }),
			udp.Packet(0), with(udp, func(s *Spec) { s.DPort = 65535 }), with(tcp, func(s *Spec) { s.DPort = 53 }),
		}, Want: []Want{Next, Drop(1), Drop(1), Next, Drop(1), Drop(1), Next}},
	{Name: "TCP flags", Config: `{"rules":[{"action":"deny","tcp_flags":{"set":["syn"],"clear":["ack"]}}]}`,
		Packets: []Packet{tcp.Packet(0), with(tcp, func(s *Spec) { s.TCPFlags = 0x12 }), with(tcp, func(s *Spec) { s.TCPFlags = 0x03 }), udp.Packet(0)},
		Want:    []Want{Drop(1), Next, Drop(1), Next}},
	{Name: "later fragments show no ports",
		Config:  `{"rules":[{"action":"deny","src_ports":"0-65535"},{"action":"deny","tcp_flags":{}},{"action":"permit","proto":17}],"default":"deny"}`,
		Packets: []Packet{laterFragment(udp), laterFragment(tcp), udp.Packet(0)}, Want: []Want{Next, Drop(1), Drop(1)}},
	{Name: "cut headers show no ports", Config: `{"rules":[{"action":"deny","dst_ports":[53,443]},{"action":"deny","tcp_flags":{"set":["syn"]}}]}`,
		Packets: []Packet{cut(udp.Packet(0), 38), cut(udp.Packet(0), 37), cut(with(tcp, func(s *Spec) { s.DPort = 1 }), 47), cut(udp.Packet(0), 33)},
		Want:    []Want{Drop(1), Next, Next, Next}},
	{Name: "protocol by number", Config: `{"rules":[{"action":"deny","proto":1},{"action":"deny","proto":"58"}]}`,
		Packets: []Packet{with(udp, func(s *Spec) { s.Proto = 1 }), with(udp6, func(s *Spec) { s.Proto = 58 }), udp.Packet(0)},
		Want:    []Want{Drop(1), Drop(1), Next}},
	{Name: "empty", Config: ``, Refused: true},
	{Name: "unknown field", Config: `{"rule":[]}`, Refused: true},
	{Name: "families mixed", Config: `{"rules":[{"action":"deny","src":"10.0.0.0/8","dst":"2001:db8::/32"}]}`, Refused: true},
	{Name: "ports without a protocol that has them", Config: `{"rules":[{"action":"deny","proto":"icmp","dst_ports":1}]}`, Refused: true},
	{Name: "action missing", Config: `{"rules":[{}]}`, Refused: true},
	{Name: "range backwards", Config: `{"rules":[{"action":"deny","dst_ports":"20-10"}]}`, Refused: true},
	{Name: "field repeats", Config: `{"default":"deny","default":"deny"}`, Refused: true},
	{Name: "1024 rules", Config: manyRules(1024), Refused: true},
	{Name: "1023 rules, the last matches", Config: manyRules(1023), Packets: []Packet{udp.Packet(0), tcp.Packet(0), udp6.Packet(0)},
		Want: []Want{Drop(1), Next, Drop(1)}},
	{Name: "the most tables possible", Config: worstRules(), Packets: []Packet{udp.Packet(0), udp6.Packet(0)}, Want: []Want{Next, Next}},
}

// manyRules returns n rules of which only the last, deny UDP, can match.
func manyRules(n int) string {
	rules := slices.Repeat([]string{`{"action":"deny","src":"172.16.0.0/12"}`}, n-1)
	return `{"rules":[` + strings.Join(append(rules, `{"action":"deny","proto":"udp"}`), ",") + `]}`
}

// worstRules returns the configuration that needs the largest tables: every rule
// has eight ranges of ports of its own in both directions.
func worstRules() string {
	var rules []string
	for r := range 1023 {
		var ranges []string
		for k := range 8 {
			ranges = append(ranges, fmt.Sprint(2*(8*r+k)+10000))
		}
		list := strings.Join(ranges, ",")
		rules = append(rules, fmt.Sprintf(`{"action":"deny","src_ports":[%s],"dst_ports":[%s]}`, list, list))
	}
	return `{"rules":[` + strings.Join(rules, ",") + `]}`
}

// at returns the packet at several times, in ms.
func at(s Spec, ms ...uint64) (out []Packet) {
	for _, t := range ms {
		out = append(out, s.Packet(t*1e6))
	}
	return out
}

// otherSource returns s from another address.
func otherSource(s Spec, last byte) Spec {
	s.Src = netip.AddrFrom4([4]byte{10, 0, 0, last})
	return s
}

var rateLimitCases = []Case{
	{Name: "burst, then one a second", Config: `{"rate":1,"burst":2}`,
		Packets: at(udp, 0, 0, 0, 999, 1000, 1000, 9000, 9000, 9000),
		Want:    []Want{Next, Next, Drop(1), Drop(1), Next, Drop(1), Next, Next, Drop(1)}, Counters: []uint64{5, 1, 0, 0}},
	{Name: "the clock set back gives nothing", Config: `{"rate":1,"burst":1}`,
		Packets: at(udp, 5000, 1000, 5500, 6000), Want: []Want{Next, Drop(1), Drop(1), Next}},
	{Name: "sources have buckets of their own", Config: `{"rate":1,"burst":1}`,
		Packets: slices.Concat(at(udp, 0, 0), at(otherSource(udp, 2), 0, 0), at(udp6, 0, 0)),
		Want:    []Want{Next, Drop(1), Next, Drop(1), Next, Drop(1)}, Counters: []uint64{3, 3}},
	{Name: "a prefix shares one", Config: `{"rate":1,"burst":1,"prefix4":24}`,
		Packets: slices.Concat(at(udp, 0), at(otherSource(udp, 255), 0)), Want: []Want{Next, Drop(1)}},
	{Name: "bits of the frame", Config: `{"rate":1000,"unit":"bps","burst":720}`, // 42 bytes are 336 bits
		Packets: at(udp, 0, 0, 0, 287, 288), Want: []Want{Next, Next, Drop(1), Drop(1), Next}},
	{Name: "what is not IP passes", Config: `{"rate":1,"burst":1}`, Packets: []Packet{arp, arp, cut(udp.Packet(0), 33)},
		Want: []Want{Next, Next, Next}, Counters: []uint64{0, 0, 0, 3}},
	{Name: "a full table replaces the idlest", Config: `{"rate":1,"burst":1,"max_sources":4}`,
		Packets: []Packet{
			otherSource(udp, 1).Packet(1), otherSource(udp, 2).Packet(2), otherSource(udp, 3).Packet(3), otherSource(udp, 4).Packet(4),
			otherSource(udp, 5).Packet(5), otherSource(udp, 6).Packet(6), otherSource(udp, 7).Packet(7), otherSource(udp, 8).Packet(8),
			otherSource(udp, 2).Packet(9), otherSource(udp, 9).Packet(10), // takes the place of .1
			otherSource(udp, 2).Packet(11), otherSource(udp, 1).Packet(12), // takes that of .3
			otherSource(udp, 3).Packet(13),
		},
		Want:     []Want{Next, Next, Next, Next, Next, Next, Next, Next, Drop(1), Next, Drop(1), Next, Next},
		Counters: []uint64{11, 8, 3}},
	{Name: "flows have buckets of their own, for both directions", Config: `{"key":"flow","rate":1,"burst":2}`,
		Packets: []Packet{inFlow(udp.Packet(0), 1, false), inFlow(reversed(udp), 1, true), inFlow(udp.Packet(0), 1, false), inFlow(udp.Packet(0), 2, false),
			inFlow(udp.Packet(1e9), 1, false), inFlow(udp.Packet(1e9), 1, false)},
		Want: []Want{Next, Next, Drop(1), Next, Next, Drop(1)}, Counters: []uint64{4, 0, 0, 0, 0}},
	{Name: "what has no flow of its own shares a bucket, errors about flows too", Config: `{"key":"flow","rate":1,"burst":2}`,
		Packets: []Packet{udp.Packet(0), arp, errorAbout(1), laterFragment(tcp), inFlow(udp.Packet(0), 1, false), arp},
		Want:    []Want{Next, Next, Next, Drop(1), Next, Next}, Counters: []uint64{3, 0, 0, 2, 3}},
	{Name: "two limits must hold, and what breaks one costs nothing of the other", Config: `{"key":"flow","rate":1,"burst":3,"also":{"rate":1,"unit":"bps","burst":672}}`, // 42 bytes are 336 bits
		Packets: []Packet{inFlow(udp.Packet(0), 1, false), inFlow(big(udp), 1, false), inFlow(udp.Packet(0), 1, false), inFlow(udp.Packet(0), 1, false), inFlow(udp.Packet(336e9), 1, false)},
		Want:    []Want{Next, Drop(1), Next, Drop(1), Next}},
	{Name: "two limits per source", Config: `{"rate":1000,"unit":"bps","burst":720,"also":{"rate":1,"burst":1}}`,
		Packets: at(udp, 0, 1, 999, 1000), Want: []Want{Next, Drop(1), Drop(1), Next}},
	{Name: "a second limit of nothing", Config: `{"rate":1,"also":{"unit":"bps"}}`, Refused: true},
	{Name: "a second limit of something else", Config: `{"rate":1,"also":{"rate":1,"key":"flow"}}`, Refused: true},
	{Name: "no such key", Config: `{"rate":1,"key":"dst"}`, Refused: true},
	{Name: "no rate", Config: `{}`, Refused: true},
	{Name: "rate of nothing", Config: `{"rate":0}`, Refused: true},
	{Name: "rate no integer", Config: `{"rate":1.5}`, Refused: true},
	{Name: "prefix too long", Config: `{"rate":1,"prefix4":33}`, Refused: true},
}

// big is a packet of s with 100 bytes of payload.
func big(s Spec) Packet {
	s.Payload = make([]byte, 100)
	return s.Packet(0)
}

// edited returns the frame with f applied.
func edited(frame []byte, f func([]byte)) []byte {
	frame = slices.Clone(frame)
	f(frame)
	return frame
}

// aged is udp's frame one hop on, with a right checksum.
var aged = edited(udp.Frame(), func(b []byte) { b[22]--; packet.SetChecksums(b) })

var hopCases = []Case{
	{Name: "count down", Config: `{}`, Packets: []Packet{udp.Packet(0), udp6.Packet(0), arp},
		Want: []Want{
			{Verdict: packet.Next, Frame: aged},
			{Verdict: packet.Next, Frame: edited(udp6.Frame(), func(b []byte) { b[21]-- })},
			{Verdict: packet.Next, Frame: arp.Frame},
		}, Counters: []uint64{2, 1}},
	{Name: "expired", Config: `{}`, Packets: []Packet{
		with(udp, func(s *Spec) { s.TTL = 1 }), with(udp, func(s *Spec) { s.ZeroTTL = true }), with(udp, func(s *Spec) { s.TTL = 2 }),
		with(udp6, func(s *Spec) { s.TTL = 1 }), with(udp6, func(s *Spec) { s.ZeroTTL = true }), with(udp6, func(s *Spec) { s.TTL = 2 }),
	}, Want: []Want{Drop(1), Drop(1), Next, Drop(1), Drop(1), Next}, Counters: []uint64{2, 0}},
	{Name: "a wrong checksum stays wrong by as much", Config: `{}`,
		Packets: []Packet{NewPacket(edited(udp.Frame(), func(b []byte) { b[25] ^= 1 }), 0)},
		Want:    []Want{{Verdict: packet.Next, Frame: edited(aged, func(b []byte) { b[25] ^= 1 })}}},
	{Name: "addresses", Config: `{"decrement":false,"src_mac":"02:AA:00:00:00:01","dst_mac":"02:bb:00:00:00:02"}`,
		Packets: []Packet{udp.Packet(0), with(udp, func(s *Spec) { s.ZeroTTL = true }), arp},
		Want: []Want{
			{Verdict: packet.Next, Frame: edited(udp.Frame(), func(b []byte) { copy(b, "\x02\xbb\x00\x00\x00\x02\x02\xaa\x00\x00\x00\x01") })},
			Next, {Verdict: packet.Next, Frame: arp.Frame},
		}},
	{Name: "one address", Config: `{"src_mac":"02:aa:00:00:00:01"}`, Packets: []Packet{udp.Packet(0)},
		Want: []Want{{Verdict: packet.Next, Frame: edited(aged, func(b []byte) { copy(b[6:], "\x02\xaa\x00\x00\x00\x01") })}}},
	{Name: "a header that is cut short stays", Config: `{}`, Packets: []Packet{cut(udp.Packet(0), 33), cut(udp6.Packet(0), 53)},
		Want: []Want{{Verdict: packet.Next, Frame: udp.Frame()[:33]}, {Verdict: packet.Next, Frame: udp6.Frame()[:53]}}},
	{Name: "not an address", Config: `{"src_mac":"02-aa-00-00-00-01"}`, Refused: true},
	{Name: "not a boolean", Config: `{"decrement":1}`, Refused: true},
	{Name: "something behind it", Config: `{} x`, Refused: true},
}

// dnsQuery returns a query for the names, each given on the wire; "\xc0" in one
// begins a pointer.
func dnsQuery(wire ...string) Packet {
	msg := []byte{0x12, 0x34, 1, 0, 0, byte(len(wire)), 0, 0, 0, 0, 0, 0}
	for _, w := range wire {
		msg = append(append(msg, w...), 0, 1, 0, 1)
	}
	return with(udp, func(s *Spec) { s.Payload = msg })
}

// changed returns p with the byte at an offset of the DNS message changed.
func changed(p Packet, off int, value byte) Packet {
	p.Frame = slices.Clone(p.Frame)
	p.Frame[packet.EtherLen+packet.IPv4Len+packet.UDPLen+off] = value
	return p
}

const (
	wireAds = "\x03ads\x07example\x00"
	wireWWW = "\x03www\x07example\x00"
)

var dnsGuardCases = []Case{
	{Name: "name and subdomain", Config: `{"block":["ads.example"]}`,
		Packets: []Packet{dnsQuery(wireAds), dnsQuery("\x01x" + wireAds), dnsQuery(wireWWW), dnsQuery("\x04xads\x07example\x00"), dnsQuery("\x07example\x00"), dnsQuery("\x00")},
		Want:    []Want{Drop(1), Drop(1), Next, Next, Next, Next}, Counters: []uint64{6, 2, 0}},
	{Name: "case does not matter", Config: `{"block":["Ads.EXAMPLE."]}`, Packets: []Packet{dnsQuery("\x03aDS\x07exaMple\x00")}, Want: []Want{Drop(1)}},
	{Name: "second question through a pointer", Config: `{"block":["ads.example"]}`,
		Packets: []Packet{dnsQuery(wireWWW, "\x03ads\xc0\x10"), dnsQuery(wireWWW, "\x02ok\xc0\x10"), dnsQuery(wireAds, "\xc0\x0c")},
		Want:    []Want{Drop(1), Next, Drop(1)}},
	{Name: "pointers that loop or lead nowhere", Config: `{}`,
		Packets: []Packet{dnsQuery("\xc0\x0c"), dnsQuery("\x01a\xc0\x0c"), dnsQuery("\xc0\x0e"), dnsQuery("\xff\xff"), dnsQuery(wireWWW, "\xc0\x00"), dnsQuery("\x40a\x00")},
		Want:    slices.Repeat([]Want{Drop(2)}, 6), Counters: []uint64{6, 0, 6}},
	{Name: "lengths that lie", Config: `{}`,
		Packets: []Packet{changed(dnsQuery(wireAds), 12, 63), changed(dnsQuery(wireAds), 5, 2), changed(dnsQuery(wireAds), -3, 200), changed(dnsQuery(wireAds), -3, 7), cut(dnsQuery(wireAds), 55)},
		Want:    slices.Repeat([]Want{Drop(2)}, 5)},
	{Name: "malformed may pass", Config: `{"malformed":"pass"}`, Packets: []Packet{dnsQuery("\xc0\x0c")}, Want: []Want{Next}, Counters: []uint64{1, 0, 1}},
	{Name: "count only", Config: `{"block":["example"],"action":"count"}`, Packets: []Packet{dnsQuery(wireAds)}, Want: []Want{Next}, Counters: []uint64{1, 1, 0}},
	{Name: "responses and other ports", Config: `{"block":["ads.example"]}`,
		Packets: []Packet{changed(dnsQuery(wireAds), 2, 0x81), with(udp, func(s *Spec) { s.DPort = 5353 }), tcp.Packet(0), laterFragment(udp), arp},
		Want:    slices.Repeat([]Want{Next}, 5), Counters: []uint64{0, 0, 0}},
	{Name: "configured ports only", Config: `{"block":["ads.example"],"ports":[5353]}`, Packets: []Packet{dnsQuery(wireAds)}, Want: []Want{Next}},
	{Name: "nine questions", Config: `{}`, Packets: []Packet{dnsQuery(slices.Repeat([]string{"\x00"}, 8)...), dnsQuery(slices.Repeat([]string{"\x00"}, 9)...)}, Want: []Want{Next, Drop(2)}},
	{Name: "255 bytes of name and one more", Config: `{}`,
		Packets: []Packet{
			dnsQuery(strings.Repeat("\x3f"+strings.Repeat("a", 63), 3) + "\x3d" + strings.Repeat("b", 61) + "\x00"),
			dnsQuery(strings.Repeat("\x3f"+strings.Repeat("a", 63), 3) + "\x3e" + strings.Repeat("b", 62) + "\x00"),
		}, Want: []Want{Next, Drop(2)}},
	{Name: "10,000 names", Config: manyNames(10000), Packets: []Packet{dnsQuery("\x05n9999\x04test\x00"), dnsQuery("\x06n10000\x04test\x00")}, Want: []Want{Drop(1), Next}},
	{Name: "10,001 names", Config: manyNames(10001), Refused: true},
	{Name: "empty name", Config: `{"block":[""]}`, Refused: true},
	{Name: "empty label", Config: `{"block":["a..b"]}`, Refused: true},
	{Name: "label of 64", Config: `{"block":["` + strings.Repeat("a", 64) + `"]}`, Refused: true},
	{Name: "not ASCII", Config: `{"block":["bücher.example"]}`, Refused: true},
}

func manyNames(n int) string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf(`"n%d.test"`, i)
	}
	return `{"block":[` + strings.Join(names, ",") + `]}`
}

// TestCases runs every table on every implementation.
func TestCases(t *testing.T) {
	cases := map[string][]Case{"acl": aclCases, "ratelimit": rateLimitCases, "firewall": firewallCases, "flowstat": flowStatCases, "hop": hopCases, "lb4": lbCases, "nat44": slices.Concat(natCases, natICMPCases), "dnsguard": dnsGuardCases}
	for _, name := range native.Names() {
		for _, r := range runners(t, name) {
			t.Run(fmt.Sprintf("%s/%T", name, r), func(t *testing.T) { Run(t, r, cases[name]) })
		}
	}
}
