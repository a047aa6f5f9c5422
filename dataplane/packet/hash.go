package packet

import (
	"encoding/binary"
	"math/bits"
)

// FlowHash returns the low half of [FlowHash64]: what metadata, descriptors and
// the flow table's index carry.
func FlowHash(key [2]uint64, in *Info) uint32 { return uint32(FlowHash64(key, in)) }

// FlowHash64 returns the keyed hash of a packet's flow: SipHash-1-3 (Aumasson
// and Bernstein) of the 5-tuple, the same for both directions. Packets without
// ports hash by addresses and protocol; of ICMP queries the identifier is both
// ports.
//
// Fragments and ICMP errors hash by their addresses alone. All fragments of a
// packet hash alike: only the first has ports, and with IPv6 only the first is
// bound to name the transport protocol. What flow they belong to, their
// headers do not say.
//
// The message is lower address, higher address, port of the lower, port of the
// higher, protocol: 13 bytes for IPv4, 37 for IPv6. "Lower" compares addresses,
// then ports, as little-endian words, the way both Go and the steering program
// (bpf/steer_hash.h) load them.
func FlowHash64(key [2]uint64, in *Info) uint64 {
	sport, dport, proto := in.SrcPort|in.ID, in.DstPort|in.ID, in.Proto
	if in.Flags&FlagOdd != 0 {
		sport, dport, proto = 0, 0, 0
	}
	h := newSipHash(key)
	if in.Flags&FlagIPv4 != 0 {
		a := binary.LittleEndian.Uint32(in.Src[:])
		b := binary.LittleEndian.Uint32(in.Dst[:])
		if a > b || a == b && sport > dport {
			a, b, sport, dport = b, a, dport, sport
		}
		h.word(uint64(b)<<32 | uint64(a))
		return h.sum64(13, tail(sport, dport, proto))
	}
	a0, a1 := binary.LittleEndian.Uint64(in.Src[:]), binary.LittleEndian.Uint64(in.Src[8:])
	b0, b1 := binary.LittleEndian.Uint64(in.Dst[:]), binary.LittleEndian.Uint64(in.Dst[8:])
	if a0 > b0 || a0 == b0 && (a1 > b1 || a1 == b1 && sport > dport) {
		a0, a1, b0, b1, sport, dport = b0, b1, a0, a1, dport, sport
	}
	h.word(a0)
	h.word(a1)
	h.word(b0)
	h.word(b1)
	return h.sum64(37, tail(sport, dport, proto))
}

// tail is the last 5 bytes of the message as a little-endian word.
func tail(p, q uint16, proto uint8) uint64 {
	return uint64(p) | uint64(q)<<16 | uint64(proto)<<32
}

// sipHash is the state of SipHash-1-3: one round per word, three at the end.
type sipHash struct{ v0, v1, v2, v3 uint64 }

func newSipHash(key [2]uint64) sipHash {
	return sipHash{
		key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d,
		key[0] ^ 0x6c7967656e657261, key[1] ^ 0x7465646279746573,
	}
}

func (h *sipHash) round() {
	h.v0 += h.v1
	h.v1 = bits.RotateLeft64(h.v1, 13) ^ h.v0
	h.v0 = bits.RotateLeft64(h.v0, 32)
	h.v2 += h.v3
	h.v3 = bits.RotateLeft64(h.v3, 16) ^ h.v2
	h.v0 += h.v3
	h.v3 = bits.RotateLeft64(h.v3, 21) ^ h.v0
	h.v2 += h.v1
	h.v1 = bits.RotateLeft64(h.v1, 17) ^ h.v2
	h.v2 = bits.RotateLeft64(h.v2, 32)
}

// word takes in 8 bytes of the message.
func (h *sipHash) word(m uint64) {
	h.v3 ^= m
	h.round()
	h.v0 ^= m
}

// sum64 takes in the last length%8 bytes and returns the hash of a message of
// length bytes.
func (h *sipHash) sum64(length int, last uint64) uint64 {
	h.word(uint64(length)<<56 | last)
	h.v2 ^= 0xff
	h.round()
	h.round()
	h.round()
	return h.v0 ^ h.v1 ^ h.v2 ^ h.v3
}
