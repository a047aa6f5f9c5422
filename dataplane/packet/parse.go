package packet

// ParseResult says what kind of frame [Parse] saw.
type ParseResult uint8

const (
	// ParsedIP: IPv4 or IPv6, every header in order; Info is complete.
	ParsedIP ParseResult = iota
	// NotIP: ARP, another EtherType, or more than two VLAN tags.
	NotIP
	// NeighbourDiscovery: ICMPv6 types 133 to 137. No chain may claim them, or
	// the link would go silent.
	NeighbourDiscovery
	// Malformed: a header is cut short or its length fields contradict the
	// frame.
	Malformed
	// ExtHeaders: more IPv6 extension headers than the parser follows.
	ExtHeaders
)

// String returns the result's stable name.
func (r ParseResult) String() string {
	switch r {
	case ParsedIP:
		return "ip"
	case NotIP:
		return "not_ip"
	case NeighbourDiscovery:
		return "nd"
	case Malformed:
		return "malformed"
	case ExtHeaders:
		return "ext_headers"
	}
	return "unknown"
}

// Info is what [Parse] found in a frame. It is complete only with ParsedIP;
// otherwise it holds what was read before the parser stopped.
type Info struct {
	// Src and Dst are the addresses in network byte order; IPv4 fills the
	// first 4 bytes.
	Src, Dst [16]byte
	// L3 and L4 are byte offsets from the frame's first byte. L4 is 0 when
	// there is no transport header to see.
	L3, L4 uint16
	// Flags are the Flag bits.
	Flags uint16
	// VLAN is the outermost VLAN id when FlagVLAN is set.
	VLAN uint16
	// SrcPort and DstPort are set when Ports reports true.
	SrcPort, DstPort uint16
	// ID is the identifier of an ICMP query, see [ICMPQuery]; 0 for all
	// other packets.
	ID uint16
	// Proto is the transport protocol, after IPv6 extension headers.
	Proto uint8

	// rerouted says that an IPv6 routing header has segments left: the
	// destination is not the one that transport checksums cover.
	rerouted bool
}

// Ports reports whether the packet shows transport ports.
func (in *Info) Ports() bool { return in.L4 != 0 && HasPorts(in.Proto) }

// Parse reads the headers of an Ethernet frame: up to two VLAN tags, IPv4 with
// options or IPv6 with up to eight extension headers, then TCP, UDP, SCTP, ICMP
// or ICMPv6. Bytes behind the IP packet (link padding) are ignored.
//
// It is the steering program's parser (bpf/steer_parse.h) in Go and must agree
// with it on every frame.
func Parse(frame []byte) (Info, ParseResult) {
	var in Info
	if len(frame) < EtherLen {
		return in, Malformed
	}
	off := EtherLen
	typ := be16(frame[off-2:])
	for tags := 0; typ == EtherVLAN || typ == EtherQinQ; tags++ {
		if tags == maxVLANTags {
			return in, NotIP
		}
		if len(frame)-off < VLANLen {
			return in, Malformed
		}
		if tags == 0 {
			in.Flags |= FlagVLAN
			in.VLAN = be16(frame[off:]) & 0x0fff
		}
		typ = be16(frame[off+2:])
		off += VLANLen
	}
	switch typ {
	case EtherIPv4:
		return in, in.parseIPv4(frame, off)
	case EtherIPv6:
		return in, in.parseIPv6(frame, off)
	}
	return in, NotIP
}

// parseIPv4 reads the IPv4 header at off (RFC 791) and what it carries.
func (in *Info) parseIPv4(frame []byte, off int) ParseResult {
	in.Flags |= FlagIPv4
	in.L3 = uint16(off)
	avail := len(frame) - off
	if avail < IPv4Len {
		return Malformed
	}
	h := frame[off:]
	header, total := int(h[0]&0x0f)*4, int(be16(h[2:]))
	if h[0]>>4 != 4 || header < IPv4Len || total < header || total > avail {
		return Malformed
	}
	copy(in.Src[:4], h[12:16])
	copy(in.Dst[:4], h[16:20])
	in.Proto = h[9]
	frag := be16(h[6:])
	if frag&0x3fff != 0 { // more fragments, or an offset
		in.Flags |= FlagFragment
	}
	if frag&0x1fff != 0 {
		in.Flags |= FlagLaterFrag
		return ParsedIP
	}
	return in.parseL4(frame[:off+total], off+header)
}

