package flow

import (
	"encoding/binary"
	"testing"

	"sfc/dataplane/packet"
)

// corpus are frames of every kind with their metadata.
func corpus(tb testing.TB) (frames [][]byte, metas []packet.Meta) {
	tb.Helper()
	for _, v6 := range []bool{false, true} {
		icmp, echo, unreach := packet.ProtoICMP, uint8(8), uint8(3)
		if v6 {
			icmp, echo, unreach = packet.ProtoICMPv6, 128, 1
		}
		for _, s := range []*sent{
			tcp(1, 2, 3, 4, tcpSYN),
			udp(1, 2, 3, 4),
			{src: 1, dst: 2, proto: packet.ProtoSCTP, sport: 1, dport: 2},
			{src: 1, dst: 2, proto: icmp, typ: echo, sport: 1},
			{src: 1, dst: 2, proto: packet.ProtoESP},
			udp(1, 2, 3, 4).with(func(s *sent) { s.frag = firstPart }),
			udp(1, 2, 3, 4).with(func(s *sent) { s.frag = laterPart }),
			{src: 9, dst: 1, proto: icmp, typ: unreach, quote: tcp(1, 2, 3, 4, 0).with(func(s *sent) { s.v6 = v6 })},
			{src: 9, dst: 1, proto: icmp, typ: unreach, quote: udp(1, 2, 3, 4).with(func(s *sent) { s.v6, s.ext, s.frag = v6, v6, firstPart })},
		} {
			frame, m := s.with(func(s *sent) { s.v6, s.ext = v6, v6 }).frame(tb, 5*second)
			frames, metas = append(frames, frame), append(metas, m)
		}
	}
	return frames, metas
}

// Whatever frame and metadata say, Read stays within the frame, and what it
// returns can be looked up. Frames lie against the end of their memory, so that
// a byte too far is a panic; reading twice gives the same.
func FuzzRead(f *testing.F) {
	frames, metas := corpus(f)
	for i, frame := range frames {
		m := metas[i]
		f.Add(frame, m.L3, m.L4, m.Flags, m.Proto, uint64(m.Hash))
	}
	reader, err := NewReader(ReaderOptions{Key: secret, Fragments: 64})
	if err != nil {
		f.Fatal(err)
	}
	table, err := New(Options{Key: secret, Max: 64, Bindings: 8, Buckets: 4})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { table.Close() })
	var qs [packet.BurstSize]Query
	var out [packet.BurstSize]Result
	var slots [packet.BurstSize]uint32
	f.Fuzz(func(t *testing.T, frame []byte, l3, l4, flags uint16, proto uint8, hash uint64) {
		m := packet.Meta{RxNs: hash, Hash: uint32(hash), L3: l3, L4: l4, Flags: flags, Proto: proto}
		frame = append(make([]byte, 0, len(frame)), frame...)[:len(frame):len(frame)]
		reader.Read(frame, &m, &qs[0])
		reader.Read(frame, &m, &qs[1])
		a, b := qs[0], qs[1]
		if a != b && a.kind != UnknownFragment {
			t.Fatalf("%+v, then %+v", a, b)
		}
		if a.kind > UnknownFragment || a.bits&^(tcpMask|querySwap) != 0 {
			t.Fatalf("%+v", a)
		}
		// Steering hashes what it parses: the index may rely on it.
		for k := range 2 {
			if qs[k].kind == Packet {
				qs[k].hash = qs[k].key.hash(secret)
			}
		}
		table.Lookup(&qs, 2, &out)
		if out[1].Status == Created && out[0].Status != Refused {
			t.Fatalf("%+v then %+v", out[0], out[1])
		}
		if tuple, ok := a.Tuple(); ok {
			if k, swap, ok := tuple.normalise(); !ok || k != a.key || swap != a.swap() && tuple.Src != tuple.Dst {
				t.Fatalf("%+v is tuple %+v, which is key %x, swap %d", a, tuple, k, swap)
			}
		}
		table.Drain(slots[:])
		if err := table.Verify(); err != nil {
			t.Fatal(err)
		}
	})
}

// Whatever steering parses without complaint, the reader's tuple is the one
// that the parser read, and its hash is the parser's.
func FuzzReadAgreesWithParse(f *testing.F) {
	frames, _ := corpus(f)
	for _, frame := range frames {
		f.Add(frame)
	}
	reader, err := NewReader(ReaderOptions{Key: secret})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		in, result := packet.Parse(frame)
		if result != packet.ParsedIP || in.Flags&(packet.FlagLaterFrag|packet.FlagICMPError) != 0 {
			return
		}
		m := packet.Meta{Hash: packet.FlowHash(secret, &in), L3: in.L3, L4: in.L4, Flags: in.Flags, Proto: in.Proto}
		var q Query
		reader.Read(frame, &m, &q)
		got, ok := q.Tuple()
		n := 16
		if in.Flags&packet.FlagIPv4 != 0 {
			n = 4
		}
		if !ok || string(got.Src.AsSlice()) != string(in.Src[:n]) || string(got.Dst.AsSlice()) != string(in.Dst[:n]) || got.Proto != in.Proto {
			t.Fatalf("%+v read as %+v", in, got)
		}
		if in.Ports() && (got.SrcPort != in.SrcPort || got.DstPort != in.DstPort) {
			t.Fatalf("%+v read as %+v", in, got)
		}
		whole := in
		whole.Flags &^= packet.FlagFragment
		if q.Owner() != packet.FlowHash(secret, &whole) {
			t.Fatalf("%+v: owner %#x, steering says %#x", in, q.Owner(), packet.FlowHash(secret, &whole))
		}
		if hash := q.key.hash(secret); hash != q.hash {
			t.Fatalf("hash %#x; of the key %#x", q.hash, hash)
		}
		if in.Proto == packet.ProtoTCP && in.L4 != 0 {
			l4 := frame[in.L4:]
			if uint32(q.seq) != binary.BigEndian.Uint32(l4[4:])&0xffff || uint32(q.ack) != binary.BigEndian.Uint32(l4[8:])&0xffff || q.bits&tcpMask != l4[13]&tcpMask {
				t.Fatalf("%+v", q)
			}
		}
	})
}
