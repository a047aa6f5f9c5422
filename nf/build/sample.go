package build

import (
	"encoding/binary"

	"sfc/dataplane/packet"
)

// sample returns a capture (pcap, microseconds) of seven packets, three of them
// to port 23 over TCP or UDP. They are a millisecond apart.
func sample() []byte {
	frames := [][]byte{
		sampleFrame(4, packet.ProtoTCP, 23),
		sampleFrame(4, packet.ProtoTCP, 443),
		sampleFrame(4, packet.ProtoUDP, 53),
		sampleFrame(6, packet.ProtoTCP, 23),
		sampleFrame(6, packet.ProtoUDP, 23),
		sampleFrame(4, packet.ProtoICMP, 23),
		sampleFrame(6, packet.ProtoTCP, 80),
	}
	const start = 1_700_000_000 // seconds since 1970
	le := binary.LittleEndian
	out := le.AppendUint32(nil, 0xa1b2c3d4)
	out = le.AppendUint16(out, 2) // version 2.4
	out = le.AppendUint16(out, 4)
	out = append(out, make([]byte, 8)...)
	out = le.AppendUint32(out, 65535) // snap length
	out = le.AppendUint32(out, 1)     // Ethernet
	for i, frame := range frames {
		out = le.AppendUint32(out, start)
		out = le.AppendUint32(out, uint32(i)*1000)
		out = le.AppendUint32(out, uint32(len(frame)))
		out = le.AppendUint32(out, uint32(len(frame)))
		out = append(out, frame...)
	}
	return out
}

// sampleFrame returns a frame between addresses for documentation, with right
// checksums. In an ICMP echo the port's place is the checksum's.
func sampleFrame(version int, proto uint8, port uint16) []byte {
	l4 := map[uint8][]byte{
		packet.ProtoTCP:  append(make([]byte, 12), 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0),
		packet.ProtoUDP:  append(make([]byte, 4), 0, 12, 0, 0, 'd', 'a', 't', 'a'),
		packet.ProtoICMP: append([]byte{8, 0, 0, 0, 0, 1, 0, 1}, "data"...),
	}[proto]
	if packet.HasPorts(proto) {
		binary.BigEndian.PutUint16(l4, 40000)
		binary.BigEndian.PutUint16(l4[2:], port)
	}
	frame := []byte("\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x08\x00")
	if version == 4 {
		frame = append(frame, 0x45, 0, 0, byte(packet.IPv4Len+len(l4)), 0, 1, 0x40, 0, 64, proto, 0, 0)
		frame = append(frame, 192, 0, 2, 1, 198, 51, 100, 1)
	} else {
		binary.BigEndian.PutUint16(frame[12:], packet.EtherIPv6)
		frame = append(frame, 0x60, 0, 0, 0, 0, byte(len(l4)), proto, 64)
		frame = append(frame, "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"...)
		frame = append(frame, "\x20\x01\x0d\xb8\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02"...)
	}
	frame = append(frame, l4...)
	packet.SetChecksums(frame)
	return frame
}
