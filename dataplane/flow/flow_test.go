package flow

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"sfc/dataplane/packet"
	"sfc/testbed/gate"
)

func TestMain(m *testing.M) {
	if mode := os.Getenv(crashMode); mode != "" {
		os.Exit(crashChild(mode))
	}
	os.Exit(gate.Main(m))
}

// Every protocol, both families: the first packet makes the flow, the answer
// finds it reversed, other flows do not meet it.
func TestBothDirectionsShareASlot(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		icmp, echo := packet.ProtoICMP, uint8(8)
		if v6 {
			icmp, echo = packet.ProtoICMPv6, 128
		}
		for name, s := range map[string]*sent{
			"tcp":              {proto: packet.ProtoTCP, sport: 1000, dport: 80, tcp: tcpSYN},
			"udp":              {proto: packet.ProtoUDP, sport: 1000, dport: 53},
			"sctp":             {proto: packet.ProtoSCTP, sport: 1000, dport: 36412},
			"echo":             {proto: icmp, typ: echo, sport: 7, dport: 7},
			"esp":              {proto: packet.ProtoESP},
			"gre":              {proto: 47},
			"tagged udp":       {proto: packet.ProtoUDP, sport: 9, dport: 53, vlan: 5},
			"same ports":       {proto: packet.ProtoUDP, sport: 123, dport: 123},
			"options and ext":  {proto: packet.ProtoUDP, sport: 5, dport: 6, ext: v6},
			"icmp no query":    {proto: icmp, typ: 9 + echo/128*121}, // router advertisement, MLD
			"first is higher":  {proto: packet.ProtoUDP, sport: 1, dport: 2, src: 9, dst: 8},
			"higher, same net": {proto: packet.ProtoTCP, sport: 2, dport: 1, src: 0xff0000, dst: 1},
		} {
			t.Run(fmt.Sprintf("%s v6=%v", name, v6), func(t *testing.T) {
				g := newRig(t, Options{Max: 16})
				s := s.with(func(s *sent) {
					s.v6 = v6
					if s.src == 0 {
						s.src, s.dst = 1, 2
					}
				})
				first := g.one(s)
				g.want("first packet", first, Created, first.Slot, packet.FlagNewFlow)
				g.want("second packet", g.one(s), Found, first.Slot, 0)
				g.want("answer", g.one(s.back()), Found, first.Slot, packet.FlagReverse)
				g.want("once more", g.one(s), Found, first.Slot, 0)
				far := g.one(s.with(func(s *sent) { s.src += 77 }))
				g.want("another host", far, Created, far.Slot, packet.FlagNewFlow)
				if far.Slot == first.Slot {
					t.Error("two flows have one slot")
				}
				f, ok := g.t.Describe(first.Slot)
				if !ok || f.Tuple.Src != addr(v6, s.src) || f.Tuple.Dst != addr(v6, s.dst) || f.Tuple.SrcPort != s.sport || f.Tuple.DstPort != s.dport || f.Tuple.Proto != s.proto {
					t.Errorf("described as %+v, %v", f, ok)
				}
			})
		}
	}
}

func TestFlowsThatDifferInOneThing(t *testing.T) {
	g := newRig(t, Options{Max: 64})
	base := udp(1, 2, 1000, 53)
	seen := map[uint32]string{}
	for name, s := range map[string]*sent{
		"base":        base,
		"source port": udp(1, 2, 1001, 53),
		"dest port":   udp(1, 2, 1000, 54),
		"ports swap":  udp(1, 2, 53, 1000),
		"source":      udp(3, 2, 1000, 53),
		"dest":        udp(1, 3, 1000, 53),
		"tcp":         tcp(1, 2, 1000, 53, tcpSYN),
		"v6":          base.with(func(s *sent) { s.v6 = true }),
		"echo 1":      {src: 1, dst: 2, proto: packet.ProtoICMP, typ: 8, sport: 1, dport: 1},
		"echo 2":      {src: 1, dst: 2, proto: packet.ProtoICMP, typ: 8, sport: 2, dport: 2},
		"timestamp 1": {src: 1, dst: 2, proto: packet.ProtoICMP, typ: 13, sport: 1, dport: 1},
		"icmp other":  {src: 1, dst: 2, proto: packet.ProtoICMP, typ: 9},
		"esp":         {src: 1, dst: 2, proto: packet.ProtoESP},
		"gre":         {src: 1, dst: 2, proto: 47},
	} {
		r := g.one(s)
		if r.Status != Created || seen[r.Slot] != "" {
			t.Errorf("%s: %v, slot %d of %q", name, r.Status, r.Slot, seen[r.Slot])
		}
		seen[r.Slot] = name
	}
}

