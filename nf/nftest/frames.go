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
		h = append(h, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, s.TCPFlags, 0xff, 0xff, 0, 0, 0, 0)
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
