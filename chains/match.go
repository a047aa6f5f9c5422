package chains

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"sfc/dataplane/classify"
	"sfc/dataplane/packet"
)

// protocols are the transport protocols that have a name in chain files.
var protocols = []struct {
	name   string
	number int
}{
	{"icmp", 1}, {"igmp", 2}, {"tcp", 6}, {"udp", 17}, {"gre", 47}, {"esp", 50}, {"ah", 51},
	{"icmpv6", 58}, {"ospf", 89}, {"vrrp", 112}, {"sctp", 132}, {"udplite", 136},
}

func (d *decoder) match(v *value, path string) Match {
	m := MatchAll()
	d.object(v, path, []field{
		{"port", optional, func(v *value, path string) { m.Port = d.port(v, path) }},
		{"vlan", optional, func(v *value, path string) { m.VLAN = d.integer(v, path, 0, 4094) }},
		{"family", optional, func(v *value, path string) {
			m.Family = [...]uint8{4, 6}[d.oneOf(v, path, []string{"ipv4", "ipv6"})]
		}},
		{"src", optional, func(v *value, path string) { m.Src = d.prefix(v, path, &m.Family) }},
		{"dst", optional, func(v *value, path string) { m.Dst = d.prefix(v, path, &m.Family) }},
		{"protocol", optional, func(v *value, path string) { m.Protocol = d.protocol(v, path) }},
		{"srcPorts", optional, func(v *value, path string) { m.SrcPorts = d.portRange(v, path, m.Protocol) }},
		{"dstPorts", optional, func(v *value, path string) { m.DstPorts = d.portRange(v, path, m.Protocol) }},
	})
	return m
}

// prefix reads an address or a prefix. Its family joins what the match already
// says: a match of two families would never hold.
func (d *decoder) prefix(v *value, path string, family *uint8) netip.Prefix {
	s, ok := d.text(v, path)
	if !ok {
		return netip.Prefix{}
	}
	p, err := netip.ParsePrefix(s)
	if addr, aerr := netip.ParseAddr(s); aerr == nil && addr.Zone() == "" {
		p, err = netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	switch {
	case err != nil:
		d.report(v, path, fmt.Sprintf("%s is not an address or prefix", quote(s)), "write it as 192.0.2.0/24, 2001:db8::/32 or 192.0.2.1")
		return netip.Prefix{}
	case p.Addr().Is4In6():
		d.report(v, path, fmt.Sprintf("%s is an IPv4 address in IPv6 clothes", quote(s)), fmt.Sprintf("write the IPv4 address %v", p.Addr().Unmap()))
		return netip.Prefix{}
	case p != p.Masked():
		d.report(v, path, fmt.Sprintf("%s has bits set behind the prefix", quote(s)), fmt.Sprintf("write %v or %v", p.Masked(), netip.PrefixFrom(p.Addr(), p.Addr().BitLen())))
		return netip.Prefix{}
	}
	own := uint8(6)
	if p.Addr().Is4() {
		own = 4
	}
	if *family != 0 && *family != own {
		d.report(v, path, fmt.Sprintf("%s is IPv%d in a match of IPv%d", quote(s), own, *family), "no packet has both: use two matches")
	}
	*family = own
	return p
}

func (d *decoder) protocol(v *value, path string) int {
	if v.kind == kindInt {
		return d.integer(v, path, 0, 255)
	}
	s, ok := d.text(v, path)
	if !ok {
		return classify.AnyProto
	}
	names := make([]string, len(protocols))
	for i, p := range protocols {
		if s == p.name {
			return p.number
		}
		names[i] = p.name
	}
	d.report(v, path, fmt.Sprintf("%s is unknown", quote(s)), suggest(s, names)+" or an IANA number from 0 to 255")
	return classify.AnyProto
}

// portRange reads one port or a range such as 1024-65535.
func (d *decoder) portRange(v *value, path string, protocol int) (r classify.PortRange) {
	if v.kind != kindInt && !d.want(v, path, kindString) {
		return r
	}
	first, last, isRange := strings.Cut(v.text, "-")
	if !isRange {
		last = first
	}
	lo, err1 := strconv.ParseUint(first, 10, 16)
	hi, err2 := strconv.ParseUint(last, 10, 16)
	switch {
	case err1 != nil || err2 != nil:
		d.report(v, path, fmt.Sprintf("%s is not a port or range of ports", quote(v.text)), "write it as 53 or 1024-65535")
	case lo > hi:
		d.report(v, path, fmt.Sprintf("range %s is empty", v.text), fmt.Sprintf("write %d-%d", hi, lo))
	case lo == 0 && hi == 0:
		d.report(v, path, "port 0 alone cannot be matched", "write a range, such as 0-1023")
	case protocol != classify.AnyProto && !packet.HasPorts(uint8(protocol)):
		d.report(v, path, fmt.Sprintf("protocol %d has no ports", protocol), "use tcp, udp or sctp, or leave the protocol out to mean them all")
	default:
		r = classify.PortRange{Lo: uint16(lo), Hi: uint16(hi)}
	}
	return r
}