// parseIPv6 reads the IPv6 header at off (RFC 8200) and what it carries.
func (in *Info) parseIPv6(frame []byte, off int) ParseResult {
	in.Flags |= FlagIPv6
	in.L3 = uint16(off)
	avail := len(frame) - off
	if avail < IPv6Len {
		return Malformed
	}
	h := frame[off:]
	total := IPv6Len + int(be16(h[4:]))
	if h[0]>>4 != 6 || total > avail {
		return Malformed
	}
	copy(in.Src[:], h[8:24])
	copy(in.Dst[:], h[24:40])
	in.Proto = h[6]
	return in.parseExtHeaders(frame[:off+total], off+IPv6Len)
}

// parseExtHeaders steps over IPv6 extension headers from off on; frame ends
// with the packet.
func (in *Info) parseExtHeaders(frame []byte, off int) ParseResult {
	for n := 0; isExtHeader(in.Proto); n++ {
		if n == maxExtHeaders {
			return ExtHeaders
		}
		if len(frame)-off < FragmentLen { // no extension header is shorter
			return Malformed
		}
		h := frame[off:]
		size := (int(h[1]) + 1) * 8
		switch in.Proto {
		case ProtoAH: // RFC 4302: in words of 4 bytes, minus 2
			size = (int(h[1]) + 2) * 4
		case ProtoRouting:
			in.rerouted = in.rerouted || h[3] != 0
		case ProtoFragment:
			size = FragmentLen
			frag := be16(h[2:])
			if frag&0xfff9 != 0 { // more fragments, or an offset
				in.Flags |= FlagFragment
			}
			if frag&0xfff8 != 0 {
				in.Flags |= FlagLaterFrag
				in.Proto = h[0]
				return ParsedIP
			}
		}
		if len(frame)-off < size {
			return Malformed
		}
		in.Proto = h[0]
		off += size
	}
	return in.parseL4(frame, off)
}

// parseL4 reads the transport header at off; frame ends with the packet.
func (in *Info) parseL4(frame []byte, off int) ParseResult {
	h := frame[off:]
	whole := in.Flags&FlagFragment == 0
	switch {
	case in.Proto == ProtoTCP:
		if len(h) < TCPLen {
			return Malformed
		}
		if n := int(h[12]>>4) * 4; n < TCPLen || n > len(h) {
			return Malformed
		}
	case in.Proto == ProtoUDP:
		if len(h) < UDPLen {
			return Malformed
		}
		// The length covers the whole datagram, so of a fragment it may be
		// more than is here.
		if n := int(be16(h[4:])); n < UDPLen || whole && n > len(h) {
			return Malformed
		}
	case in.Proto == ProtoSCTP:
		if len(h) < SCTPLen {
			return Malformed
		}
	case in.Proto == ProtoICMP && in.Flags&FlagIPv4 != 0:
		if len(h) < ICMPLen {
			return Malformed
		}
		if isICMPError(h[0]) {
			in.Flags |= FlagICMPError
		}
		if ICMPQuery(ProtoICMP, h[0]) != 0 {
			in.ID = be16(h[4:])
		}
	case in.Proto == ProtoICMPv6 && in.Flags&FlagIPv6 != 0:
		if len(h) < ICMPLen {
			return Malformed
		}
		if h[0] >= icmp6RouterSolicit && h[0] <= icmp6Redirect {
			in.L4 = uint16(off)
			return NeighbourDiscovery
		}
		if isICMPv6Error(h[0]) {
			in.Flags |= FlagICMPError
		}
		if ICMPQuery(ProtoICMPv6, h[0]) != 0 {
			in.ID = be16(h[4:])
		}
	default:
		return ParsedIP
	}
	in.L4 = uint16(off)
	if HasPorts(in.Proto) {
		in.SrcPort, in.DstPort = be16(h), be16(h[2:])
	}
	return ParsedIP
}
