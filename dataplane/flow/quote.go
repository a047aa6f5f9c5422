package flow

import (
	"sfc/dataplane/packet"
)

// readQuote fills q from the packet that an ICMP error quotes; l4 is the
// ICMP message. The query's direction is against the quoted packet's: the
// error travels to the one who sent it.
//
// The quote is what a router had at hand, cut anywhere behind the first 8
// bytes of its transport header (RFC 792), or what an attacker made up: its
// length fields say nothing about what is here.
func readQuote(secret [2]uint64, l4 []byte, icmp uint8, q *Query) {
	q.none()
	if len(l4) < packet.ICMPLen {
		return
	}
	h := l4[packet.ICMPLen:]
	var proto uint8
	var rest []byte
	ok := false
	switch {
	case icmp == packet.ProtoICMP && len(h) >= packet.IPv4Len && h[0]>>4 == 4:
		size := int(h[0]&0x0f) * 4
		if size >= packet.IPv4Len && size <= len(h) && be16(h[6:])&0x1fff == 0 {
			proto, rest, ok = h[9], h[size:], true
		}
	case icmp == packet.ProtoICMPv6 && len(h) >= packet.IPv6Len && h[0]>>4 == 6:
		proto, rest, ok = skipExtHeaders(h)
	}
	if !ok || packet.HasPorts(proto) && len(rest) < 4 || proto == icmp && len(rest) < 6 {
		return
	}
	if isICMP(proto) && proto != icmp {
		rest = nil // of the other IP version: steering sees a protocol without ports
	}
	sport, dport, query := tell(proto, rest)
	q.kind = QuotedPacket
	q.setTuple(h, icmp == packet.ProtoICMP, proto, sport, dport, query)
	q.bits ^= querySwap
	q.hash = q.key.hash(secret)
}

// maxExtHeaders is as many IPv6 extension headers as the steering program
// follows.
const maxExtHeaders = 8

// skipExtHeaders returns the transport protocol of the IPv6 packet h and what
// is there of its transport header; ok is false for later fragments and
// headers that are cut short.
func skipExtHeaders(h []byte) (proto uint8, rest []byte, ok bool) {
	proto, rest = h[6], h[packet.IPv6Len:]
	for range maxExtHeaders + 1 {
		size, ext := extHeaderSize(proto, rest)
		if !ext {
			return proto, rest, true
		}
		if size > len(rest) || proto == packet.ProtoFragment && be16(rest[2:])&0xfff8 != 0 {
			return 0, nil, false
		}
		proto, rest = rest[0], rest[size:]
	}
	return 0, nil, false
}

// extHeaderSize returns the size in bytes of the extension header that h
// starts with, at least 8; ext is false when proto is none.
func extHeaderSize(proto uint8, h []byte) (size int, ext bool) {
	switch proto {
	case packet.ProtoFragment:
		return packet.FragmentLen, true
	case packet.ProtoHopByHop, packet.ProtoRouting, packet.ProtoAH, packet.ProtoDestOpts,
		packet.ProtoMobility, packet.ProtoHIP, packet.ProtoShim6:
	default:
		return 0, false
	}
	if len(h) < 2 {
		return packet.FragmentLen, true // more than is here
	}
	if proto == packet.ProtoAH { // RFC 4302: in words of 4 bytes, minus 2
		return max((int(h[1])+2)*4, packet.FragmentLen), true
	}
	return (int(h[1]) + 1) * 8, true
}
