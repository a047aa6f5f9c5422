package nftest

import (
	"testing"

	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
)

// assignFlows gives packets the flows that the engine's flow table finds for
// them, as long as none ends.
func assignFlows(tb testing.TB, packets []Packet) []Packet {
	tb.Helper()
	key := [2]uint64{1, 2}
	reader, err := flow.NewReader(flow.ReaderOptions{Key: key})
	if err != nil {
		tb.Fatal(err)
	}
	table, err := flow.New(flow.Options{Key: key, Max: MaxFlows})
	if err != nil {
		tb.Fatal(err)
	}
	defer func() {
		if err := table.Close(); err != nil {
			tb.Error(err)
		}
	}()
	var queries [packet.BurstSize]flow.Query
	var results [packet.BurstSize]flow.Result
	for i := range packets {
		p := &packets[i]
		in, _ := packet.Parse(p.Frame)
		m := packet.Meta{RxNs: p.RxNs, Hash: packet.FlowHash(key, &in), L3: p.L3, L4: p.L4, Flags: p.Flags, Proto: p.Proto, VLAN: p.VLAN}
		reader.Read(p.Frame, &m, &queries[0])
		table.Lookup(&queries, 1, &results)
		p.Flow = results[0].Slot + 1 // packet.NoSlot becomes 0
		p.Flags |= results[0].Flags
	}
	return packets
}

// talk is a conversation between two hosts, as the generator follows it.
type talk struct {
	spec  Spec      // in the direction of who began
	next  [2]uint32 // TCP: each side's next sequence number
	scale [2]uint8  // and how far it shifts its windows
	step  int       // packets of the handshake so far
}

// talks draws a stream of packets of a few conversations: TCP by the book for
// most of the time, UDP, ICMP with errors in between, and what spoils them.
func (g gen) talks(tb testing.TB, n int) []Packet {
	list := make([]*talk, 1+g.IntN(6))
	for i := range list {
		list[i] = g.talk()
	}
	now := uint64(1_700_000_000_000_000_000)
	var out []Packet
	for range n {
		now += g.Uint64N(pick[uint64](g, 1, 1e3, 1e6, 1e8))
		if g.oneIn(30) {
			now -= g.Uint64N(1e7)
		}
		t := pick(g, list...)
		if g.oneIn(60) {
			*t = *g.talk()
		}
		p := g.say(t).Packet(now)
		if g.oneIn(25) && len(out) > 0 {
			p = g.icmpError(pick(g, out...), now)
		}
		out = append(out, p)
	}
	assignFlows(tb, out)
	for i := range out {
		if g.oneIn(25) {
			g.spoil(&out[i])
			out[i].Flow = pick(g, 0, out[i].Flow, uint32(1+g.IntN(8)))
		}
	}
	return out
}

func (g gen) talk() *talk {
	ip6 := g.oneIn(3)
	return &talk{
		spec: Spec{
			Src: g.addr(ip6), Dst: g.addr(ip6), SPort: uint16(g.IntN(4)), DPort: g.port(),
			Proto: pick(g, packet.ProtoTCP, packet.ProtoTCP, packet.ProtoTCP, packet.ProtoUDP, packet.ProtoICMP, 47),
		},
		next:  [2]uint32{pick(g, g.Uint32(), 0xfffffff0), g.Uint32()},
		scale: [2]uint8{pick[uint8](g, 0, 2, 14), pick[uint8](g, 0, 7)},
	}
}

// say lets one side of a conversation send its next packet.
func (g gen) say(t *talk) Spec {
	from := g.IntN(2)
	if t.step < 3 {
		from = t.step % 2
	}
	s := t.spec
	if from == 1 {
		s.Src, s.Dst, s.SPort, s.DPort = s.Dst, s.Src, s.DPort, s.SPort
	}
	s.Payload = make([]byte, pick(g, 0, 0, 1, 100, 1200))
	if s.Proto != packet.ProtoTCP {
		return s
	}
	s.Seq, s.Ack, s.Window, s.TCPFlags = t.next[from], t.next[1-from], pick[uint16](g, 0, 1, 500, 65535), 0x10
	switch {
	case t.step < 2:
		s.Payload = nil
		s.TCPFlags = []uint8{0x02, 0x12}[t.step]
		if t.step == 1 && g.oneIn(10) { // simultaneous open
			s.TCPFlags = 0x02
		}
		if t.step == 0 {
			s.Ack = 0
		}
		s.TCPOptions = append([]byte{2, 4, 5, 0xb4}, pick(g, []byte{1, 3, 3, t.scale[from]}, []byte{3, 3, t.scale[from], 0}, nil)...)
		if g.oneIn(12) {
			s.TCPOptions = []byte{pick[byte](g, 3, 4, 8, 0), byte(g.IntN(12)), t.scale[from]}
		}
	case g.oneIn(25):
		s.TCPFlags |= 0x01
	case g.oneIn(40):
		s.TCPFlags = pick[uint8](g, 0x04, 0x14)
	case g.oneIn(50):
		t.step = 0
	}
	repeat := g.oneIn(10)
	if !repeat {
		t.next[from] += uint32(len(s.Payload)) + uint32(s.TCPFlags&1) + uint32(s.TCPFlags>>1&1)
		t.step++
	}
	if g.oneIn(10) {
		s.Seq += pick(g, 1, ^uint32(0), 1000, 1<<16, g.Uint32())
	}
	if g.oneIn(10) {
		s.Ack += pick(g, 1, ^uint32(0), ^uint32(70000), 1<<16, g.Uint32())
	}
	if g.oneIn(30) {
		s.TCPFlags = uint8(g.IntN(256))
	}
	return s
}

// icmpError answers an IP packet with an error that quotes it.
func (g gen) icmpError(of Packet, now uint64) Packet {
	ip6 := of.Flags&packet.FlagIPv6 != 0
	s, size, kinds := Spec{Proto: packet.ProtoICMP}, packet.IPv4Len, []byte{3, 11, 12}
	if ip6 {
		s.Proto, size, kinds = packet.ProtoICMPv6, packet.IPv6Len, []byte{1, 2, 3, 4}
	}
	if of.Flags&(packet.FlagIPv4|packet.FlagIPv6) == 0 || len(of.Frame) < packet.EtherLen+size+8 {
		return of
	}
	s.Src, s.Dst = g.addr(ip6), g.addr(ip6)
	s.Payload = of.Frame[packet.EtherLen:][:size+8]
	frame := s.Frame()
	frame[packet.EtherLen+size] = pick(g, kinds...)
	packet.SetChecksums(frame)
	return NewPacket(frame, now)
}

// traffic draws packets that make sense to a function.
func (g gen) traffic(tb testing.TB, function string, n int) []Packet {
	if d := dialogs[function]; d != nil {
		return g.replay(tb, function, d(g), n)
	}
	if stateful[function] && (function != "ratelimit" || g.oneIn(2)) {
		return g.talks(tb, n)
	}
	return g.packets(n)
}

// stateful are the functions that keep flow state, if perhaps not with every
// configuration.
var stateful = map[string]bool{"firewall": true, "flowstat": true, "ratelimit": true}

// TestStatefulRandom compares the functions with flow state over 100,000 packets
// and more, and sees to it that they drop for every reason they have.
func TestStatefulRandom(t *testing.T) {
	seed := testSeed(t)
	for name := range stateful {
		t.Run(name, func(t *testing.T) {
			all := runners(t, name)
			seen := map[uint16]int{}
			for i := range uint64(60) {
				g := newGen(seed + i)
				config := pick(g, configs[name]...)
				for _, r := range Compare(t, []byte(config), g.talks(t, 2000), all...) {
					seen[r.Reason]++
				}
			}
			t.Logf("reasons %v", seen)
			if want := map[string]int{"firewall": 6, "flowstat": 1, "ratelimit": 2}[name]; len(seen) != want {
				t.Errorf("reasons %v, want %d with 0 for passing: too narrow a world", seen, want)
			}
		})
	}
}
