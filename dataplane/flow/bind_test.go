package flow

import (
	"testing"

	"sfc/dataplane/packet"
)

// tuple is what s looks like to Bind.
func (s *sent) tuple() *Tuple {
	return &Tuple{Src: addr(s.v6, s.src), Dst: addr(s.v6, s.dst), SrcPort: s.sport, DstPort: s.dport, Proto: s.proto, Query: packet.ICMPQuery(s.proto, s.typ) * isQuery(s)}
}

func isQuery(s *sent) uint8 {
	if isICMP(s.proto) {
		return 1
	}
	return 0
}

// A translated flow is found from both of its sides, and by errors that quote
// either form.
func TestBind(t *testing.T) {
	for name, inside := range map[string]*sent{
		"tcp":  tcp(1, 9, 1000, 80, tcpSYN),
		"udp":  udp(1, 9, 1000, 53),
		"udp6": udp(1, 9, 1000, 53).with(func(s *sent) { s.v6 = true }),
		"echo": {src: 1, dst: 9, proto: packet.ProtoICMP, typ: 8, sport: 44, dport: 44},
	} {
		// 200 is the translator's address.
		outside := inside.with(func(s *sent) {
			s.src, s.sport = 200, 40_000
			if isICMP(s.proto) {
				s.dport = s.sport
			}
		})
		t.Run(name, func(t *testing.T) {
			g := newRig(t, Options{Max: 16, Bindings: 8})
			r := g.one(inside)
			if got := g.t.Bind(r.Slot, outside.tuple()); got != Bound {
				t.Fatal(got)
			}
			if got := g.t.Bind(r.Slot, outside.tuple()); got != Bound || g.t.Counters().Bindings != 1 {
				t.Errorf("again: %v", got)
			}
			if got := g.t.Bind(r.Slot, inside.tuple()); got != Bound || g.t.Counters().Bindings != 1 {
				t.Errorf("its own tuple: %v", got)
			}
			out := g.burst(outside.back(), outside.back(), outside, inside, inside.back())
			for k, want := range []uint16{packet.FlagReverse, packet.FlagReverse, 0, 0, packet.FlagReverse} {
				g.want("packet", out[k], Found, r.Slot, want)
			}
			err4 := func(q *sent) *sent {
				proto, typ := packet.ProtoICMP, uint8(3)
				if q.v6 {
					proto, typ = packet.ProtoICMPv6, 1
				}
				return &sent{v6: q.v6, src: 77, dst: q.src, proto: proto, typ: typ, quote: q}
			}
			g.want("error from outside", g.one(err4(outside)), Found, r.Slot, packet.FlagReverse)
			g.want("error from inside", g.one(err4(outside.back())), Found, r.Slot, 0)
			f, _ := g.t.Describe(r.Slot)
			if f.N != 1 || f.Bound[0] != *outside.tuple() {
				t.Errorf("%+v", f)
			}
			g.now += 10_000 * second
			g.sweep()
			if g.t.Live() != 0 || g.t.Counters().Bindings != 0 {
				t.Error("bindings outlive their flow")
			}
			r = g.one(outside.back())
			g.want("answer to nobody", r, Created, r.Slot, packet.FlagNewFlow)
		})
	}
}

func TestBindRefuses(t *testing.T) {
	g := newRig(t, Options{Max: 16, Bindings: 3})
	a, b := g.one(udp(1, 9, 1, 1)).Slot, g.one(udp(2, 9, 1, 1)).Slot
	key := func(n uint16) *Tuple { return udp(200, 9, n, 1).tuple() }
	for i, tt := range []struct {
		slot  uint32
		tuple *Tuple
		want  BindResult
	}{
		{a, key(1), Bound},
		{b, key(1), BindConflict},
		{b, udp(9, 1, 1, 1).tuple(), BindConflict}, // the primary key of a, reversed
		{a, key(2), Bound},
		{a, key(3), BindLimit},
		{b, key(4), Bound},
		{b, key(5), BindFull},
		{15, key(6), BindNoFlow},
		{NoSlot, key(6), BindNoFlow},
		{a, &Tuple{Src: addr(true, 1), Dst: addr(false, 2)}, BindBadTuple},
		{a, &Tuple{}, BindBadTuple},
	} {
		if got := g.t.Bind(tt.slot, tt.tuple); got != tt.want {
			t.Errorf("%d: %v, want %v", i, got, tt.want)
		}
		g.verify()
	}
	c := g.t.Counters()
	if c.Bindings != 3 || c.BindConflicts != 2 || c.BindRefused != 6 {
		t.Errorf("%+v", c)
	}
	g.t.end(a)
	g.t.count.Expired[UDP]++
	if got := g.t.Bind(a, key(7)); got != BindNoFlow {
		t.Errorf("ended flow: %v", got)
	}
	if got := g.t.Bind(b, key(1)); got != Bound {
		t.Errorf("a key that became free: %v", got)
	}
}

// A flow that ends within a burst takes its secondary keys along: packets
// behind it do not find its slot.
func TestBindingOfFlowThatEndsInBurst(t *testing.T) {
	g := newRig(t, Options{Max: 16, Bindings: 4})
	fin := tcp(1, 9, 1, 80, tcpFIN)
	old := g.one(fin).Slot
	outside := tcp(200, 9, 5, 80, tcpACK)
	if got := g.t.Bind(old, outside.tuple()); got != Bound {
		t.Fatal(got)
	}
	g.one(fin.back())
	syn := tcp(1, 9, 1, 80, tcpSYN)
	out := g.burst(outside.back(), syn, outside.back(), syn)
	g.want("before", out[0], Found, old, packet.FlagReverse)
	g.want("new connection", out[1], Created, out[1].Slot, packet.FlagNewFlow)
	g.want("after", out[2], Created, out[2].Slot, packet.FlagNewFlow)
	g.want("new connection again", out[3], Found, out[1].Slot, 0)
	if out[1].Slot == old || out[2].Slot == old {
		t.Error("the old slot was given out")
	}
}
