package bpf

import (
	"encoding/binary"
	"slices"

	"sfc/dataplane/packet"
)

// layer puts a header in front of what it carries, with the right length.
type layer func(payload []byte) []byte

// build makes a frame of layers, outermost first.
func build(layers ...layer) []byte {
	var b []byte
	for _, l := range slices.Backward(layers) {
		b = l(b)
	}
	return b
}

// be returns values of 2 bytes each in network byte order.
func be(values ...uint16) (b []byte) {
	for _, v := range values {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	return b
}

// raw is bytes as they are.
func raw(b ...byte) layer { return func(p []byte) []byte { return append(b, p...) } }

// data is n bytes of payload.
func data(n int) layer { return raw(make([]byte, n)...) }

func eth(typ uint16) layer {
	return raw(slices.Concat([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2}, be(typ))...)
}

// tag is the VLAN id with priority 5 and the EtherType that follows.
func tag(id, typ uint16) layer { return raw(be(5<<13|id, typ)...) }

// ip4 is an IPv4 header from src (last byte of its network differs by host)
// with words of no-operation options.
func ip4(src [4]byte, proto uint8, optionWords int) layer {
	return func(p []byte) []byte {
		h := make([]byte, 20+4*optionWords)
		h[0] = 0x40 | byte(len(h)/4)
		binary.BigEndian.PutUint16(h[2:], uint16(len(h)+len(p)))
		h[8], h[9] = 64, proto
		copy(h[12:], src[:])
		copy(h[16:], []byte{198, 51, 100, 7})
		for i := 20; i < len(h); i++ {
			h[i] = 1
		}
		return append(h, p...)
	}
}

// Sources inside and outside the fixtures' rules.
var (
	in4  = [4]byte{192, 0, 2, 1}
	out4 = [4]byte{203, 0, 113, 9}
	in6  = [16]byte{0x20, 1, 0xd, 0xb8, 15: 1}
	out6 = [16]byte{0xfd, 15: 9}
)

func ip6(src [16]byte, next uint8) layer {
	return func(p []byte) []byte {
		h := make([]byte, 40)
		h[0] = 0x60
		binary.BigEndian.PutUint16(h[4:], uint16(len(p)))
		h[6], h[7] = next, 64
		copy(h[8:], src[:])
		copy(h[24:], []byte{0x20, 1, 0xd, 0xb8, 7: 1, 15: 2})
		return append(h, p...)
	}
}

// ext is an IPv6 extension header of 8*words bytes.
func ext(next uint8, words int) layer {
	return raw(slices.Concat([]byte{next, byte(words - 1)}, make([]byte, 8*words-2))...)
}

// frag6 is an IPv6 fragment header; the offset is in units of 8 bytes.
func frag6(next uint8, offset uint16, more uint16) layer {
	return raw(slices.Concat([]byte{next, 0}, be(offset<<3|more, 0, 7))...)
}

// chain is n destination-options headers, the last of which carries proto.
func chain(n int, proto uint8) layer {
	return func(p []byte) []byte {
		for i := range n {
			next := packet.ProtoDestOpts
			if i == 0 {
				next = proto
			}
			p = ext(next, 1)(p)
		}
		return p
	}
}

func udp(sport, dport uint16) layer {
	return func(p []byte) []byte { return append(be(sport, dport, uint16(8+len(p)), 0), p...) }
}

// tcp is a TCP header with words of options.
func tcp(sport, dport uint16, optionWords int) layer {
	return func(p []byte) []byte {
		h := append(be(sport, dport), make([]byte, 16+4*optionWords)...)
		h[12] = byte(len(h)/4) << 4
		return append(h, p...)
	}
}

func sctp(sport, dport uint16) layer { return raw(append(be(sport, dport), make([]byte, 8)...)...) }

func icmp(typ uint8) layer { return query(typ, 0) }

// query is an ICMP message with an identifier.
func query(typ uint8, id uint16) layer { return raw(slices.Concat([]byte{typ, 0, 0, 0}, be(id, 1))...) }

// with returns a copy of frame with bytes changed from offset at on.
func with(frame []byte, at int, b ...byte) []byte {
	frame = slices.Clone(frame)
	copy(frame[at:], b)
	return frame
}

// cut returns the first n bytes of frame.
func cut(frame []byte, n int) []byte { return slices.Clone(frame[:n]) }
