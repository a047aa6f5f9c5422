package flow

import (
	"encoding/binary"
	"math/bits"
	"net/netip"

	"sfc/dataplane/packet"
)

// Tuple is what a packet shows of its flow, in the packet's direction.
type Tuple struct {
	// Src and Dst are addresses of the same family.
	Src, Dst netip.Addr
	// SrcPort and DstPort are the ports of TCP, UDP and SCTP. Of an ICMP
	// query both are its identifier.
	SrcPort, DstPort uint16
	// Proto is the transport protocol (IANA number).
	Proto uint8
	// Query is the type of the request of an ICMP query, such as 8 (echo) or
	// 128 (ICMPv6 echo); 0 for all other packets.
	Query uint8
}

// key is a normalised tuple: the same for both directions. "Lower" is as in
// packet.FlowHash.
//
//	word 0-3  addresses: IPv4 lower | higher<<32, 0, 0, 0; IPv6 lower, higher
//	word 4    port of the lower | port of the higher<<16 | protocol<<32 |
//	          version (4 or 6)<<40 | ICMP query type<<48
//
// Addresses are little-endian words of their bytes, ports in host order.
type key [5]uint64

const (
	wordProto = 32
	wordIP    = 40
	wordQuery = 48
)

func (k *key) equal(o *key) bool {
	return (k[0]^o[0])|(k[1]^o[1])|(k[2]^o[2])|(k[3]^o[3])|(k[4]^o[4]) == 0
}

func (k *key) proto() uint8 { return uint8(k[4] >> wordProto) }
func (k *key) query() uint8 { return uint8(k[4] >> wordQuery) }
func (k *key) ipv4() bool   { return uint8(k[4]>>wordIP) == 4 }

// setV4 makes k the key of a tuple of IPv4. Its ends are address<<16 | port;
// last is word 4 without ports. It returns 1 when the source is the higher end,
// else 0. Without branches: which end is higher cannot be predicted.
func (k *key) setV4(src, dst, last uint64) uint8 {
	lo, hi := min(src, dst), max(src, dst)
	k[0], k[1], k[2], k[3] = lo>>16|hi>>16<<32, 0, 0, 0
	k[4] = lo&0xffff | hi&0xffff<<16 | last
	_, above := bits.Sub64(dst, src, 0)
	return uint8(above)
}

// endV4 is one end of a tuple for setV4.
func endV4(addr uint32, port uint16) uint64 { return uint64(addr)<<16 | uint64(port) }

// setV6 is setV4 for IPv6; s and d are the words of each address.
func (k *key) setV6(s0, s1, d0, d1 uint64, sport, dport uint16, last uint64) uint8 {
	_, above := bits.Sub64(uint64(dport), uint64(sport), 0)
	_, above = bits.Sub64(d1, s1, above)
	_, above = bits.Sub64(d0, s0, above)
	mask := -above
	x0, x1, xp := (s0^d0)&mask, (s1^d1)&mask, uint64(sport^dport)&mask
	k[0], k[1], k[2], k[3] = s0^x0, s1^x1, d0^x0, d1^x1
	k[4] = uint64(sport) ^ xp | (uint64(dport)^xp)<<16 | last
	return uint8(above)
}

// lastWord is word 4 of a key without its ports.
func lastWord(ip, proto, query uint8) uint64 {
	return uint64(proto)<<wordProto | uint64(ip)<<wordIP | uint64(query)<<wordQuery
}

// hash64 is packet.FlowHash64 of the key's tuple: what steering computes for
// the flow's whole packets.
func (k *key) hash64(secret [2]uint64) uint64 {
	in := packet.Info{Proto: k.proto(), Flags: packet.FlagIPv6, SrcPort: uint16(k[4]), DstPort: uint16(k[4] >> 16)}
	if k.ipv4() {
		in.Flags = packet.FlagIPv4
		binary.LittleEndian.PutUint32(in.Src[:], uint32(k[0]))
		binary.LittleEndian.PutUint32(in.Dst[:], uint32(k[0]>>32))
	} else {
		binary.LittleEndian.PutUint64(in.Src[:], k[0])
		binary.LittleEndian.PutUint64(in.Src[8:], k[1])
		binary.LittleEndian.PutUint64(in.Dst[:], k[2])
		binary.LittleEndian.PutUint64(in.Dst[8:], k[3])
	}
	return packet.FlowHash64(secret, &in)
}

// hash is the low half of hash64, which places the key in the index.
func (k *key) hash(secret [2]uint64) uint32 { return uint32(k.hash64(secret)) }

// tuple is the inverse of normalising.
func (k *key) tuple(swap uint8) Tuple {
	t := Tuple{SrcPort: uint16(k[4]), DstPort: uint16(k[4] >> 16), Proto: k.proto(), Query: k.query()}
	if k.ipv4() {
		var a, b [4]byte
		binary.LittleEndian.PutUint32(a[:], uint32(k[0]))
		binary.LittleEndian.PutUint32(b[:], uint32(k[0]>>32))
		t.Src, t.Dst = netip.AddrFrom4(a), netip.AddrFrom4(b)
	} else {
		var a, b [16]byte
		binary.LittleEndian.PutUint64(a[:], k[0])
		binary.LittleEndian.PutUint64(a[8:], k[1])
		binary.LittleEndian.PutUint64(b[:], k[2])
		binary.LittleEndian.PutUint64(b[8:], k[3])
		t.Src, t.Dst = netip.AddrFrom16(a), netip.AddrFrom16(b)
	}
	if swap != 0 {
		t.Src, t.Dst, t.SrcPort, t.DstPort = t.Dst, t.Src, t.DstPort, t.SrcPort
	}
	return t
}

// normalise returns the tuple's key; ok is false when the addresses are not of
// one family.
func (t *Tuple) normalise() (k key, swap uint8, ok bool) {
	switch {
	case t.Src.Is4() && t.Dst.Is4():
		a, b := t.Src.As4(), t.Dst.As4()
		swap = k.setV4(endV4(le32(a[:]), t.SrcPort), endV4(le32(b[:]), t.DstPort), lastWord(4, t.Proto, t.Query))
		return k, swap, true
	case t.Src.Is6() && t.Dst.Is6():
		a, b := t.Src.As16(), t.Dst.As16()
		swap = k.setV6(le64(a[:]), le64(a[8:]), le64(b[:]), le64(b[8:]), t.SrcPort, t.DstPort, lastWord(6, t.Proto, t.Query))
		return k, swap, true
	}
	return k, 0, false
}

func be16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }
func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }
