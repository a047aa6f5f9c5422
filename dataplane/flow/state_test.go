package flow

import (
	"testing"
	"time"

	"sfc/dataplane/packet"
)

// step is a packet of a connection and the state it brings.
type step struct {
	back     bool
	flags    uint8
	seq, ack uint32
	want     State
}

func TestTCPStates(t *testing.T) {
	const (
		syn, ack, fin, rst = tcpSYN, tcpACK, tcpFIN, tcpRST
		b                  = true
	)
	for name, steps := range map[string][]step{
		"handshake":              {{flags: syn, want: Opening}, {b, syn | ack, 500, 1, Opening}, {ack: 501, flags: ack, want: Open}},
		"sequence wraps":         {{flags: syn, want: Opening}, {b, syn | ack, 0xffffffff, 1, Opening}, {ack: 0, flags: ack, want: Open}},
		"guessed acknowledgment": {{flags: syn, want: Opening}, {b, syn | ack, 500, 1, Opening}, {ack: 777, flags: ack, want: Opening}, {ack: 502, flags: ack, want: Opening}},
		"blind acknowledgments":  {{flags: syn, want: Opening}, {ack: 1, flags: ack, want: Opening}, {ack: 2, flags: ack, want: Opening}},
		"server goes on":         {{flags: syn, want: Opening}, {b, syn | ack, 500, 1, Opening}, {b, ack, 501, 1, Open}},
		"met in the middle":      {{flags: ack, want: Opening}, {b, ack, 1, 1, Open}},
		"both open at once":      {{flags: syn, want: Opening}, {b, syn, 500, 0, Opening}, {ack: 501, flags: syn | ack, want: Open}},
		"refused":                {{flags: syn, want: Opening}, {b, rst | ack, 0, 1, Reset}},
		"half close":             {{flags: ack, want: Opening}, {b, ack, 1, 1, Open}, {flags: fin | ack, want: Closing}, {b, ack, 1, 1, Closing}, {flags: fin | ack, want: Closing}, {b, fin | ack, 1, 1, Closed}, {flags: ack, want: Closed}},
		"reset":                  {{flags: ack, want: Opening}, {b, ack, 1, 1, Open}, {b, rst, 1, 1, Reset}, {flags: ack, want: Reset}, {b, rst, 1, 1, Reset}},
		"forged reset":           {{flags: ack, want: Opening}, {b, ack, 1, 1, Open}, {b, rst, 1, 1, Reset}, {b, ack, 1, 1, Open}},
		"forged, closing":        {{flags: ack, want: Opening}, {b, ack, 1, 1, Open}, {flags: fin | ack, want: Closing}, {flags: rst, want: Reset}, {b, ack, 1, 1, Reset}, {flags: ack, want: Closing}},
		"no short cut by reset":  {{flags: syn, want: Opening}, {flags: rst, want: Reset}, {flags: ack, want: Opening}},
		"begins with FIN":        {{flags: fin | ack, want: Opening}, {b, fin | ack, 1, 1, Closed}},
		"begins with RST":        {{flags: rst, want: Reset}},
		"SYN of an open flow":    {{flags: ack, want: Opening}, {b, ack, 1, 1, Open}, {flags: syn, want: Open}},
	} {
		g := newRig(t, Options{Max: 16})
		slot := uint32(NoSlot)
		for i, s := range steps {
			p := tcp(1, 2, 1000, 80, s.flags)
			if s.back {
				p = tcp(2, 1, 80, 1000, s.flags)
			}
			p.seq, p.ack = s.seq, s.ack
			r := g.one(p)
			if i == 0 {
				slot = r.Slot
			}
			f, ok := g.t.Describe(slot)
			if !ok || r.Slot != slot || f.State != s.want {
				t.Errorf("%s: packet %d: slot %d, state %v, want %v", name, i, r.Slot, f.State, s.want)
				break
			}
			g.verify()
		}
	}
}

// A SYN on the ports of a connection that is over begins another flow, in
// another slot, either way round.
func TestPortsUsedAgain(t *testing.T) {
	g := newRig(t, Options{Max: 16})
	fin := tcp(1, 2, 1000, 80, tcpFIN|tcpACK)
	old := g.one(fin)
	g.one(fin.back())
	syn := tcp(2, 1, 80, 1000, tcpSYN)
	r := g.one(syn)
	g.want("SYN from the other side", r, Created, r.Slot, packet.FlagNewFlow)
	if r.Slot == old.Slot {
		t.Error("the old connection's slot was given out before it was drained")
	}
	if got := g.drain(); len(got) != 1 || got[0] != old.Slot || g.t.Counters().Replaced[TCP] != 1 {
		t.Errorf("drained %v", got)
	}
	g.want("its answer", g.one(syn.back().with(func(s *sent) { s.tcp |= tcpACK })), Found, r.Slot, packet.FlagReverse)
}

