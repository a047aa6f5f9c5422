package bench

import (
	"encoding/binary"
	"math/rand/v2"

	"sfc/dataplane/packet"
)

// tuple is what a packet shows: addresses in host order.
type tuple struct {
	src, dst     uint32
	sport, dport uint16
}

func (t tuple) back() tuple { return tuple{t.dst, t.src, t.dport, t.sport} }

// distinctTuples returns n tuples from the inside to the outside, no two alike.
func distinctTuples(rng *rand.Rand, n int) []tuple {
	have := make(map[tuple]bool, n)
	list := make([]tuple, 0, n)
	for len(list) < n {
		t := randomTuple(rng)
		if !have[t] {
			have[t] = true
			list = append(list, t)
		}
	}
	return list
}

func randomTuple(rng *rand.Rand) tuple {
	return tuple{
		src: 10<<24 | rng.Uint32N(1<<24), dst: 20<<24 | rng.Uint32N(1<<24),
		sport: uint16(1024 + rng.IntN(64512)), dport: uint16(1 + rng.IntN(1023)),
	}
}

// headBytes is how much of a frame a port writes: all headers.
const headBytes = 64

// Offsets in frames: Ethernet, IPv4 without options, TCP or UDP.
const (
	ipAt     = packet.EtherLen
	addrsAt  = ipAt + 12
	ipSumAt  = ipAt + 10
	l4At     = ipAt + packet.IPv4Len
	numberAt = 56 // of a packet without payload: its number among its fellows, in the padding
	udpSumAt = l4At + 6
	tcpSumAt = l4At + 16
)

// kind is what packets have in common: a whole frame without addresses and
// ports, of which the head is kept. Payload is zero.
type kind struct {
	head  [headBytes]byte
	proto uint8
	len   uint16 // of the frame, without FCS
}

// TCP flags, and what the ends of every connection begin counting with.
const (
	tcpSYN, tcpPSH, tcpACK = 2, 8, 16

	seqInside, seqOutside = 1000, 5_000_000
)

// newKind makes packets of so many bytes on the wire, FCS included. seq and ack
// are TCP's, with its flags.
func newKind(proto uint8, wire int, flags uint8, seq, ack uint32) kind {
	k := kind{proto: proto, len: uint16(wire - 4)}
	h := k.head[:]
	copy(h, []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0})
	ip, l4 := h[ipAt:], h[l4At:]
	ip[0], ip[8], ip[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(ip[2:], k.len-ipAt)
	if proto == packet.ProtoUDP {
		binary.BigEndian.PutUint16(l4[4:], k.len-l4At)
		return k
	}
	binary.BigEndian.PutUint32(l4[4:], seq)
	binary.BigEndian.PutUint32(l4[8:], ack)
	l4[12], l4[13] = packet.TCPLen/4<<4, flags
	binary.BigEndian.PutUint16(l4[14:], 65535)
	return k
}

// bare takes a frame's payload away. What was its place is padding.
func (k kind) bare() kind {
	ip, size := k.head[ipAt:], packet.IPv4Len+packet.TCPLen
	if k.proto == packet.ProtoUDP {
		size = packet.IPv4Len + packet.UDPLen
		binary.BigEndian.PutUint16(k.head[l4At+4:], packet.UDPLen)
	}
	binary.BigEndian.PutUint16(ip[2:], uint16(size))
	return k
}

// frame writes the headers of a packet into buf, which has a frame's length and
// zeros behind them, checksums right.
func (k *kind) frame(t tuple, buf []byte) []byte {
	f := buf[:k.len]
	copy(f, k.head[:])
	ip, l4 := f[ipAt:], f[l4At:]
	binary.BigEndian.PutUint32(ip[12:], t.src)
	binary.BigEndian.PutUint32(ip[16:], t.dst)
	binary.BigEndian.PutUint16(l4, t.sport)
	binary.BigEndian.PutUint16(l4[2:], t.dport)
	binary.BigEndian.PutUint16(ip[10:], packet.Checksum(ip[:packet.IPv4Len], 0))
	segment := l4[:binary.BigEndian.Uint16(ip[2:])-packet.IPv4Len]
	sum := f[udpSumAt : udpSumAt+2]
	if k.proto == packet.ProtoTCP {
		sum = f[tcpSumAt : tcpSumAt+2]
	}
	// The pseudo-header (RFC 9293, section 3.1).
	pseudo := uint64(t.src>>16) + uint64(t.src&0xffff) + uint64(t.dst>>16) + uint64(t.dst&0xffff) + uint64(k.proto) + uint64(len(segment))
	v := packet.Checksum(segment, pseudo)
	if v == 0 && k.proto == packet.ProtoUDP {
		v = 0xffff
	}
	binary.BigEndian.PutUint16(sum, v)
	return f
}

// tupleOf reads what a frame shows that has left.
func tupleOf(f []byte) tuple {
	return tuple{
		binary.BigEndian.Uint32(f[addrsAt:]), binary.BigEndian.Uint32(f[addrsAt+4:]),
		binary.BigEndian.Uint16(f[l4At:]), binary.BigEndian.Uint16(f[l4At+2:]),
	}
}

// traffic is packets of flows in a state where nothing changes any more.
type traffic struct {
	proto uint8
	// sizes are the lengths on the wire that packets have in turn.
	sizes []int
}

// imix is the simple mix of sizes: 7 of 64 bytes, 4 of 594, 1 of 1,518.
var imix = []int{64, 594, 64, 64, 594, 64, 64, 1518, 594, 64, 594, 64}

// kinds are those of a direction, by size in turn.
func (t traffic) kinds(back bool) []kind {
	seq, ack := uint32(seqInside+1), uint32(seqOutside+1)
	if back {
		seq, ack = ack, seq
	}
	list := make([]kind, len(t.sizes))
	for i, size := range t.sizes {
		list[i] = newKind(t.proto, size, tcpPSH|tcpACK, seq, ack)
	}
	return list
}

// opening are the packets that begin a flow, in order, and whether each of them
// is an answer. With UDP it is a packet each way.
func (t traffic) opening() (kinds []kind, back []bool) {
	if t.proto == packet.ProtoUDP {
		k := newKind(t.proto, 64, 0, 0, 0).bare()
		return []kind{k, k}, []bool{false, true}
	}
	return []kind{
		newKind(t.proto, 64, tcpSYN, seqInside, 0).bare(),
		newKind(t.proto, 64, tcpSYN|tcpACK, seqOutside, seqInside+1).bare(),
		newKind(t.proto, 64, tcpACK, seqInside+1, seqOutside+1).bare(),
	}, []bool{false, true, false}
}
