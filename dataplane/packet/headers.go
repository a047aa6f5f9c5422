package packet

import "encoding/binary"

// EtherTypes that the parser tells apart.
const (
	EtherIPv4 uint16 = 0x0800
	EtherARP  uint16 = 0x0806
	EtherVLAN uint16 = 0x8100 // IEEE 802.1Q customer tag
	EtherIPv6 uint16 = 0x86dd
	EtherQinQ uint16 = 0x88a8 // IEEE 802.1ad service tag
)

// IP protocol numbers (IANA), IPv6 extension headers among them.
const (
	ProtoHopByHop uint8 = 0
	ProtoICMP     uint8 = 1
	ProtoTCP      uint8 = 6
	ProtoUDP      uint8 = 17
	ProtoRouting  uint8 = 43
	ProtoFragment uint8 = 44
	ProtoESP      uint8 = 50
	ProtoAH       uint8 = 51
	ProtoICMPv6   uint8 = 58
	ProtoNoNext   uint8 = 59
	ProtoDestOpts uint8 = 60
	ProtoSCTP     uint8 = 132
	ProtoMobility uint8 = 135
	ProtoHIP      uint8 = 139
	ProtoShim6    uint8 = 140
)

// Header lengths in bytes, without options.
const (
	EtherLen      = 14
	VLANLen       = 4
	IPv4Len       = 20
	IPv6Len       = 40
	TCPLen        = 20
	UDPLen        = 8
	SCTPLen       = 12
	ICMPLen       = 8
	FragmentLen   = 8
	maxVLANTags   = 2 // also in bpf/steer_consts.h
	maxExtHeaders = 8 // also in bpf/steer_consts.h
)

// ICMPv6 types of neighbour discovery (RFC 4861), first and last.
const (
	icmp6RouterSolicit = 133
	icmp6Redirect      = 137
)

// HasPorts reports whether a transport protocol starts with a source and a
// destination port.
func HasPorts(proto uint8) bool {
	return proto == ProtoTCP || proto == ProtoUDP || proto == ProtoSCTP
}

// isExtHeader reports whether proto is an IPv6 extension header that the
// parser steps over (RFC 8200, RFC 6275, RFC 7401, RFC 5533). ESP is none: what
// follows it is encrypted.
func isExtHeader(proto uint8) bool {
	switch proto {
	case ProtoHopByHop, ProtoRouting, ProtoFragment, ProtoAH, ProtoDestOpts,
		ProtoMobility, ProtoHIP, ProtoShim6:
		return true
	}
	return false
}

// isICMPError reports whether an ICMP message quotes the packet that caused it
// (RFC 792, RFC 1122 section 3.2.2).
func isICMPError(typ uint8) bool {
	switch typ {
	case 3, 4, 5, 11, 12: // unreachable, quench, redirect, time, parameter
		return true
	}
	return false
}

// isICMPv6Error is isICMPError for ICMPv6 (RFC 4443 section 2.1).
func isICMPv6Error(typ uint8) bool { return typ >= 1 && typ <= 4 }

// ICMPQuery returns the type of the request that an ICMP or ICMPv6 query or its
// reply belongs to (RFC 792, RFC 950, RFC 4443): 8 (echo), 13 (timestamp), 15
// (information), 17 (address mask) or 128 (ICMPv6 echo). These messages have an
// identifier in bytes 4 and 5. 0 for all other messages.
func ICMPQuery(proto, typ uint8) (request uint8) {
	if proto == ProtoICMPv6 {
		if typ == 128 || typ == 129 {
			return 128
		}
		return 0
	}
	switch typ {
	case 8, 0:
		return 8
	case 13, 14:
		return 13
	case 15, 16:
		return 15
	case 17, 18:
		return 17
	}
	return 0
}

// be16 reads a 16-bit field in network byte order.
func be16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }
