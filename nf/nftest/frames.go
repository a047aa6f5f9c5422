package nftest

import (
	"encoding/binary"
	"net/netip"

	"sfc/dataplane/packet"
)

// Spec describes a frame to build. The zero value of a field gives zero on the
// wire, except where it says otherwise.
type Spec struct {
	// Src and Dst must be of the same family.
	Src, Dst     netip.Addr
	Proto        uint8
	SPort, DPort uint16
	// TCPFlags are the flags of a TCP header.
	TCPFlags uint8
	// Seq, Ack and Window are of a TCP header; all zero gives 1, 1 and 65535.
	Seq, Ack uint32
	Window   uint16
	// TCPOptions are padded to a multiple of 4 bytes; at most 40.
	TCPOptions []byte
	// TTL is the time to live or hop limit; 0 gives 64, use ZeroTTL for 0.
	TTL     uint8
	ZeroTTL bool
	// Payload follows the transport header.
	Payload []byte
}

// Frame builds an Ethernet frame with right lengths and checksums.
func (s Spec) Frame() []byte {
	frame := make([]byte, packet.EtherLen)
	copy(frame, "\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02")
	l4 := s.transport()
	if s.TTL == 0 && !s.ZeroTTL {
		s.TTL = 64
	}
	if s.Src.Is4() {
		binary.BigEndian.PutUint16(frame[12:], packet.EtherIPv4)
		frame = append(frame, 0x45, 0)
		frame = binary.BigEndian.AppendUint16(frame, uint16(packet.IPv4Len+len(l4)))
		frame = append(frame, 0, 1, 0, 0, s.TTL, s.Proto, 0, 0)
	} else {
		binary.BigEndian.PutUint16(frame[12:], packet.EtherIPv6)
		frame = append(frame, 0x60, 0, 0, 0)
		frame = binary.BigEndian.AppendUint16(frame, uint16(len(l4)))
		frame = append(frame, s.Proto, s.TTL)
	}
	frame = append(frame, s.Src.AsSlice()...)
	frame = append(frame, s.Dst.AsSlice()...)
	frame = append(frame, l4...)
	packet.SetChecksums(frame)
	return frame
}

// transport returns the transport header and the payload.
func (s Spec) transport() []byte {
	var h []byte
	if packet.HasPorts(s.Proto) {
		h = binary.BigEndian.AppendUint16(h, s.SPort)
		h = binary.BigEndian.AppendUint16(h, s.DPort)
	}
	switch s.Proto {
	case packet.ProtoTCP:
		if s.Seq == 0 && s.Ack == 0 && s.Window == 0 {
			s.Seq, s.Ack, s.Window = 1, 1, 0xffff
		}
		words := (len(s.TCPOptions) + 3) / 4
		h = binary.BigEndian.AppendUint32(h, s.Seq)
		h = binary.BigEndian.AppendUint32(h, s.Ack)
		h = append(h, byte(5+words)<<4, s.TCPFlags, byte(s.Window>>8), byte(s.Window), 0, 0, 0, 0)
		h = append(h, s.TCPOptions...)
		h = append(h, make([]byte, 4*words-len(s.TCPOptions))...)
	case packet.ProtoUDP:
		h = binary.BigEndian.AppendUint16(h, uint16(packet.UDPLen+len(s.Payload)))
		h = append(h, 0, 0)
	case packet.ProtoSCTP:
		h = append(h, 0, 0, 0, 1, 0, 0, 0, 0)
	case packet.ProtoICMP, packet.ProtoICMPv6:
		h = append(h, 8, 0, 0, 0, 0, 1, 0, 1)
		if s.Proto == packet.ProtoICMPv6 {
			h[0] = 128
		}
	}
	return append(h, s.Payload...)
}

// Packet builds the frame and parses it.
func (s Spec) Packet(rxNs uint64) Packet { return NewPacket(s.Frame(), rxNs) }