// A flow between a host and itself, same port: both directions look alike.
func TestFlowToItself(t *testing.T) {
	g := newRig(t, Options{Max: 16})
	r := g.one(udp(1, 1, 5, 5))
	g.want("answer", g.one(udp(1, 1, 5, 5)), Found, r.Slot, 0)
	r = g.one(udp(1, 1, 6, 5))
	g.want("answer from the other port", g.one(udp(1, 1, 5, 6)), Found, r.Slot, packet.FlagReverse)
}

func TestPacketsOfOneBurstShareANewFlow(t *testing.T) {
	g := newRig(t, Options{Max: 16})
	a, b := udp(1, 2, 10, 20), udp(1, 2, 11, 20)
	out := g.burst(a, a, b, a.back(), b.back(), a)
	slotA, slotB := out[0].Slot, out[2].Slot
	if slotA == slotB {
		t.Fatal("two flows have one slot")
	}
	g.want("a again", out[1], Found, slotA, 0)
	g.want("b", out[2], Created, slotB, packet.FlagNewFlow)
	g.want("a answered", out[3], Found, slotA, packet.FlagReverse)
	g.want("b answered", out[4], Found, slotB, packet.FlagReverse)
	g.want("a at the end", out[5], Found, slotA, 0)
	if c := g.t.Counters(); c.Created[UDP] != 2 {
		t.Errorf("%d flows created", c.Created[UDP])
	}
}

func TestNoFlow(t *testing.T) {
	g := newRig(t, Options{Max: 16})
	var q Query
	g.r.Read(make([]byte, 60), &packet.Meta{}, &q)
	g.qs[0] = q
	g.t.Lookup(&g.qs, 1, &g.out)
	g.want("no IP", g.out[0], NotAFlow, NoSlot, 0)
	if _, ok := q.Tuple(); ok || q.Kind() != NoFlow || g.t.Live() != 0 {
		t.Errorf("kind %v, %d live", q.Kind(), g.t.Live())
	}
}

// ICMP of the other IP version has no identifier that steering reads, so a
// quote of it has none either.
func TestQuoteOfForeignICMP(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		g := newRig(t, Options{Max: 16})
		foreign, typ, icmp, unreach := packet.ProtoICMPv6, uint8(128), packet.ProtoICMP, uint8(3)
		if v6 {
			foreign, typ, icmp, unreach = packet.ProtoICMP, 8, packet.ProtoICMPv6, 1
		}
		s := &sent{v6: v6, src: 1, dst: 2, proto: foreign, typ: typ, sport: 7, dport: 7}
		r := g.one(s)
		g.want("the other's query", r, Created, r.Slot, packet.FlagNewFlow)
		g.want("error about it", g.one(&sent{v6: v6, src: 9, dst: 1, proto: icmp, typ: unreach, quote: s}), Found, r.Slot, packet.FlagReverse)
		if got, want := g.qs[0].Owner(), mustOwner(t, g, r.Slot); got != want {
			t.Errorf("v6=%v: owner of the error %#x, of the flow %#x", v6, got, want)
		}
	}
}

