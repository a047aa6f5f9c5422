package flow

import (
	"fmt"
	"testing"
	"time"

	"sfc/dataplane/packet"
)

// All fragments of a packet find the flow that its first one shows.
func TestFragments(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, proto := range []uint8{packet.ProtoTCP, packet.ProtoUDP, packet.ProtoESP} {
			t.Run(fmt.Sprintf("proto=%d v6=%v", proto, v6), func(t *testing.T) {
				g := newRig(t, Options{Max: 16})
				s := &sent{v6: v6, src: 1, dst: 2, proto: proto, id: 77}
				if packet.HasPorts(proto) {
					s.sport, s.dport = 4000, 53
				}
				first := s.with(func(s *sent) { s.frag = firstPart })
				later := s.with(func(s *sent) { s.frag = laterPart })
				g.want("later before the first", g.one(later), Unknown, NoSlot, 0)
				group := g.qs[0].Group()
				r := g.one(s)
				g.want("first finds the flow of whole packets", g.one(first), Found, r.Slot, 0)
				if g.qs[0].Group() != group || group == 0 {
					t.Errorf("groups %#x and %#x", group, g.qs[0].Group())
				}
				g.want("later", g.one(later), Found, r.Slot, 0)
				if g.qs[0].Kind() != LaterFragment || g.qs[0].Group() != group || g.qs[0].Owner() != mustOwner(t, g, r.Slot) || g.qs[0].Path() != 3 {
					t.Errorf("%+v", g.qs[0])
				}
				out := g.burst(first.back(), later.back(), later)
				g.want("first of the answer", out[0], Found, r.Slot, packet.FlagReverse)
				g.want("later of the answer", out[1], Found, r.Slot, packet.FlagReverse)
				g.want("later once more", out[2], Found, r.Slot, 0)
				g.want("another id", g.one(later.with(func(s *sent) { s.id++ })), Unknown, NoSlot, 0)
				g.want("another tenant's link", g.one(later.with(func(s *sent) { s.vlan = 9 })), Unknown, NoSlot, 0)
				frame, m := later.frame(t, g.now)
				m.Port = 1
				g.r.Read(frame, &m, &g.qs[0])
				if g.qs[0].Kind() != UnknownFragment {
					t.Errorf("found from another port: %+v", g.qs[0])
				}
				g.now += 31 * second
				g.want("too late", g.one(later), Unknown, NoSlot, 0)
				g.now -= 3600 * second
				g.want("left over from before the clock was set back", g.one(later), Unknown, NoSlot, 0)
				c := g.r.Fragments()
				if c.First != 2 || c.Resolved != 3 || c.Unknown != 6 || c.Lost != 0 {
					t.Errorf("%+v", c)
				}
			})
		}
	}
}

// A first fragment begins a flow; its later ones do not, not even when the flow
// is gone.
func TestFragmentsBeginFlows(t *testing.T) {
	g := newRig(t, Options{Max: 16, Timeouts: Timeouts{UDPOneWay: time.Second}})
	first := udp(1, 2, 3, 4).with(func(s *sent) { s.frag, s.id = firstPart, 1 })
	later := first.with(func(s *sent) { s.frag = laterPart })
	out := g.burst(first, later, udp(1, 2, 3, 4))
	g.want("first", out[0], Created, out[0].Slot, packet.FlagNewFlow)
	g.want("later", out[1], Found, out[0].Slot, 0)
	g.want("whole", out[2], Found, out[0].Slot, 0)
	g.now += 2 * second
	g.want("later, flow expired", g.one(later), Unrelated, NoSlot, 0)
	g.want("first again", g.one(first), Created, 1, packet.FlagNewFlow)
}

// More fragmented packets than notes: the oldest are forgotten, the newest
// known, and the flood is counted.
func TestFragmentFlood(t *testing.T) {
	g := newRig(t, Options{Max: 1 << 14})
	for id := range uint32(20_000) {
		g.now += second / 1000
		g.one(udp(id, 2, 3, 4).with(func(s *sent) { s.frag, s.id = firstPart, id }))
		g.drain()
	}
	known := 0
	for id := range uint32(20_000) {
		r := g.one(udp(id, 2, 3, 4).with(func(s *sent) { s.frag, s.id = laterPart, id }))
		if r.Status != Unknown {
			known++
		}
		if id >= 19_800 && r.Status == Unknown {
			known -= 1_000_000
		}
	}
	c := g.r.Fragments()
	if known < 3500 || known > 4096 || c.Lost < 15_000 {
		t.Errorf("%d of 4096 notes known (negative: a recent one was lost), %+v", known, c)
	}
}
