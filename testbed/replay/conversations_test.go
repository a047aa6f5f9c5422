package replay

import (
	"net/netip"
	"testing"

	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
)

// fragmentOf cuts a part out of an IPv4 packet's body.
func fragmentOf(ip []byte, from, to int) []byte {
	p := append(append([]byte{}, ip[:packet.IPv4Len]...), ip[packet.IPv4Len+from:packet.IPv4Len+to]...)
	p[2], p[3] = byte(len(p)>>8), byte(len(p))
	p[4], p[5] = 0, 9
	p[6], p[7] = 0, byte(from/8)
	if packet.IPv4Len+to < len(ip) {
		p[6] = 0x20
	}
	f := ether(p)
	packet.SetChecksums(f)
	return f
}

// Who sends first is the client, whatever the protocol; what belongs to a
// conversation without showing its ports belongs to it even so.
func TestConversations(t *testing.T) {
	udp, ping := of(inside4, packet.ProtoUDP), of(inside4, packet.ProtoICMP)
	pong := reversed(ping)
	answer := ipPacket(pong, false, nil)
	answer[packet.IPv4Len] = 0 // echo reply
	big := ipPacket(reversed(udp), false, make([]byte, 40))
	router := netip.MustParseAddr("192.0.2.77")
	unknown := udp
	unknown.SrcPort = 9
	lone := flow.Tuple{Src: netip.MustParseAddr("10.9.9.9"), Dst: netip.MustParseAddr("192.0.2.10"), SrcPort: 1, DstPort: 2, Proto: packet.ProtoUDP}
	lonely := ipPacket(lone, false, make([]byte, 40))
	tests := []struct {
		name   string
		frame  []byte
		conv   string // equal ones are the same; "" for none
		form   form
		server bool
	}{
		{"tcp", ether(ipPacket(inside4, false, nil)), "tcp", whole, false},
		{"tcp answer", ether(ipPacket(reversed(inside4), false, nil)), "tcp", whole, true},
		{"tcp6", ether(ipPacket(inside6, false, nil)), "tcp6", whole, false},
		{"tcp6 answer", ether(ipPacket(reversed(inside6), false, nil)), "tcp6", whole, true},
		{"ping", ether(ipPacket(ping, false, nil)), "ping", whole, false},
		{"pong", ether(answer), "ping", whole, true},
		{"udp begun by the other", ether(ipPacket(reversed(udp), false, nil)), "udp", whole, false},
		{"udp answer", ether(ipPacket(udp, false, nil)), "udp", whole, true},
		{"first fragment", fragmentOf(big, 0, 16), "udp", fragment, false},
		{"later fragment", fragmentOf(big, 16, 48), "udp", fragment, false},
		{"error about the client's packet", ether(errorAbout(router, ipPacket(inside4, false, nil))), "tcp", quoting, true},
		{"error about the server's packet", ether(errorAbout(router, ipPacket(reversed(inside4), false, nil))), "tcp", quoting, false},
		{"error about nothing known", ether(errorAbout(unknown.Dst, ipPacket(unknown, false, nil))), "", quoting, true},
		{"fragment before its first", fragmentOf(lonely, 16, 48), "", fragment, false},
		{"its first", fragmentOf(lonely, 0, 16), "lone", fragment, false},
		{"not IP", make([]byte, 60), "", whole, false},
	}
	c, err := newConversations()
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]*conversation{"": nil}
	for _, tt := range tests {
		conv, form, server := c.of(1_000_000, tt.frame)
		if want, seen := known[tt.conv]; seen && conv != want || !seen && conv == nil || form != tt.form || server != tt.server {
			t.Errorf("%s: %+v, form %d, of the server %t", tt.name, conv, form, server)
		}
		known[tt.conv] = conv
	}
}

// awaiting has a tracker that knows a conversation's packets under way: the
// client's, in order.
func awaiting(n int) (*tracker, *conversation) {
	t := newTracker(Options{Clock: ClockCapture}.withDefaults(), &Report{Dropped: map[string]uint64{}})
	t.names = func(uint16, packet.Outcome) string { return "f.no" }
	conv := &conversation{tuple: inside4}
	for i := range n {
		t.add(&parcel{data: frame(i), conv: conv, s: steered{verdict: steerPath}})
	}
	return t, conv
}