// An ICMP error goes with the packet it quotes, against its direction, and
// neither makes a flow nor keeps one alive.
func TestICMPErrors(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		icmp, unreach, echo := packet.ProtoICMP, uint8(3), uint8(8)
		if v6 {
			icmp, unreach, echo = packet.ProtoICMPv6, 1, 128
		}
		for name, s := range map[string]*sent{
			"tcp":      {proto: packet.ProtoTCP, sport: 1000, dport: 80, tcp: tcpSYN},
			"udp":      {proto: packet.ProtoUDP, sport: 1000, dport: 53},
			"sctp":     {proto: packet.ProtoSCTP, sport: 1000, dport: 9},
			"echo":     {proto: icmp, typ: echo, sport: 7, dport: 7},
			"esp":      {proto: packet.ProtoESP},
			"ext":      {proto: packet.ProtoUDP, sport: 1, dport: 2, ext: v6},
			"fragment": {proto: packet.ProtoUDP, sport: 1, dport: 2, frag: firstPart, id: 5},
		} {
			t.Run(fmt.Sprintf("%s v6=%v", name, v6), func(t *testing.T) {
				g := newRig(t, Options{Max: 16})
				s := s.with(func(s *sent) { s.v6, s.src, s.dst = v6, 1, 2 })
				router := func(q *sent) *sent {
					return &sent{v6: v6, src: 99, dst: q.src, proto: icmp, typ: unreach, quote: q}
				}
				g.want("before the flow", g.one(router(s)), Unrelated, NoSlot, 0)
				r := g.one(s)
				out := g.burst(router(s), router(s.back()))
				g.want("error about the forward packet", out[0], Found, r.Slot, packet.FlagReverse)
				g.want("error about the answer", out[1], Found, r.Slot, 0)
				if g.qs[0].Kind() != QuotedPacket || g.qs[0].Owner() != mustOwner(t, g, r.Slot) {
					t.Errorf("kind %v, owner %#x", g.qs[0].Kind(), g.qs[0].Owner())
				}
				if f, _ := g.t.Describe(r.Slot); f.State != Opening {
					t.Errorf("a forged error brought the flow to %v", f.State)
				}
				for range 10 { // errors arrive all the time, the flow is idle
					g.now += 30 * second
					g.one(router(s))
				}
				g.want("error after the timeout", g.one(router(s)), Unrelated, NoSlot, 0)
				if c := g.t.Counters(); c.Related == 0 || c.Unrelated < 2 || sum(c.Created) != 1 {
					t.Errorf("%+v", c)
				}
			})
		}
	}
}

func sum(v [NumClasses]uint64) (n uint64) {
	for _, x := range v {
		n += x
	}
	return n
}

func mustOwner(t *testing.T, g *rig, slot uint32) uint32 {
	t.Helper()
	owner, ok := g.t.OwnerOf(slot)
	if !ok {
		t.Fatalf("slot %d has no owner", slot)
	}
	return owner
}

// Quotes that are cut short or nonsense lead nowhere.
func TestQuotesCutShort(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		g := newRig(t, Options{Max: 16})
		icmp, typ := packet.ProtoICMP, uint8(11)
		if v6 {
			icmp, typ = packet.ProtoICMPv6, 3
		}
		s := &sent{v6: v6, src: 1, dst: 2, proto: packet.ProtoTCP, sport: 1, dport: 2, ext: v6}
		r := g.one(s)
		frame, m := (&sent{v6: v6, src: 9, dst: 1, proto: icmp, typ: typ, quote: s}).frame(t, g.now)
		whole := int(m.L4) + 8 + 20 + 4
		if v6 {
			whole = int(m.L4) + 8 + 40 + 8 + 4
		}
		for n := range frame {
			g.r.Read(frame[:n], &m, &g.qs[0])
			g.t.Lookup(&g.qs, 1, &g.out)
			if found := g.out[0].Slot == r.Slot; found != (n >= whole) {
				t.Errorf("v6=%v: %d of %d bytes: %v", v6, n, len(frame), g.out[0].Status)
			}
		}
		later := &sent{v6: v6, src: 9, dst: 1, proto: icmp, typ: typ, quote: s.with(func(s *sent) { s.frag = laterPart })}
		g.want("quoted later fragment", g.one(later), NotAFlow, NoSlot, 0)
		inner := int(m.L4) + 8
		for _, first := range []byte{0x05, 0x44, 0x4f, 0x65, 0xff, 0x00} {
			bad := append([]byte(nil), frame...)
			bad[inner] = first
			if v6 && first>>4 == 6 {
				continue // traffic class bits
			}
			g.r.Read(bad, &m, &g.qs[0])
			g.t.Lookup(&g.qs, 1, &g.out)
			g.want(fmt.Sprintf("version byte %#x", first), g.out[0], NotAFlow, NoSlot, 0)
		}
	}
}

