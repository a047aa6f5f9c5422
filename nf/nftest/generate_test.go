package nftest

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"

	"sfc/dataplane/packet"
)

// gen draws configurations and packets from a small world, so that rules, names
// and sources meet packets often.
type gen struct{ *rand.Rand }

func newGen(seed uint64) gen { return gen{rand.New(rand.NewPCG(seed, seed>>32))} }

// oneIn is true once in n times.
func (g gen) oneIn(n int) bool { return g.IntN(n) == 0 }

// pick draws one of the values.
func pick[T any](g gen, values ...T) T { return values[g.IntN(len(values))] }

// addr draws an address: few networks, few hosts, sometimes a border.
func (g gen) addr(ip6 bool) netip.Addr {
	if !ip6 {
		return pick(g, netip.AddrFrom4([4]byte{10, 0, byte(g.IntN(3)), byte(g.IntN(256))}),
			netip.AddrFrom4([4]byte{192, 168, byte(g.IntN(2)) * 255, pick[byte](g, 0, 1, 127, 128, 255)}),
			netip.AddrFrom4([4]byte{}), netip.AddrFrom4([4]byte{255, 255, 255, 255}))
	}
	var a [16]byte
	switch g.IntN(4) {
	case 0:
		copy(a[:], "\x20\x01\x0d\xb8")
		a[7], a[8], a[15] = byte(g.IntN(3)), byte(g.IntN(3)), byte(g.IntN(256))
	case 1:
		copy(a[:], "\xfe\x80")
		a[15] = byte(g.IntN(3))
	case 2: // all ones or zeros
		for i, c := 0, pick[byte](g, 0, 255); i < len(a); i++ {
			a[i] = c
		}
	case 3: // IPv4-mapped
		copy(a[10:], "\xff\xff\x0a\x00\x00")
		a[15] = byte(g.IntN(3))
	}
	return netip.AddrFrom16(a)
}

func (g gen) port() uint16 {
	return pick(g, 0, 1, 53, 80, 443, 1023, 1024, 5353, 65535, uint16(g.IntN(65536)))
}

func (g gen) proto() uint8 {
	return pick[uint8](g, 0, 1, 6, 6, 6, 17, 17, 17, 58, 132, 255)
}

// packets draws a stream; time mostly runs forwards.
func (g gen) packets(n int) []Packet {
	var out []Packet
	now := uint64(g.IntN(2)) * 1_700_000_000_000_000_000
	for range n {
		if g.oneIn(20) {
			now -= min(now, g.Uint64N(2e9)) // a clock that was set back
		}
		now += g.Uint64N(pick[uint64](g, 1, 1e3, 1e6, 1e9, 1e11))
		p := g.spec().Packet(now)
		for g.oneIn(6) {
			g.spoil(&p)
		}
		out = append(out, p)
	}
	return out
}

func (g gen) spec() Spec {
	ip6 := g.oneIn(3)
	s := Spec{
		Src: g.addr(ip6), Dst: g.addr(ip6), Proto: g.proto(), SPort: g.port(), DPort: g.port(),
		TCPFlags: byte(g.IntN(256)), TTL: pick[uint8](g, 0, 1, 2, 64, 255), ZeroTTL: true,
	}
	if g.oneIn(2) {
		s.Proto, s.DPort = packet.ProtoUDP, 53
		s.Payload = g.query()
	}
	return s
}

// spoil makes a packet lie: about itself, or about what the parser found.
func (g gen) spoil(p *Packet) {
	switch g.IntN(7) {
	case 0:
		p.Frame = p.Frame[:max(packet.MinFrame, g.IntN(len(p.Frame)+1))]
	case 1:
		p.Frame[g.IntN(len(p.Frame))] = byte(g.IntN(256))
	case 2:
		p.L3 = uint16(g.IntN(2000))
	case 3:
		p.L4 = uint16(pick(g, 0, g.IntN(100), g.IntN(65536)))
	case 4:
		p.Flags ^= 1 << g.IntN(8)
	case 5:
		p.Proto = g.proto()
	case 6:
		*p = NewPacket(p.Frame, p.RxNs)
	}
}

