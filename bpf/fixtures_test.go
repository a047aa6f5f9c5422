package bpf

import (
	"net/netip"

	"sfc/dataplane/classify"
	"sfc/dataplane/packet"
)

// The rules that fixtures are classified by.
var fixtureRules = []classify.Rule{
	{Path: 7, VLAN: 100, Proto: classify.AnyProto},
	{Path: 1, VLAN: classify.AnyVLAN, Proto: 17, DstPorts: classify.PortRange{Lo: 53, Hi: 53}},
	{Path: 2, VLAN: classify.AnyVLAN, Proto: 6, DstPorts: classify.PortRange{Lo: 80, Hi: 443}},
	{Path: 3, VLAN: classify.AnyVLAN, Proto: 1},
	{Path: 4, VLAN: classify.AnyVLAN, Proto: 58},
	{Path: 5, VLAN: classify.AnyVLAN, Proto: 132, SrcPorts: classify.PortRange{Lo: 1, Hi: 65535}},
	{Path: 6, VLAN: classify.AnyVLAN, Proto: classify.AnyProto, Src: netip.MustParsePrefix("192.0.2.0/24")},
	{Path: 8, VLAN: classify.AnyVLAN, Proto: classify.AnyProto, Src: netip.MustParsePrefix("2001:db8::/32")},
	{Path: 9, VLAN: classify.AnyVLAN, Proto: 47, Ports: 1},
	{Path: 10, VLAN: classify.AnyVLAN, Proto: 48, Ports: 2},
}

// wantMeta is the part of packet.Meta that a fixture states; what is in it
// besides (hash, port, number, version) is checked of every frame alike.
type wantMeta struct {
	path, l3, l4, flags, vlan uint16
	proto                     uint8
}

// Outcomes of a frame, by the name of its counter; "claimed" is redirected.
const (
	claimed    = "redirected"
	notIP      = "passed not_ip"
	nd         = "passed nd"
	unmatched  = "passed unmatched"
	malformed  = "malformed"
	extHeaders = "ext_headers"
	tooLong    = "too_long"
)

type fixture struct {
	name string
	in   []byte
	want string
	meta wantMeta
}

const (
	v4    = packet.FlagIPv4
	v6    = packet.FlagIPv6
	vl    = packet.FlagVLAN
	frag  = packet.FlagFragment
	later = packet.FlagFragment | packet.FlagLaterFrag
	quote = packet.FlagICMPError
)

var (
	dns4  = build(eth(0x0800), ip4(out4, 17, 0), udp(4000, 53), data(20))
	web4  = build(eth(0x0800), ip4(out4, 6, 0), tcp(4000, 443, 0), data(6))
	web4o = build(eth(0x0800), ip4(out4, 6, 3), tcp(4000, 80, 5), data(6))
	dns6  = build(eth(0x86dd), ip6(out6, 17), udp(4000, 53), data(20))
	web6  = build(eth(0x86dd), ip6(out6, 6), tcp(4000, 443, 0))
	opts6 = build(eth(0x86dd), ip6(out6, 0), ext(43, 1), ext(60, 2), ext(17, 1), udp(4000, 53))
	auth6 = build(eth(0x86dd), ip6(out6, 51), raw(17, 4), data(22), udp(4000, 53))
	qinq  = build(eth(0x88a8), tag(100, 0x8100), tag(200, 0x0800), ip4(out4, 17, 0), udp(1, 2))
	ping4 = build(eth(0x0800), ip4(out4, 1, 0), icmp(8))
	ping6 = build(eth(0x86dd), ip6(out6, 58), icmp(128))
)