func TestOptions(t *testing.T) {
	for want, opts := range map[string]Options{
		"slots":       {Max: MaxSlots + 1},
		"bindings":    {Bindings: MaxSlots + 1},
		"ownership":   {Buckets: 3},
		"sweep":       {Sweep: time.Microsecond},
		"idle floor":  {IdleFloor: 25 * 24 * time.Hour},
		"udp two-way": {Timeouts: Timeouts{UDPTwoWay: -1}},
	} {
		if _, err := New(opts); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", opts, err)
		}
	}
	for want, opts := range map[string]ReaderOptions{
		"fragments": {Fragments: maxFragments + 1},
		"timeout":   {FragmentTimeout: 1},
	} {
		if _, err := NewReader(opts); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", opts, err)
		}
	}
}

func TestMemory(t *testing.T) {
	table, err := New(Options{Max: 1_000_000, Sparse: true})
	if err != nil {
		t.Fatal(err)
	}
	if mib := table.Bytes() >> 20; mib > 128 {
		t.Errorf("1M flows take %d MiB", mib)
	}
	if err := errors.Join(table.Verify(), table.Close(), table.Close()); err != nil {
		t.Error(err)
	}
}

// Verify must see what it is there for.
func TestVerifySees(t *testing.T) {
	for name, damage := range map[string]func(*Table){
		"counter":     func(t *Table) { t.count.Created[UDP]++ },
		"live":        func(t *Table) { t.live++ },
		"hash":        func(t *Table) { t.entries[0].hash++ },
		"key":         func(t *Table) { t.entries[0].key[0]++ },
		"state":       func(t *Table) { t.entries[0].kind = makeKind(UDP, Open) },
		"opening":     func(t *Table) { t.opening.first = 0 },
		"bucket":      func(t *Table) { t.unlinkBucket(0) },
		"spill":       func(t *Table) { t.idx.buckets[0].spill++ },
		"lost ref":    func(t *Table) { t.idx.remove(t.entries[0].hash, 1) },
		"double ref":  func(t *Table) { t.idx.insert(t.entries[0].hash, 1, t) },
		"free list":   func(t *Table) { t.spare = 0 },
		"bind count":  func(t *Table) { t.count.Bindings++ },
		"bind owner":  func(t *Table) { t.bindings[0].slot++ },
		"bind leaked": func(t *Table) { t.bindTop++ },
	} {
		g := newRig(t, Options{Max: 16, Bindings: 4})
		g.one(udp(1, 2, 3, 4))
		r := g.one(udp(5, 6, 7, 8))
		if g.t.Bind(0, &Tuple{Src: addr(false, 50), Dst: addr(false, 51), SrcPort: 1, DstPort: 2, Proto: packet.ProtoUDP}) != Bound {
			t.Fatal("not bound")
		}
		g.t.end(r.Slot)
		g.t.count.Expired[UDP]++
		g.drain()
		g.verify()
		damage(g.t)
		if err := g.t.Verify(); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if err := g.t.Close(); err != nil {
			t.Fatal(err)
		}
		g.t = mustNew(t)
	}
}

// mustNew returns an empty table for a rig whose own was damaged on purpose.
func mustNew(t *testing.T) *Table {
	t.Helper()
	table, err := New(Options{Max: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { table.Close() })
	return table
}