// label draws a label in random case.
func (g gen) label() string {
	s := pick(g, "ads", "www", "example", "com", "net", "a", "x-1", "_dns", "xn--bcher-kva", strings.Repeat("l", g.IntN(64)+1))
	if g.oneIn(3) {
		s = strings.ToUpper(s)
	}
	return s
}

// name draws a name in text.
func (g gen) name() string {
	labels := []string{}
	for range 1 + g.IntN(4) {
		labels = append(labels, g.label())
	}
	return strings.Join(labels, ".")
}

// query draws a DNS message: mostly one question, sometimes more, compressed or
// broken.
func (g gen) query() []byte {
	questions := pick(g, 1, 1, 1, 1, 0, 2, 3, 8, 9, g.IntN(65536))
	msg := []byte{byte(g.IntN(256)), 1, pick[byte](g, 1, 1, 1, 1, 0x81, 0x28), 0}
	msg = binary.BigEndian.AppendUint16(msg, uint16(questions))
	msg = append(msg, 0, 0, 0, 0, 0, 0)
	for range min(questions, 10) {
		for range g.IntN(5) {
			l := g.label()
			msg = append(append(msg, byte(len(l))), l...)
		}
		switch g.IntN(8) {
		case 0, 1: // a pointer to somewhere, mostly backwards
			msg = binary.BigEndian.AppendUint16(msg, 0xc000|uint16(g.IntN(len(msg)+4)))
		case 2:
			msg = append(msg, byte(g.IntN(256)))
		default:
			msg = append(msg, 0)
		}
		msg = append(msg, 0, 1, 0, 1)
	}
	return msg[:len(msg)-min(len(msg), pick(g, 0, 0, 0, 0, 1, 2, 4, g.IntN(len(msg)))*g.IntN(2))]
}

// config draws a configuration of a function, mostly a right one.
func (g gen) config(function string) []byte {
	var c map[string]any
	switch function {
	case "acl":
		c = g.aclConfig()
	case "firewall":
		c = g.aclConfig()
		if g.oneIn(2) { // more of TCP, less of rules
			c = map[string]any{"rules": []any{}}
		}
		g.maybe(c, "pickup", pick(g, "strict", "loose"))
		g.maybe(c, "syn_limits", g.synLimits())
	case "ratelimit":
		c = map[string]any{"rate": pick(g, 1, 3, 1000, 999983, 1_000_000_000_000)}
		g.maybe(c, "unit", pick(g, "pps", "bps"))
		g.maybe(c, "burst", pick(g, 1, 2, 10, 5000, 4_000_000_000))
		g.maybe(c, "prefix4", g.IntN(33))
		g.maybe(c, "prefix6", g.IntN(129))
		g.maybe(c, "max_sources", pick(g, 1, 4, 5, 100))
		g.maybe(c, "seed", g.Int64())
		g.maybe(c, "key", pick(g, "src", "flow"))
		also := map[string]any{"rate": pick(g, 1, 5, 100_000)}
		g.maybe(also, "unit", pick(g, "pps", "bps"))
		g.maybe(also, "burst", pick(g, 3, 20_000))
		g.maybe(c, "also", also)
	case "flowstat":
		c = map[string]any{}
		g.maybe(c, "tcp_rtt", g.oneIn(3))
		g.maybe(c, "active_timeout", pick(g, 0, 1, 1, 86400))
	case "hop":
		c = map[string]any{}
		g.maybe(c, "decrement", g.oneIn(2))
		g.maybe(c, "src_mac", "02:aA:00:fF:09:90")
		g.maybe(c, "dst_mac", pick(g, "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"))
	case "lb4":
		c = g.lbConfig()
	case "nat44":
		c = g.natConfig()
	case "dnsguard":
		names := []string{}
		for range g.IntN(5) {
			names = append(names, g.name()+pick(g, "", "."))
		}
		c = map[string]any{}
		g.maybe(c, "block", names)
		g.maybe(c, "action", pick(g, "drop", "count"))
		g.maybe(c, "ports", []uint16{53, g.port()}[:g.IntN(3)])
		g.maybe(c, "malformed", pick(g, "drop", "pass"))
	}
	text, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	if g.oneIn(8) {
		text = g.spoilText(text)
	}
	return text
}