func TestTimeouts(t *testing.T) {
	syn, ack, fin, rst := uint8(tcpSYN), uint8(tcpACK), uint8(tcpFIN), uint8(tcpRST)
	both := func(s *sent) []*sent { return []*sent{s, s.back()} }
	echo := &sent{src: 1, dst: 2, proto: packet.ProtoICMP, typ: 8, sport: 1, dport: 1}
	esp := &sent{src: 1, dst: 2, proto: packet.ProtoESP}
	for name, tt := range map[string]struct {
		packets []*sent
		timeout time.Duration
	}{
		"tcp opening":     {[]*sent{tcp(1, 2, 3, 4, syn)}, 4 * time.Minute},
		"tcp established": {both(tcp(1, 2, 3, 4, ack)), 124 * time.Minute},
		"tcp closing":     {append(both(tcp(1, 2, 3, 4, ack)), tcp(1, 2, 3, 4, fin)), 4 * time.Minute},
		"tcp closed":      {both(tcp(1, 2, 3, 4, fin)), 2 * time.Minute},
		"tcp reset":       {[]*sent{tcp(1, 2, 3, 4, rst)}, 10 * time.Second},
		"udp one way":     {[]*sent{udp(1, 2, 3, 4)}, 2 * time.Minute},
		"udp two way":     {both(udp(1, 2, 3, 4)), 5 * time.Minute},
		"icmp":            {both(echo), time.Minute},
		"other one way":   {[]*sent{esp}, 2 * time.Minute},
		"other two way":   {both(esp), 10 * time.Minute},
	} {
		for _, swept := range []bool{false, true} {
			g := newRig(t, Options{Max: 16})
			r := g.burst(tt.packets...)[0]
			keep := g.now
			g.now += uint64(tt.timeout)
			if n := g.sweep(); n != 0 {
				t.Errorf("%s: ended after exactly %v", name, tt.timeout)
			}
			g.now += second / 1000
			last := tt.packets[len(tt.packets)-1]
			if swept {
				if n := g.sweep(); n != 1 || g.t.Live() != 0 {
					t.Errorf("%s: not ended after %v", name, tt.timeout)
				}
			}
			again := g.one(last)
			if again.Status != Created || again.Slot == r.Slot {
				t.Errorf("%s, swept %v: after %v: %v", name, swept, time.Duration(g.now-keep), again.Status)
			}
			if got := g.drain(); len(got) != 1 || got[0] != r.Slot || sum(g.t.Counters().Expired) != 1 {
				t.Errorf("%s: drained %v", name, got)
			}
		}
	}
}

// sweep looks at every slot at the rig's time.
func (g *rig) sweep() int {
	g.t.agedNs = g.now - g.t.sweepNs
	return g.t.Age(g.now, MaxSlots)
}

// Packets keep their flow alive for as long as they come.
func TestPacketsKeepFlowsAlive(t *testing.T) {
	g := newRig(t, Options{Max: 16})
	r := g.one(udp(1, 2, 3, 4))
	for range 100 {
		g.now += 119 * second
		g.sweep()
		g.want("packet", g.one(udp(1, 2, 3, 4)), Found, r.Slot, 0)
	}
}

// The millisecond counter wraps after 49.7 days, and the clock may be set back.
func TestTimeWrapsAndRunsBackwards(t *testing.T) {
	g := newRig(t, Options{Max: 16})
	g.now = (1<<32 - 500) * 1_000_000
	r := g.burst(udp(1, 2, 3, 4), udp(2, 1, 4, 3))[0]
	g.now += second
	g.want("across the wrap", g.one(udp(1, 2, 3, 4)), Found, r.Slot, 0)
	if g.sweep() != 0 {
		t.Error("ended across the wrap")
	}
	g.now -= 50 * second
	g.want("a bit late", g.one(udp(1, 2, 3, 4)), Found, r.Slot, 0)
	g.now += 50*second + 300*second
	g.want("the late packet did not make it older", g.one(udp(1, 2, 3, 4)), Found, r.Slot, 0)
	g.now -= 3600 * second // the clock is set back
	g.want("set back", g.one(udp(1, 2, 3, 4)), Found, r.Slot, 0)
	g.now += 301 * second
	r2 := g.one(udp(1, 2, 3, 4))
	g.want("ages by the clock as it is now", r2, Created, r2.Slot, packet.FlagNewFlow)

	g.now -= 3600 * second
	if g.sweep() != 0 {
		t.Error("ended by a clock set back")
	}
	g.now += 121 * second
	if n := g.sweep(); n != 1 {
		t.Errorf("%d flows ended, that a sweep had taken back in time", n)
	}
}

// Age does a pass per Options.Sweep, no more than its budget, and makes nothing
// of a clock that stands or runs backwards.
func TestAgeIsBounded(t *testing.T) {
	g := newRig(t, Options{Max: 1000, Sweep: time.Second, Timeouts: Timeouts{UDPOneWay: time.Millisecond}})
	for i := range uint32(900) {
		g.one(udp(i, 5000, 1, 1))
	}
	g.t.Age(g.now, 0)
	g.now += second / 10
	if n := g.t.Age(g.now, 1000); n != 90 {
		t.Errorf("a tenth of the time: %d of 900", n)
	}
	if n := g.t.Age(g.now, 1000); n != 0 {
		t.Errorf("no time: %d", n)
	}
	if n := g.t.Age(g.now-second, 1000); n != 0 {
		t.Errorf("back in time: %d", n)
	}
	g.now += 100 * second
	if n := g.t.Age(g.now, 10); n != 10 {
		t.Errorf("budget of 10: %d", n)
	}
	if n := g.t.Age(g.now+second, -1); n != 0 {
		t.Errorf("negative budget: %d", n)
	}
	g.now += second
	before := g.t.Live()
	for range 500 { // 1.44 slots each
		g.now += 1_600_000
		g.t.Age(g.now, 64)
	}
	if n := before - g.t.Live(); n < 715 || n > 725 {
		t.Errorf("0.8 of the time in small steps: %d of 900", n)
	}
	for range 20 {
		g.now += second / 64
		g.t.Age(g.now, 64)
	}
	if g.t.Live() != 0 || len(g.drain()) != 900 {
		t.Errorf("%d live after a pass", g.t.Live())
	}
}
