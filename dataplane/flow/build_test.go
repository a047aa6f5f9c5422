package flow

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"sfc/dataplane/packet"
)

var secret = [2]uint64{0x0706050403020100, 0x0f0e0d0c0b0a0908}

// sent describes a packet, to build a frame from and for the oracle to reason
// about.
type sent struct {
	v6           bool
	src, dst     uint32 // hosts; see addr
	proto        uint8
	sport, dport uint16 // of ICMP queries both are the identifier
	tcp          uint8
	seq, ack     uint32
	typ          uint8 // ICMP type
	quote        *sent // what an ICMP error quotes
	frag         fragmentPart
	id           uint32 // identification of fragments
	vlan         uint16
	ext          bool // an IPv6 destination options header in front
}

type fragmentPart uint8

const (
	whole fragmentPart = iota
	firstPart
	laterPart
)

// addr is the address of a host.
func addr(v6 bool, host uint32) netip.Addr {
	if v6 {
		a := [16]byte{0x20, 0x01, 0x0d, 0xb8}
		binary.BigEndian.PutUint32(a[12:], host)
		return netip.AddrFrom16(a)
	}
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], 10<<24|host)
	return netip.AddrFrom4(a)
}

// l4 is the transport header and a bit of payload.
func (s *sent) l4() []byte {
	be := binary.BigEndian
	var b []byte
	switch {
	case s.proto == packet.ProtoTCP:
		b = be.AppendUint16(b, s.sport)
		b = be.AppendUint16(b, s.dport)
		b = be.AppendUint32(b, s.seq)
		b = be.AppendUint32(b, s.ack)
		b = append(b, 5<<4, s.tcp, 0xff, 0xff, 0, 0, 0, 0)
	case s.proto == packet.ProtoUDP:
		b = be.AppendUint16(b, s.sport)
		b = be.AppendUint16(b, s.dport)
		b = append(b, 0, 8, 0, 0)
	case s.proto == packet.ProtoSCTP:
		b = be.AppendUint16(b, s.sport)
		b = be.AppendUint16(b, s.dport)
		b = append(b, make([]byte, 8)...)
	case isICMP(s.proto):
		b = append(b, s.typ, 0, 0, 0)
		b = be.AppendUint16(b, s.sport)
		b = append(b, 0, 1)
		if s.quote != nil {
			b = append(b, s.quote.ip()...)
		}
	default:
		b = append(b, "opaque payload"...)
	}
	return b
}

// ip is the IP packet.
func (s *sent) ip() []byte {
	be := binary.BigEndian
	body := s.l4()
	if s.frag == laterPart {
		body = []byte("the rest of it..")
	}
	src, dst := addr(s.v6, s.src).AsSlice(), addr(s.v6, s.dst).AsSlice()
	if !s.v6 {
		field := map[fragmentPart]uint16{whole: 0, firstPart: 0x2000, laterPart: 0x0010}[s.frag]
		b := []byte{0x45, 0}
		b = be.AppendUint16(b, uint16(20+len(body)))
		b = be.AppendUint16(b, uint16(s.id))
		b = be.AppendUint16(b, field)
		b = append(b, 64, s.proto, 0, 0)
		b = append(append(b, src...), dst...)
		return append(b, body...)
	}
	next := s.proto
	if s.frag != whole {
		field := map[fragmentPart]uint16{firstPart: 1, laterPart: 0x0080}[s.frag]
		h := []byte{next, 0}
		h = be.AppendUint16(h, field)
		h = be.AppendUint32(h, s.id)
		body, next = append(h, body...), packet.ProtoFragment
	}
	if s.ext {
		body, next = append([]byte{next, 0, 1, 4, 0, 0, 0, 0}, body...), packet.ProtoDestOpts
	}
	b := []byte{0x60, 0, 0, 0}
	b = be.AppendUint16(b, uint16(len(body)))
	b = append(b, next, 64)
	b = append(append(b, src...), dst...)
	return append(b, body...)
}

