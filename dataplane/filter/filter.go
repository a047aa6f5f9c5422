// Package filter chooses packets by expressions in the language of tcpdump
// (pcap-filter(7)), as much of it as people type:
//
//	host 10.0.0.1 and tcp port 80
//	src net 10.0.0.0/8 and not (icmp or port 53)
//	udp dst portrange 5000-5999 or vlan 7
//
// There are ip, ip6, arp, tcp, udp, sctp, icmp, icmp6, proto N, host, net, port,
// portrange with src and dst, ether host, vlan [N], less N, greater N, and, or,
// not and parentheses; "port 80 or 443" repeats what was said before the number.
// As there, and with or bind equally and from left to right.
//
// One thing is not as in tcpdump: VLAN tags are looked through. There an IP
// filter sees no tagged frame, unless vlan is said before it.
package filter

import (
	"encoding/binary"
	"net/netip"

	"sfc/dataplane/packet"
)

// Filter is a compiled expression. It is safe for concurrent use.
type Filter struct{ root *node }

// op is what a node does.
type op uint8

const (
	opAll op = iota // everything
	opAnd
	opOr
	opNot
	opEther   // a has EtherType lo
	opFamily  // IP of version lo
	opProto   // IP with transport protocol lo
	opNet     // an address in prefix
	opPort    // a port from lo to hi
	opMAC     // an Ethernet address
	opVLAN    // VLAN lo, or any if hi is 1
	opLess    // length at most lo
	opGreater // length at least lo
)

// side says which end of a packet is meant.
type side uint8

const (
	either side = iota
	source
	destination
	both
)

// node is an expression.
type node struct {
	op     op
	side   side
	a, b   *node
	lo, hi uint16
	prefix netip.Prefix
	mac    [6]byte
}

// subject is what expressions are about.
type subject struct {
	src, dst     netip.Addr // invalid: not IP
	sport, dport uint16
	ports        bool
	proto        uint8
	ether        uint16 // EtherType behind all tags
	tagged       bool
	vlan         uint16
	macs         []byte // destination and source; nil: of no frame
	length       int
}

// Frame says whether a frame is chosen. It allocates nothing.
func (f *Filter) Frame(frame []byte) bool {
	if len(frame) < packet.EtherLen {
		return f.root.op == opAll
	}
	in, result := packet.Parse(frame)
	s := subject{macs: frame[:12], length: len(frame), ether: etherType(frame)}
	s.tagged, s.vlan = in.Flags&packet.FlagVLAN != 0, in.VLAN
	if result == packet.ParsedIP {
		s.proto, s.ports = in.Proto, in.Ports()
		s.sport, s.dport = in.SrcPort, in.DstPort
		if in.Flags&packet.FlagIPv4 != 0 {
			s.src, s.dst = netip.AddrFrom4([4]byte(in.Src[:4])), netip.AddrFrom4([4]byte(in.Dst[:4]))
		} else {
			s.src, s.dst = netip.AddrFrom16(in.Src), netip.AddrFrom16(in.Dst)
		}
	}
	return f.root.matches(&s)
}

// Tuple says whether packets with these ends would be chosen, as far as ends
// tell: what is asked of anything else does not hold.
func (f *Filter) Tuple(src, dst netip.AddrPort, proto uint8) bool {
	s := subject{
		src: src.Addr(), dst: dst.Addr(), sport: src.Port(), dport: dst.Port(), proto: proto, ports: packet.HasPorts(proto),
		ether: packet.EtherIPv6,
	}
	if s.src.Is4() {
		s.ether = packet.EtherIPv4
	}
	return f.root.matches(&s)
}

// etherType is that behind all tags.
func etherType(frame []byte) uint16 {
	for at := 12; at+2 <= len(frame); at += packet.VLANLen {
		t := binary.BigEndian.Uint16(frame[at:])
		if t != packet.EtherVLAN && t != packet.EtherQinQ {
			return t
		}
	}
	return 0
}

func (n *node) matches(s *subject) bool {
	switch n.op {
	case opAll:
		return true
	case opAnd:
		return n.a.matches(s) && n.b.matches(s)
	case opOr:
		return n.a.matches(s) || n.b.matches(s)
	case opNot:
		return !n.a.matches(s)
	case opEther:
		return s.ether == n.lo
	case opFamily:
		return s.src.IsValid() && s.src.Is4() == (n.lo == 4)
	case opProto:
		return s.src.IsValid() && uint16(s.proto) == n.lo
	case opNet:
		return s.src.IsValid() && n.side.holds(n.prefix.Contains(s.src), n.prefix.Contains(s.dst))
	case opPort:
		return s.ports && n.side.holds(n.lo <= s.sport && s.sport <= n.hi, n.lo <= s.dport && s.dport <= n.hi)
	case opMAC:
		return s.macs != nil && n.side.holds(n.mac == [6]byte(s.macs[6:12]), n.mac == [6]byte(s.macs[:6]))
	case opVLAN:
		return s.tagged && (n.hi == 1 || s.vlan == n.lo)
	case opLess:
		return s.length <= int(n.lo)
	default:
		return s.length >= int(n.lo)
	}
}

func (d side) holds(src, dst bool) bool {
	switch d {
	case source:
		return src
	case destination:
		return dst
	case both:
		return src && dst
	}
	return src || dst
}