// An answer waits until what it answers has arrived, and so do packets of
// another form; the client's next packet, and those of others, do not.
func TestMayGo(t *testing.T) {
	tr, conv := awaiting(1)
	answer := &parcel{port: portOut, conv: conv, data: frame(1)}
	for name, c := range map[string]struct {
		p   *parcel
		may bool
	}{
		"answer":        {answer, false},
		"next":          {&parcel{conv: conv}, true},
		"fragment":      {&parcel{conv: conv, form: fragment}, false},
		"another's":     {&parcel{port: portOut, conv: &conversation{}}, true},
		"nobody's":      {&parcel{port: portOut}, true},
		"minutes later": {&parcel{clockNs: 60e9}, true},
	} {
		if got := tr.mayGo(c.p); got != c.may {
			t.Errorf("%s may go: %t", name, got)
		}
	}
	if tr.apart = true; tr.mayGo(&parcel{clockNs: 60e9}) {
		t.Error("a packet may go while one from a minute ago is under way")
	}
	decide(tr, packet.Tx, 0)
	if tr.mayGo(answer) {
		t.Error("the answer may go before what it answers has come out")
	}
	tr.arrived(portOut, frame(0))
	if !tr.mayGo(answer) || !tr.mayGo(&parcel{clockNs: 60e9}) {
		t.Error("may not go, and nothing is under way")
	}
	for range window {
		tr.add(&parcel{data: frame(2), s: steered{verdict: steerPath}})
	}
	if tr.mayGo(&parcel{}) {
		t.Error("may go, and there is no room")
	}
}

// Packets of one conversation and port keep their order, whoever sends them;
// those of others may overtake.
func TestReordered(t *testing.T) {
	tr, conv := awaiting(3)
	tr.add(&parcel{data: frame(3), conv: &conversation{}, s: steered{verdict: steerPath}})
	tr.add(&parcel{data: frame(4), conv: conv, port: portOut, s: steered{verdict: steerPath}})
	first, second := watched(tr, 0), watched(tr, 1)
	first.decide(packet.Tx, 0, 2)
	second.decide(packet.Tx, 3, 1)
	for _, i := range []int{3, 0, 2} {
		if tr.arrived(portOut, frame(i)); tr.report.Reordered != 0 {
			t.Fatalf("packet %d is reordered", i)
		}
	}
	if tr.arrived(portOut, frame(1)); tr.report.Reordered != 1 {
		t.Errorf("%d reordered, want the one that was overtaken by the other worker's", tr.report.Reordered)
	}
	b := first.burst(packet.Tx, 4)
	b.InPort[0], b.Seq[0] = portOut, 0
	first.watcher.Decided(b, first.region)
	if tr.arrived(portOut, frame(4)); tr.report.Reordered != 1 || !tr.idle() {
		t.Errorf("%d reordered, idle %t", tr.report.Reordered, tr.idle())
	}
}

// What a worker sends by a port comes out in that order, whatever it belongs to.
func TestReorderedOnTheWay(t *testing.T) {
	tr := underwayTracker(3)
	decide(tr, packet.Tx, 0, 1, 2)
	for i, want := range []uint64{0, 1, 1} {
		if tr.arrived(portOut, frame([]int{1, 0, 2}[i])); tr.report.Reordered != want {
			t.Errorf("%d reordered, want %d", tr.report.Reordered, want)
		}
	}
}

// Silence of years counts as ten days; time goes back as the capture's does.
func TestClock(t *testing.T) {
	var c clock
	const day = maxGap / 10
	for i, tt := range []struct{ at, want int64 }{
		{1000 * day, 1000 * day}, {1010 * day, 1010 * day}, {2000 * day, 1020 * day}, {2001 * day, 1021 * day},
		{1999 * day, 1019 * day}, {5000 * day, 1029 * day}, {0, 0},
	} {
		if got := c.at(tt.at); got != tt.want {
			t.Errorf("%d: day %d, want %d", i, got/day, tt.want/day)
		}
	}
}