func (g gen) synLimits() map[string]any {
	limits := map[string]any{}
	for _, name := range []string{"per_source", "per_destination"} {
		l := map[string]any{"rate": pick(g, 1, 7, 1000)}
		g.maybe(l, "burst", pick(g, 1, 3, 4_000_000_000))
		g.maybe(l, "count", pick(g, "half_open", "new"))
		g.maybe(l, "prefix4", g.IntN(33))
		g.maybe(l, "prefix6", g.IntN(129))
		g.maybe(l, "max", pick(g, 1, 5, 16384))
		g.maybe(l, "seed", g.Int64())
		g.maybe(limits, name, l)
	}
	return limits
}

func (g gen) maybe(c map[string]any, name string, value any) {
	if g.oneIn(2) {
		c[name] = value
	}
}

// spoilText breaks a text in one place, or breaks nothing after all.
func (g gen) spoilText(text []byte) []byte {
	i := g.IntN(len(text))
	switch g.IntN(5) {
	case 0:
		return text[:i]
	case 1:
		text[i] = byte(g.IntN(256))
	case 2:
		return append(text[:i:i], text[i+1:]...)
	case 3:
		insert := pick(g, " ", "\n", ",", "0", "-", "\"", "\\u0041", "\\", "null", "1.5", "1e3", "{", "]", "\xff", "ü")
		return []byte(string(text[:i]) + insert + string(text[i:]))
	case 4:
		text[i] ^= 0x20
	}
	return text
}

func (g gen) aclConfig() map[string]any {
	rules := []map[string]any{}
	most6 := pick(g, 64, 128) // bits of the longest IPv6 prefix
	for range pick(g, g.IntN(6), g.IntN(30), g.IntN(200)) {
		rules = append(rules, g.aclRule(most6))
	}
	c := map[string]any{}
	g.maybe(c, "default", pick(g, "permit", "deny"))
	c["rules"] = rules
	return c
}

func (g gen) aclRule(most6 int) map[string]any {
	r := map[string]any{"action": pick(g, "permit", "deny")}
	ip6 := g.oneIn(3)
	bits := 32
	if ip6 {
		bits = most6
	}
	g.maybe(r, "src", fmt.Sprintf("%v/%d", g.addr(ip6), g.IntN(bits+1)))
	g.maybe(r, "dst", fmt.Sprintf("%v/%d", g.addr(ip6), g.IntN(bits+1)))
	if bits != 64 {
		g.maybe(r, "dst", g.addr(ip6).String())
	}
	switch g.IntN(4) {
	case 0:
		g.maybe(r, "src_ports", g.ports())
		g.maybe(r, "dst_ports", g.ports())
		g.maybe(r, "proto", pick[any](g, "tcp", "udp", "sctp", "any", 6, "17"))
	case 1:
		flags := []string{"fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"}
		tcp := map[string]any{}
		g.maybe(tcp, "set", []string{pick(g, flags...), pick(g, flags...)}[:g.IntN(3)])
		g.maybe(tcp, "clear", []string{pick(g, flags...)})
		r["tcp_flags"] = tcp
	case 2:
		r["proto"] = pick[any](g, "icmp", "icmpv6", g.proto(), "any", "0", "255")
	}
	return r
}

// ports draws a number, a range or an array of both.
func (g gen) ports() any {
	a, b := g.port(), g.port()
	one := pick[any](g, a, fmt.Sprint(a), fmt.Sprintf("%d-%d", min(a, b), max(a, b)))
	if g.oneIn(3) {
		return []any{one, b, fmt.Sprintf("%d-%d", min(a, b), max(a, b))}
	}
	return one
}
