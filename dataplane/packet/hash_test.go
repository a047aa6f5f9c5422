package packet

import (
	"encoding/binary"
	"testing"

	"pgregory.net/rapid"
)

// sip13 hashes a message of any length, as FlowHash does with its fixed ones.
func sip13(key [2]uint64, msg []byte) uint64 {
	h, n := newSipHash(key), len(msg)
	for len(msg) >= 8 {
		h.word(binary.LittleEndian.Uint64(msg))
		msg = msg[8:]
	}
	var last [8]byte
	copy(last[:], msg)
	return h.sum64(n, binary.LittleEndian.Uint64(last[:]))
}

// The vectors are CPython's: hash(bytes(range(n))) with PYTHONHASHSEED=0 is
// SipHash-1-3 with a key of zeros.
func TestSipHash13(t *testing.T) {
	for n, want := range map[int]uint64{
		1:  0x68a914128e01e473,
		5:  0x5abe2169dff36275,
		8:  0xead411e67ebe2eea,
		13: 0xa0cf3211850f8e0d,
		16: 0x8972188433a5c5b7,
		37: 0x422a9751192ff266,
		64: 0x75e05fd5bbc870c6,
	} {
		msg := make([]byte, n)
		for i := range msg {
			msg[i] = byte(i)
		}
		if got := sip13([2]uint64{}, msg); got != want {
			t.Errorf("message of %d bytes: %#x, want %#x", n, got, want)
		}
	}
}

// flow draws a parsed packet of any kind.
func flow(t *rapid.T) Info {
	in := Info{
		Proto:   rapid.Uint8().Draw(t, "proto"),
		SrcPort: rapid.Uint16().Draw(t, "sport"),
		DstPort: rapid.Uint16().Draw(t, "dport"),
		Flags:   FlagIPv4,
	}
	n := 4
	if rapid.Bool().Draw(t, "v6") {
		in.Flags, n = FlagIPv6, 16
	}
	// Few distinct bytes, so that addresses are often equal in part.
	addr := rapid.SliceOfN(rapid.ByteRange(0, 1), n, n)
	copy(in.Src[:], addr.Draw(t, "src"))
	copy(in.Dst[:], addr.Draw(t, "dst"))
	return in
}

func TestFlowHashIgnoresDirection(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := flow(t)
		key := [2]uint64{rapid.Uint64().Draw(t, "k0"), rapid.Uint64().Draw(t, "k1")}
		back := in
		back.Src, back.Dst = in.Dst, in.Src
		back.SrcPort, back.DstPort = in.DstPort, in.SrcPort
		if a, b := FlowHash(key, &in), FlowHash(key, &back); a != b {
			t.Fatalf("%#x one way, %#x the other", a, b)
		}
	})
}

func TestFlowHashMessage(t *testing.T) {
	key := [2]uint64{0x0706050403020100, 0x0f0e0d0c0b0a0908}
	in := Info{Flags: FlagIPv4, Proto: ProtoUDP, SrcPort: 0x1234, DstPort: 53,
		Src: [16]byte{10, 0, 0, 1}, Dst: [16]byte{10, 0, 0, 2}}
	msg := []byte{10, 0, 0, 1, 10, 0, 0, 2, 0x34, 0x12, 53, 0, ProtoUDP}
	if got, want := FlowHash(key, &in), uint32(sip13(key, msg)); got != want {
		t.Errorf("IPv4: %#x, want %#x", got, want)
	}
	in = Info{Flags: FlagIPv6, Proto: ProtoTCP, SrcPort: 0x1234, DstPort: 80,
		Src: [16]byte{0: 0xfd, 15: 2}, Dst: [16]byte{0: 0xfd, 15: 1}}
	msg = append(append(in.Dst[:], in.Src[:]...), 80, 0, 0x34, 0x12, ProtoTCP)
	if got, want := FlowHash(key, &in), uint32(sip13(key, msg)); got != want {
		t.Errorf("IPv6: %#x, want %#x", got, want)
	}
}

func TestFlowHashOfFragments(t *testing.T) {
	first := Info{Flags: FlagIPv6 | FlagFragment, Proto: ProtoUDP, L4: 62, SrcPort: 1, DstPort: 2,
		Src: [16]byte{1}, Dst: [16]byte{2}}
	later := Info{Flags: FlagIPv6 | FlagFragment | FlagLaterFrag, Proto: ProtoDestOpts,
		Src: first.Src, Dst: first.Dst}
	var key [2]uint64
	if a, b := FlowHash(key, &first), FlowHash(key, &later); a != b {
		t.Errorf("first fragment hashes to %#x, a later one to %#x", a, b)
	}
	quote := Info{Flags: FlagIPv6 | FlagICMPError, Proto: ProtoICMPv6, L4: 54, Src: first.Src, Dst: first.Dst}
	if a, b := FlowHash64(key, &first), FlowHash64(key, &quote); a != b {
		t.Errorf("a fragment hashes to %#x, an ICMP error to %#x", a, b)
	}
	other := later
	other.Dst[0] = 3
	if FlowHash(key, &other) == FlowHash(key, &later) {
		t.Error("fragments of another pair of addresses hash alike")
	}
}

// The identifier of a query counts as both ports, and the hash of 32 bits is
// the low half.
func TestFlowHashOfQueries(t *testing.T) {
	ping := Info{Flags: FlagIPv4, Proto: ProtoICMP, L4: 34, ID: 0x1234, Src: [16]byte{10, 0, 0, 1}, Dst: [16]byte{10, 0, 0, 2}}
	key := [2]uint64{1, 2}
	msg := []byte{10, 0, 0, 1, 10, 0, 0, 2, 0x34, 0x12, 0x34, 0x12, ProtoICMP}
	if got, want := FlowHash64(key, &ping), sip13(key, msg); got != want {
		t.Errorf("%#x, want %#x", got, want)
	}
	if got, want := FlowHash(key, &ping), uint32(sip13(key, msg)); got != want {
		t.Errorf("%#x, want %#x", got, want)
	}
	for _, c := range []struct{ proto, typ, want uint8 }{
		{ProtoICMP, 8, 8}, {ProtoICMP, 0, 8}, {ProtoICMP, 13, 13}, {ProtoICMP, 14, 13}, {ProtoICMP, 15, 15}, {ProtoICMP, 16, 15},
		{ProtoICMP, 17, 17}, {ProtoICMP, 18, 17}, {ProtoICMP, 3, 0}, {ProtoICMP, 9, 0}, {ProtoICMP, 12, 0}, {ProtoICMP, 19, 0}, {ProtoICMP, 128, 0},
		{ProtoICMPv6, 128, 128}, {ProtoICMPv6, 129, 128}, {ProtoICMPv6, 8, 0}, {ProtoICMPv6, 127, 0}, {ProtoICMPv6, 130, 0},
	} {
		if got := ICMPQuery(c.proto, c.typ); got != c.want {
			t.Errorf("protocol %d, type %d: request %d, want %d", c.proto, c.typ, got, c.want)
		}
	}
}

func BenchmarkFlowHash(b *testing.B) {
	in := Info{Flags: FlagIPv4, Proto: ProtoUDP, SrcPort: 1, DstPort: 2, Src: [16]byte{1}, Dst: [16]byte{2}}
	var sum uint32
	for b.Loop() {
		sum += FlowHash([2]uint64{1, 2}, &in)
	}
	_ = sum
}