var fixtures = []fixture{
	// Well-formed, claimed.
	{"udp4", dns4, claimed, wantMeta{1, 14, 34, v4, 0, 17}},
	{"udp4, link padding", build(eth(0x0800), func([]byte) []byte {
		return append(build(ip4(out4, 17, 0), udp(4000, 53)), make([]byte, 18)...)
	}), claimed, wantMeta{1, 14, 34, v4, 0, 17}},
	{"udp4, one word of options", build(eth(0x0800), ip4(out4, 17, 1), udp(4000, 53)), claimed, wantMeta{1, 14, 38, v4, 0, 17}},
	{"udp4, 40 bytes of options", build(eth(0x0800), ip4(out4, 17, 10), udp(4000, 53)), claimed, wantMeta{1, 14, 74, v4, 0, 17}},
	{"udp4, length below the payload", with(build(eth(0x0800), ip4(out4, 17, 0), udp(4000, 53), data(20)), 38, 0, 8), claimed, wantMeta{1, 14, 34, v4, 0, 17}},
	{"tcp4", web4, claimed, wantMeta{2, 14, 34, v4, 0, 6}},
	{"tcp4 with ip and tcp options", web4o, claimed, wantMeta{2, 14, 46, v4, 0, 6}},
	{"tcp4, lowest port of the range", build(eth(0x0800), ip4(out4, 6, 0), tcp(1, 80, 0)), claimed, wantMeta{2, 14, 34, v4, 0, 6}},
	{"icmp echo", ping4, claimed, wantMeta{3, 14, 34, v4, 0, 1}},
	{"icmp unreachable", build(eth(0x0800), ip4(out4, 1, 0), icmp(3), data(28)), claimed, wantMeta{3, 14, 34, v4 | quote, 0, 1}},
	{"icmp time exceeded", build(eth(0x0800), ip4(out4, 1, 0), icmp(11)), claimed, wantMeta{3, 14, 34, v4 | quote, 0, 1}},
	{"icmp timestamp", build(eth(0x0800), ip4(out4, 1, 0), icmp(13)), claimed, wantMeta{3, 14, 34, v4, 0, 1}},
	{"sctp4", build(eth(0x0800), ip4(out4, 132, 0), sctp(9, 9)), claimed, wantMeta{5, 14, 34, v4, 0, 132}},
	{"sctp6", build(eth(0x86dd), ip6(out6, 132), sctp(9, 9)), claimed, wantMeta{5, 14, 54, v6, 0, 132}},
	{"udp6", dns6, claimed, wantMeta{1, 14, 54, v6, 0, 17}},
	{"tcp6", web6, claimed, wantMeta{2, 14, 54, v6, 0, 6}},
	{"icmp6 echo", ping6, claimed, wantMeta{4, 14, 54, v6, 0, 58}},
	{"icmp6 packet too big", build(eth(0x86dd), ip6(out6, 58), icmp(2), data(40)), claimed, wantMeta{4, 14, 54, v6 | quote, 0, 58}},
	{"mld is no neighbour discovery", build(eth(0x86dd), ip6(out6, 0), ext(58, 1), icmp(143)), claimed, wantMeta{4, 14, 62, v6, 0, 58}},
	{"any protocol by source", build(eth(0x0800), ip4(in4, 89, 0), data(30)), claimed, wantMeta{6, 14, 0, v4, 0, 89}},
	{"no payload at all", build(eth(0x0800), ip4(in4, 253, 0)), claimed, wantMeta{6, 14, 0, v4, 0, 253}},
	{"esp4", build(eth(0x0800), ip4(in4, 50, 0), data(30)), claimed, wantMeta{6, 14, 0, v4, 0, 50}},
	{"ah4 is not stepped over", build(eth(0x0800), ip4(in4, 51, 0), data(32)), claimed, wantMeta{6, 14, 0, v4, 0, 51}},
	{"icmp6 in ipv4", build(eth(0x0800), ip4(out4, 58, 0), icmp(135)), claimed, wantMeta{4, 14, 0, v4, 0, 58}},
	{"icmp in ipv6", build(eth(0x86dd), ip6(out6, 1), icmp(8)), claimed, wantMeta{3, 14, 0, v6, 0, 1}},
	{"esp6", build(eth(0x86dd), ip6(in6, 50), data(30)), claimed, wantMeta{8, 14, 0, v6, 0, 50}},
	{"no next header", build(eth(0x86dd), ip6(in6, 59)), claimed, wantMeta{8, 14, 0, v6, 0, 59}},
	{"rule of this ingress port", build(eth(0x0800), ip4(out4, 47, 0), data(8)), claimed, wantMeta{9, 14, 0, v4, 0, 47}},
	{"as long as a chunk allows", build(eth(0x0800), ip4(out4, 17, 0), udp(1, 53), data(packet.MaxFrame-42)), claimed, wantMeta{1, 14, 34, v4, 0, 17}},

	// VLAN tags.
	{"vlan 100", build(eth(0x8100), tag(100, 0x0800), ip4(out4, 17, 0), udp(1, 2)), claimed, wantMeta{7, 18, 38, v4 | vl, 100, 17}},
	{"vlan 0 counts as untagged", build(eth(0x8100), tag(0, 0x0800), ip4(out4, 17, 0), udp(1, 53)), claimed, wantMeta{1, 18, 38, v4 | vl, 0, 17}},
	{"vlan 4094, ipv6", build(eth(0x8100), tag(4094, 0x86dd), ip6(out6, 17), udp(1, 53)), claimed, wantMeta{1, 18, 58, v6 | vl, 4094, 17}},
	{"service tag", build(eth(0x88a8), tag(100, 0x0800), ip4(out4, 17, 0), udp(1, 2)), claimed, wantMeta{7, 18, 38, v4 | vl, 100, 17}},
	{"two tags, the outer one counts", qinq, claimed, wantMeta{7, 22, 42, v4 | vl, 100, 17}},
	{"two customer tags", build(eth(0x8100), tag(200, 0x8100), tag(100, 0x86dd), ip6(out6, 6), tcp(1, 443, 0)), claimed, wantMeta{2, 22, 62, v6 | vl, 200, 6}},
	{"three tags", build(eth(0x88a8), tag(100, 0x8100), tag(2, 0x8100), tag(3, 0x0800), ip4(out4, 17, 0), udp(1, 2)), notIP, wantMeta{}},
	{"five tags", build(eth(0x8100), tag(1, 0x8100), tag(2, 0x8100), tag(3, 0x8100), tag(4, 0x8100), tag(5, 0x0800)), notIP, wantMeta{}},
	{"tagged arp", build(eth(0x8100), tag(100, 0x0806), data(28)), notIP, wantMeta{}},
	{"first tag cut", cut(qinq, 16), malformed, wantMeta{}},
	{"second tag cut", cut(qinq, 20), malformed, wantMeta{}},
	{"tagged ip header cut", cut(qinq, 41), malformed, wantMeta{}},

	// Not for chains.
	{"arp", build(eth(0x0806), data(28)), notIP, wantMeta{}},
	{"ethernet header alone", build(eth(0x88cc)), notIP, wantMeta{}},
	{"802.3 length", build(eth(0x0026), data(38)), notIP, wantMeta{}},
	{"router solicitation", build(eth(0x86dd), ip6(in6, 58), icmp(133)), nd, wantMeta{}},
	{"router advertisement", build(eth(0x86dd), ip6(in6, 58), icmp(134), data(8)), nd, wantMeta{}},
	{"neighbour solicitation", build(eth(0x86dd), ip6(in6, 58), icmp(135), data(16)), nd, wantMeta{}},
	{"neighbour advertisement on a chain's vlan", build(eth(0x8100), tag(100, 0x86dd), ip6(in6, 58), icmp(136), data(16)), nd, wantMeta{}},
	{"redirect behind an extension header", build(eth(0x86dd), ip6(in6, 0), ext(58, 1), icmp(137), data(32)), nd, wantMeta{}},
	{"unmatched udp4", build(eth(0x0800), ip4(out4, 17, 0), udp(53, 54)), unmatched, wantMeta{}},
	{"unmatched udp6", build(eth(0x86dd), ip6(out6, 17), udp(53, 54)), unmatched, wantMeta{}},
	{"port above the range", build(eth(0x0800), ip4(out4, 6, 0), tcp(1, 444, 0)), unmatched, wantMeta{}},
	{"rule of another ingress port", build(eth(0x0800), ip4(out4, 48, 0), data(8)), unmatched, wantMeta{}},
	{"too long and unmatched", build(eth(0x0800), ip4(out4, 17, 0), udp(1, 54), data(packet.MaxFrame)), unmatched, wantMeta{}},
	{"too long and claimed", build(eth(0x0800), ip4(out4, 17, 0), udp(1, 53), data(packet.MaxFrame-41)), tooLong, wantMeta{}},
	{"several buffers and claimed", build(eth(0x0800), ip4(out4, 17, 0), udp(1, 53), data(9000)), tooLong, wantMeta{}},

	// Fragments.
	{"first fragment", with(build(eth(0x0800), ip4(out4, 17, 0), udp(4000, 53), data(16)), 20, 0x20, 0), claimed, wantMeta{1, 14, 34, v4 | frag, 0, 17}},
	{"first fragment, udp length of the whole", with(with(build(eth(0x0800), ip4(out4, 17, 0), udp(4000, 53), data(16)), 20, 0x20, 0), 38, 0x10, 0), claimed, wantMeta{1, 14, 34, v4 | frag, 0, 17}},
	{"middle fragment", with(build(eth(0x0800), ip4(in4, 17, 0), data(16)), 20, 0x20, 5), claimed, wantMeta{6, 14, 0, v4 | later, 0, 17}},
	{"last fragment", with(build(eth(0x0800), ip4(in4, 17, 0), data(16)), 20, 0, 5), claimed, wantMeta{6, 14, 0, v4 | later, 0, 17}},
	{"later fragments match no port", with(build(eth(0x0800), ip4(out4, 17, 0), udp(4000, 53)), 20, 0, 5), unmatched, wantMeta{}},
	{"later fragment of 1 byte", with(build(eth(0x0800), ip4(in4, 6, 0), data(1)), 20, 0x1f, 0xff), claimed, wantMeta{6, 14, 0, v4 | later, 0, 6}},
	{"don't fragment is no fragment", with(dns4, 20, 0x40, 0), claimed, wantMeta{1, 14, 34, v4, 0, 17}},
	{"first fragment, udp header cut", with(build(eth(0x0800), ip4(out4, 17, 0), data(7)), 20, 0x20, 0), malformed, wantMeta{}},
	{"first fragment6", build(eth(0x86dd), ip6(out6, 44), frag6(17, 0, 1), udp(4000, 53)), claimed, wantMeta{1, 14, 62, v6 | frag, 0, 17}},
	{"later fragment6", build(eth(0x86dd), ip6(in6, 44), frag6(17, 9, 0), data(8)), claimed, wantMeta{8, 14, 0, v6 | later, 0, 17}},
	{"later fragment6 of options", build(eth(0x86dd), ip6(in6, 44), frag6(60, 9, 1), data(8)), claimed, wantMeta{8, 14, 0, v6 | later, 0, 60}},
	{"atomic fragment6", build(eth(0x86dd), ip6(out6, 44), frag6(17, 0, 0), udp(4000, 53)), claimed, wantMeta{1, 14, 62, v6, 0, 17}},
	{"fragment6 behind options", build(eth(0x86dd), ip6(out6, 0), ext(44, 2), frag6(6, 0, 1), tcp(1, 443, 0)), claimed, wantMeta{2, 14, 78, v6 | frag, 0, 6}},

	// Chains of extension headers.
	{"hop-by-hop, routing, destination", opts6, claimed, wantMeta{1, 14, 86, v6, 0, 17}},
	{"authentication header", auth6, claimed, wantMeta{1, 14, 78, v6, 0, 17}},
	{"mobility, hip, shim6", build(eth(0x86dd), ip6(out6, 135), ext(139, 1), ext(140, 1), ext(17, 1), udp(1, 53)), claimed, wantMeta{1, 14, 78, v6, 0, 17}},
	{"eight extension headers", build(eth(0x86dd), ip6(out6, 60), chain(8, 17), udp(1, 53)), claimed, wantMeta{1, 14, 118, v6, 0, 17}},
	{"eight, then esp", build(eth(0x86dd), ip6(in6, 60), chain(8, 50), data(8)), claimed, wantMeta{8, 14, 0, v6, 0, 50}},
	{"nine extension headers", build(eth(0x86dd), ip6(out6, 60), chain(9, 17), udp(1, 53)), extHeaders, wantMeta{}},
	{"twenty extension headers", build(eth(0x86dd), ip6(out6, 60), chain(20, 17), udp(1, 53)), extHeaders, wantMeta{}},
	{"an extension header of 1 KiB", build(eth(0x86dd), ip6(out6, 60), ext(17, 128), udp(1, 53)), claimed, wantMeta{1, 14, 1078, v6, 0, 17}},
	{"extension header past the packet", with(opts6, 55, 200), malformed, wantMeta{}},
	{"authentication header past the packet", with(auth6, 55, 100), malformed, wantMeta{}},
	{"hop-by-hop and nothing", build(eth(0x86dd), ip6(out6, 0)), malformed, wantMeta{}},
	{"fragment header cut", build(eth(0x86dd), ip6(out6, 44), data(7)), malformed, wantMeta{}},

	// Cut at every boundary.
	{"ipv4 header missing", cut(dns4, 14), malformed, wantMeta{}},
	{"ipv4 header cut", cut(dns4, 33), malformed, wantMeta{}},
	{"ipv4 options cut", cut(web4o, 45), malformed, wantMeta{}},
	{"udp4 header missing", cut(dns4, 34), malformed, wantMeta{}},
	{"udp4 header cut", cut(dns4, 41), malformed, wantMeta{}},
	{"udp4 payload cut", cut(dns4, len(dns4)-1), malformed, wantMeta{}},
	{"tcp4 header cut", cut(web4, 53), malformed, wantMeta{}},
	{"tcp4 options cut", cut(web4o, 80), malformed, wantMeta{}},
	{"icmp header cut", cut(ping4, 41), malformed, wantMeta{}},
	{"ipv6 header missing", cut(dns6, 14), malformed, wantMeta{}},
	{"ipv6 header cut", cut(dns6, 53), malformed, wantMeta{}},
	{"udp6 header cut", cut(dns6, 61), malformed, wantMeta{}},
	{"tcp6 header cut", cut(web6, 73), malformed, wantMeta{}},
	{"icmp6 header cut", cut(ping6, 61), malformed, wantMeta{}},
	{"first extension header cut", cut(opts6, 61), malformed, wantMeta{}},
	{"second extension header cut", cut(opts6, 77), malformed, wantMeta{}},
	{"third extension header cut", cut(opts6, 85), malformed, wantMeta{}},

	// Lying lengths; the frame itself is whole.
	{"ipv4 version 5", with(dns4, 14, 0x55), malformed, wantMeta{}},
	{"ipv4 version 6", with(dns4, 14, 0x65), malformed, wantMeta{}},
	{"ipv4 header length 0", with(dns4, 14, 0x40), malformed, wantMeta{}},
	{"ipv4 header length 16", with(dns4, 14, 0x44), malformed, wantMeta{}},
	{"ipv4 header longer than the packet", with(ping4, 14, 0x4f), malformed, wantMeta{}},
	{"ipv4 total length 0", with(dns4, 16, 0, 0), malformed, wantMeta{}},
	{"ipv4 total length below the header", with(dns4, 16, 0, 19), malformed, wantMeta{}},
	{"ipv4 total length past the frame", with(dns4, 16, 0, byte(len(dns4)-13)), malformed, wantMeta{}},
	{"ipv4 total length 65535", with(dns4, 16, 255, 255), malformed, wantMeta{}},
	{"ipv4 total length leaves no udp header", with(dns4, 16, 0, 27), malformed, wantMeta{}},
	{"udp length 0", with(dns4, 38, 0, 0), malformed, wantMeta{}},
	{"udp length 7", with(dns4, 38, 0, 7), malformed, wantMeta{}},
	{"udp length past the packet", with(dns4, 38, 0, 29), malformed, wantMeta{}},
	{"udp length 65535", with(dns4, 38, 255, 255), malformed, wantMeta{}},
	{"tcp data offset 4", with(web4, 46, 0x40), malformed, wantMeta{}},
	{"tcp data offset past the packet", with(web4, 46, 0xf0), malformed, wantMeta{}},
	{"ipv6 version 4", with(dns6, 14, 0x40), malformed, wantMeta{}},
	{"ipv6 payload past the frame", with(dns6, 18, 0, 29), malformed, wantMeta{}},
	{"ipv6 payload 65535", with(dns6, 18, 255, 255), malformed, wantMeta{}},
	{"ipv6 payload 0", with(dns6, 18, 0, 0), malformed, wantMeta{}},
	{"ipv6 jumbogram", with(opts6, 18, 0, 0), malformed, wantMeta{}},
	{"udp6 length 0", with(dns6, 58, 0, 0), malformed, wantMeta{}},
}
