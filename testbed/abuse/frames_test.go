package abuse

import (
	"encoding/binary"

	"sfc/dataplane/packet"
)

// end is an IPv4 address and a port.
type end struct {
	addr uint32
	port uint16
}

// TCP header flags.
const (
	fin = 1 << iota
	syn
	rst
	psh
	ack
)

var be = binary.BigEndian

// ipv4 makes a frame with an IPv4 packet, in buf, and returns it with the part
// behind the IP header.
func ipv4(buf []byte, proto uint8, src, dst uint32, payload int) (frame, l4 []byte) {
	frame = buf[:packet.EtherLen+packet.IPv4Len+payload]
	clear(frame)
	frame[0], frame[5], frame[6], frame[11] = 2, 2, 2, 1
	frame[12] = 8
	ip := frame[packet.EtherLen:]
	ip[0], ip[8], ip[9] = 0x45, 64, proto
	be.PutUint16(ip[2:], uint16(len(ip)))
	be.PutUint32(ip[12:], src)
	be.PutUint32(ip[16:], dst)
	return frame, ip[packet.IPv4Len:]
}

// tcpFrame makes a TCP segment with data bytes of payload.
func tcpFrame(buf []byte, src, dst end, flags uint8, seq, acks uint32, data int) []byte {
	frame, h := ipv4(buf, packet.ProtoTCP, src.addr, dst.addr, packet.TCPLen+data)
	be.PutUint16(h, src.port)
	be.PutUint16(h[2:], dst.port)
	be.PutUint32(h[4:], seq)
	be.PutUint32(h[8:], acks)
	h[12], h[13] = 5<<4, flags
	be.PutUint16(h[14:], 60000)
	packet.SetChecksums(frame)
	return frame
}

// udpFrame makes a UDP datagram with data bytes of payload.
func udpFrame(buf []byte, src, dst end, data int) []byte {
	frame, h := ipv4(buf, packet.ProtoUDP, src.addr, dst.addr, packet.UDPLen+data)
	be.PutUint16(h, src.port)
	be.PutUint16(h[2:], dst.port)
	be.PutUint16(h[4:], uint16(packet.UDPLen+data))
	packet.SetChecksums(frame)
	return frame
}

// fragment makes a fragment of a packet: size bytes from offset at on, which is
// a multiple of 8; of the first one l4 is the transport header.
func fragment(buf []byte, proto uint8, src, dst uint32, id uint16, at int, more bool, size int, l4 []byte) []byte {
	frame, p := ipv4(buf, proto, src, dst, size)
	copy(p, l4)
	ip := frame[packet.EtherLen:]
	be.PutUint16(ip[4:], id)
	word := uint16(at / 8)
	if more {
		word |= 0x2000
	}
	be.PutUint16(ip[6:], word)
	be.PutUint16(ip[10:], packet.Checksum(ip[:packet.IPv4Len], 0))
	return frame
}

// icmpError makes an ICMP error of a type and code that quotes bytes.
func icmpError(buf []byte, src, dst uint32, typ, code uint8, quote []byte) []byte {
	frame, h := ipv4(buf, packet.ProtoICMP, src, dst, packet.ICMPLen+len(quote))
	h[0], h[1] = typ, code
	copy(h[packet.ICMPLen:], quote)
	packet.SetChecksums(frame)
	return frame
}

// ends returns what a frame with TCP or UDP shows.
func ends(frame []byte) (src, dst end) {
	ip := frame[packet.EtherLen:]
	h := ip[int(ip[0]&15)*4:]
	return end{be.Uint32(ip[12:]), be.Uint16(h)}, end{be.Uint32(ip[16:]), be.Uint16(h[2:])}
}
