package replay

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
)

// translate rewrites a frame that shows the tuple from, in its own direction,
// so that it shows the tuple to: addresses, ports and identifiers, and every
// checksum that covers them by what changed (RFC 1624), so that a wrong one
// stays wrong. An ICMP error travels against the packet it quotes, which is
// rewritten too. Fields that are not there (later fragments have no ports) stay
// unwritten, SCTP's ports as well, which its CRC covers.
func translate(frame []byte, from, to flow.Tuple) {
	in, result := packet.Parse(frame)
	if result != packet.ParsedIP || from.Src.Is4() != (in.Flags&packet.FlagIPv4 != 0) {
		return
	}
	var l4 []byte
	if in.L4 != 0 && in.Flags&packet.FlagLaterFrag == 0 {
		l4 = frame[in.L4:]
	}
	ip := frame[in.L3:]
	if in.Flags&packet.FlagICMPError != 0 {
		translateError(ip, l4, &in, from, to)
		return
	}
	translatePacket(ip, l4, in.Proto, to)
}

// translatePacket writes a tuple into an IP packet of which l4, the beginning
// of its transport header, may be cut anywhere.
func translatePacket(ip, l4 []byte, proto uint8, to flow.Tuple) {
	sum, pseudo := transportSum(l4, proto)
	cover := []checksum{headerSum(ip)}
	if pseudo {
		cover = append(cover, sum)
	}
	src, dst := addressFields(ip)
	put(src, to.Src.AsSlice(), cover...)
	put(dst, to.Dst.AsSlice(), cover...)
	switch {
	case (proto == packet.ProtoTCP || proto == packet.ProtoUDP) && len(l4) >= 4:
		put(l4[:2], binary.BigEndian.AppendUint16(nil, to.SrcPort), sum)
		put(l4[2:4], binary.BigEndian.AppendUint16(nil, to.DstPort), sum)
	case to.Query != 0 && len(l4) >= 6:
		put(l4[4:6], binary.BigEndian.AppendUint16(nil, to.SrcPort), sum)
	}
}

// translateError writes tuples into an ICMP error and the packet it quotes.
func translateError(ip, l4 []byte, in *packet.Info, from, to flow.Tuple) {
	if len(l4) < packet.ICMPLen {
		return
	}
	sum := checksum{at: l4[2:4]}
	cover := []checksum{headerSum(ip)}
	if in.Proto == packet.ProtoICMPv6 {
		cover = append(cover, sum)
	}
	src, dst := addressFields(ip)
	if own, _ := netip.AddrFromSlice(src); own == from.Src { // else a router on the way
		put(src, to.Src.AsSlice(), cover...)
	}
	put(dst, to.Dst.AsSlice(), cover...)
	before := bytes.Clone(l4)
	translateQuote(l4[packet.ICMPLen:], reversed(to))
	for i := packet.ICMPLen; i < len(l4); i += 2 {
		sum.changed(wordAt(before, i), wordAt(l4, i))
	}
}

// translateQuote writes a tuple into the packet that an ICMP error quotes. One
// with IPv6 extension headers keeps its ports.
func translateQuote(q []byte, to flow.Tuple) {
	switch {
	case len(q) >= packet.IPv4Len && q[0]>>4 == 4 && to.Src.Is4():
		if size := int(q[0]&0x0f) * 4; size >= packet.IPv4Len && size <= len(q) {
			translatePacket(q, q[size:], q[9], to)
		}
	case len(q) >= packet.IPv6Len && q[0]>>4 == 6 && to.Src.Is6():
		translatePacket(q, q[packet.IPv6Len:], q[6], to)
	}
}

// addressFields returns where an IP header has its addresses.
func addressFields(ip []byte) (src, dst []byte) {
	if ip[0]>>4 == 4 {
		return ip[12:16], ip[16:20]
	}
	return ip[8:24], ip[24:40]
}

// checksum is where a checksum lies; nowhere in the zero value.
type checksum struct {
	at  []byte
	udp bool
}

// headerSum is the IPv4 header's.
func headerSum(ip []byte) checksum {
	if ip[0]>>4 == 4 {
		return checksum{at: ip[10:12]}
	}
	return checksum{}
}

// transportSum is the transport header's, and whether it covers the addresses.
func transportSum(l4 []byte, proto uint8) (c checksum, pseudo bool) {
	at := 0
	switch proto {
	case packet.ProtoTCP:
		at = 16
	case packet.ProtoUDP:
		at = 6
	case packet.ProtoICMP, packet.ProtoICMPv6:
		at = 2
	}
	if at == 0 || len(l4) < at+2 {
		return checksum{}, false
	}
	return checksum{l4[at : at+2], proto == packet.ProtoUDP}, proto != packet.ProtoICMP
}

// changed corrects the checksum for a word that it covers.
func (c checksum) changed(old, new uint16) {
	if c.at == nil || old == new {
		return
	}
	update := packet.UpdateChecksum
	if c.udp {
		update = packet.UpdateUDPChecksum
	}
	binary.BigEndian.PutUint16(c.at, update(binary.BigEndian.Uint16(c.at), old, new))
}

// put writes a field of whole words and corrects the checksums that cover it.
func put(field, value []byte, cover ...checksum) {
	for i := 0; i < len(field); i += 2 {
		old, new := wordAt(field, i), wordAt(value, i)
		binary.BigEndian.PutUint16(field[i:], new)
		for _, c := range cover {
			c.changed(old, new)
		}
	}
}

// wordAt reads a word of which the last byte may be missing.
func wordAt(b []byte, i int) uint16 {
	if i+1 == len(b) {
		return uint16(b[i]) << 8
	}
	return binary.BigEndian.Uint16(b[i:])
}
