package native

import (
	"encoding/binary"
	"net/netip"

	"sfc/dataplane/packet"
)

// way returns what a packet of the session shows when it comes, and what when it
// leaves.
func (s *natSession) way(reverse bool) (from, to natEnds) {
	if reverse {
		return s.after.turned(), s.before.turned()
	}
	return s.before, s.after
}

func addrBytes(e natEnds) []byte {
	src, dst := e.src.Addr().As4(), e.dst.Addr().As4()
	return append(src[:], dst[:]...)
}

func portBytes(proto uint8, e natEnds) []byte {
	b := binary.BigEndian.AppendUint16(nil, e.src.Port())
	if proto == packet.ProtoICMP { // the identifier
		return b
	}
	return binary.BigEndian.AppendUint16(b, e.dst.Port())
}

// portsAt is where ports or the identifier lie in a transport header.
func portsAt(proto uint8) int {
	if proto == packet.ProtoICMP {
		return 4
	}
	return 0
}

// checkAt is where the checksum of a transport header lies, -1: none that the
// translation changes.
func checkAt(proto uint8) int {
	switch proto {
	case packet.ProtoTCP:
		return 16
	case packet.ProtoUDP, protoDCCP, protoUDPLite:
		return 6
	case packet.ProtoICMP:
		return 2
	}
	return -1
}

// natPacket is a packet to be rewritten: the one in the frame, or a quoted one.
type natPacket struct {
	addrs, ports    []byte // ports: nil when they stay or are not here
	ip, l4          *sum   // l4: nil when there is none here
	from, to        natEnds
	proto           uint8
	pseudo, portsIn bool // what l4 covers
}

// right says whether the packet shows what it is expected to.
func (n *natPacket) right() bool {
	return string(n.addrs) == string(addrBytes(n.from)) && (n.ports == nil || string(n.ports) == string(portBytes(n.proto, n.from)))
}

// rewrite writes the new ends. outer is a checksum that covers them all.
func (n *natPacket) rewrite(outer *sum) {
	covered := []*sum{n.ip, outer}
	if n.pseudo {
		covered = append(covered, n.l4)
	}
	put(n.addrs, addrBytes(n.to), covered...)
	if n.ports != nil {
		put(n.ports, portBytes(n.proto, n.to), n.l4, outer)
	}
}

// translate rewrites a packet of the session.
func (s *natSession) translate(p *view) uint16 {
	ip := p.at(p.L3, packet.IPv4Len)
	if ip == nil {
		return natCannot
	}
	n := natPacket{addrs: ip[12:20], ip: &sum{at: ip[10:12]}, proto: s.proto, pseudo: s.proto != packet.ProtoICMP}
	n.from, n.to = s.way(p.Flags&packet.FlagReverse != 0)
	if !n.right() || p.Proto != s.proto {
		return natWrong
	}
	if p.Flags&packet.FlagLaterFrag == 0 {
		at := checkAt(s.proto)
		least := map[uint8]int{packet.ProtoTCP: packet.TCPLen}[s.proto]
		h := p.natTransport(ip, max(least, 8))
		if at >= 0 && h == nil {
			return natCannot
		}
		if at >= 0 {
			n.l4 = &sum{at: h[at : at+2], udp: s.proto == packet.ProtoUDP}
		}
		if portsChange(s.proto) {
			n.ports = h[portsAt(s.proto):][:len(portBytes(s.proto, n.from))]
		}
	}
	if !n.right() {
		return natWrong
	}
	n.rewrite(nil)
	return 0
}

// translateError rewrites an ICMP error about a packet of the session and the
// packet it quotes.
func (s *natSession) translateError(p *view) uint16 {
	ip, icmp := p.at(p.L3, packet.IPv4Len), p.at(p.L4, packet.ICMPLen)
	if ip == nil || icmp == nil || p.Proto != packet.ProtoICMP || int(p.L4) < int(p.L3)+packet.IPv4Len {
		return natCannot
	}
	end := min(int(p.L3)+int(binary.BigEndian.Uint16(ip[2:])), int(p.Off)+len(p.frame))
	start := int(p.L4) + packet.ICMPLen
	if start+packet.IPv4Len > end {
		return natCannot
	}
	quote := p.frame[start-int(p.Off) : end-int(p.Off)]
	header := int(quote[0]&15) * 4
	need := 0
	if portsChange(s.proto) {
		need = portsAt(s.proto) + len(portBytes(s.proto, s.before))
	}
	if quote[0]>>4 != 4 || header < packet.IPv4Len || header+need > len(quote) {
		return natCannot
	}
	l4 := quote[header:]
	whole := &sum{at: icmp[2:4]}
	n := natPacket{addrs: quote[12:20], ip: &sum{at: quote[10:12], in: whole}, proto: s.proto, pseudo: s.proto != packet.ProtoICMP}
	n.to, n.from = s.way(p.Flags&packet.FlagReverse == 0) // as if it came back from where it went
	if need > 0 {
		n.ports = l4[portsAt(s.proto):need]
	}
	if at := checkAt(s.proto); at >= 0 && at+2 <= len(l4) && (at == 16 || len(l4) >= 8 || s.proto == packet.ProtoICMP) {
		n.l4 = &sum{at: l4[at : at+2], udp: s.proto == packet.ProtoUDP, in: whole}
	}
	if !n.right() || quote[9] != s.proto || string(ip[16:20]) != string(quote[12:16]) {
		return natWrong
	}
	source := netip.AddrFrom4([4]byte(ip[12:]))
	if n.from.dst.Addr() != n.to.dst.Addr() { // who is there is not to be seen from the other side
		source = n.to.dst.Addr()
	}
	n.rewrite(whole)
	put(ip[12:20], addrBytes(natEnds{netip.AddrPortFrom(source, 0), n.to.src}), &sum{at: ip[10:12]})
	return 0
}