// frame is the packet with an Ethernet header, and what steering says of it.
func (s *sent) frame(tb testing.TB, rxNs uint64) ([]byte, packet.Meta) {
	tb.Helper()
	b := make([]byte, 12)
	if s.vlan != 0 {
		b = binary.BigEndian.AppendUint16(b, packet.EtherVLAN)
		b = binary.BigEndian.AppendUint16(b, s.vlan)
	}
	typ := packet.EtherIPv4
	if s.v6 {
		typ = packet.EtherIPv6
	}
	b = binary.BigEndian.AppendUint16(b, typ)
	b = append(b, s.ip()...)
	in, result := packet.Parse(b)
	if result != packet.ParsedIP {
		tb.Fatalf("%+v: %v", *s, result)
	}
	return b, packet.Meta{
		RxNs: rxNs, Hash: packet.FlowHash(secret, &in), Path: 3,
		L3: in.L3, L4: in.L4, Flags: in.Flags, Proto: in.Proto, VLAN: in.VLAN,
	}
}

// back is the packet that answers s.
func (s *sent) back() *sent {
	r := *s
	r.src, r.dst, r.sport, r.dport = s.dst, s.src, s.dport, s.sport
	if s.typ == 8 {
		r.typ = 0
	}
	if s.typ == 128 {
		r.typ = 129
	}
	return &r
}

// with returns a changed copy.
func (s *sent) with(change func(*sent)) *sent {
	r := *s
	change(&r)
	return &r
}

// rig is a table with its reader, and a burst.
type rig struct {
	tb  testing.TB
	r   *Reader
	t   *Table
	now uint64 // ns
	qs  [packet.BurstSize]Query
	out [packet.BurstSize]Result
}

const second = 1_000_000_000

// newRig makes a rig whose table is verified and closed at the end of the test.
func newRig(tb testing.TB, opts Options) *rig {
	tb.Helper()
	opts.Key = secret
	t, err := New(opts)
	if err != nil {
		tb.Fatal(err)
	}
	r, err := NewReader(ReaderOptions{Key: secret})
	if err != nil {
		tb.Fatal(err)
	}
	g := &rig{tb: tb, r: r, t: t, now: 1000 * second}
	tb.Cleanup(func() {
		g.verify()
		if err := g.t.Close(); err != nil {
			tb.Error(err)
		}
	})
	return g
}

func (g *rig) verify() {
	g.tb.Helper()
	if err := g.t.Verify(); err != nil {
		g.tb.Fatal(err)
	}
}

// burst looks up to 64 packets up at once.
func (g *rig) burst(packets ...*sent) []Result {
	g.tb.Helper()
	for k, s := range packets {
		frame, m := s.frame(g.tb, g.now)
		g.r.Read(frame, &m, &g.qs[k])
	}
	g.t.Lookup(&g.qs, len(packets), &g.out)
	return g.out[:len(packets)]
}

// one looks a single packet up.
func (g *rig) one(s *sent) Result {
	g.tb.Helper()
	return g.burst(s)[0]
}

// drain empties the list of ended slots.
func (g *rig) drain() (slots []uint32) {
	var buf [7]uint32
	for {
		n := g.t.Drain(buf[:])
		slots = append(slots, buf[:n]...)
		if n == 0 {
			return slots
		}
	}
}

// want fails the test when a result is not as expected.
func (g *rig) want(what string, got Result, status Status, slot uint32, flags uint16) {
	g.tb.Helper()
	if got.Status != status || got.Slot != slot || got.Flags != flags {
		g.tb.Fatalf("%s: %v, slot %d, flags %#x; want %v, slot %d, flags %#x",
			what, got.Status, int32(got.Slot), got.Flags, status, int32(slot), flags)
	}
}

func udp(src, dst uint32, sport, dport uint16) *sent {
	return &sent{src: src, dst: dst, proto: packet.ProtoUDP, sport: sport, dport: dport}
}

func tcp(src, dst uint32, sport, dport uint16, flags uint8) *sent {
	return &sent{src: src, dst: dst, proto: packet.ProtoTCP, sport: sport, dport: dport, tcp: flags, seq: 1000, ack: 2000}
}
