package nftest

import (
	"net/netip"
	"slices"
	"testing"

	"sfc/dataplane/packet"
)

// natIP are the addresses of the tables.
var natIP = struct{ inside, inside2, router, outside, remote, hop netip.Addr }{
	hostA, netip.MustParseAddr("10.0.0.6"), netip.MustParseAddr("10.9.9.9"),
	netip.MustParseAddr("203.0.113.1"), hostB, netip.MustParseAddr("198.51.100.1"),
}

// quoteOf is the IP packet of a frame, cut behind n bytes of its transport header.
func quoteOf(frame []byte, n int) []byte {
	return slices.Clone(frame[packet.EtherLen:][:packet.IPv4Len+n])
}

// errorsIn are ICMP errors from the outside about a packet that went out.
func errorsIn(proto uint8, inside, outside, remote string, n int) []step {
	in, out := frame4(proto, inside, remote), frame4(proto, outside, remote)
	to, was := at4(outside).Addr(), at4(inside).Addr()
	return []step{
		{in: in, out: out},
		{in: icmpError(natIP.hop, to, 11, 0, quoteOf(out, n)), out: icmpError(natIP.hop, was, 11, 0, quoteOf(in, n))},
		{in: icmpError(natIP.remote, to, 3, 3, quoteOf(out, n)), out: icmpError(natIP.remote, was, 3, 3, quoteOf(in, n))},
	}
}

var natICMPCases = []Case{
	steps("errors about UDP", natWith(`,"ports":"5000-5000"`), errorsIn(udpProto, "10.0.0.1:4000", "203.0.113.1:5000", "192.0.2.9:53", 8)...),
	steps("errors about TCP, eight bytes", natWith(`,"ports":"5000-5000"`), errorsIn(tcpProto, "10.0.0.1:4000", "203.0.113.1:5000", "192.0.2.9:80", 8)...),
	steps("errors about TCP, all of it", natWith(`,"ports":"5000-5000"`), errorsIn(tcpProto, "10.0.0.1:4000", "203.0.113.1:5000", "192.0.2.9:80", 52)...),
	steps("errors about TCP, the ports alone", natWith(`,"ports":"5000-5000"`), errorsIn(tcpProto, "10.0.0.1:4000", "203.0.113.1:5000", "192.0.2.9:80", 4)...),
	steps("errors about an echo", natWith(`,"ports":"5000-5000"`), errorsIn(packet.ProtoICMP, "10.0.0.1:4000", "203.0.113.1:5000", "192.0.2.9:5000", 8)...),
	steps("errors about GRE", natWith(""), errorsIn(47, "10.0.0.1:0", "203.0.113.1:0", "192.0.2.9:0", 8)...),
	steps("errors from the inside", natWith(""),
		step{in: frame4(udpProto, "10.0.0.1:4000", "192.0.2.9:53"), out: frame4(udpProto, "203.0.113.1:4000", "192.0.2.9:53")},
		step{in: icmpError(natIP.inside, natIP.remote, 3, 3, quoteOf(frame4(udpProto, "192.0.2.9:53", "10.0.0.1:4000"), 8)),
			out: icmpError(natIP.outside, natIP.remote, 3, 3, quoteOf(frame4(udpProto, "192.0.2.9:53", "203.0.113.1:4000"), 8))},
		step{in: icmpError(natIP.router, natIP.remote, 11, 0, quoteOf(frame4(udpProto, "192.0.2.9:53", "10.0.0.1:4000"), 8)),
			out: icmpError(natIP.outside, natIP.remote, 11, 0, quoteOf(frame4(udpProto, "192.0.2.9:53", "203.0.113.1:4000"), 8))}),
	steps("errors on the way of a hairpin", natWith(`,"filtering":"endpoint_independent"`),
		step{in: frame4(udpProto, "10.0.0.1:4000", "192.0.2.9:53"), out: frame4(udpProto, "203.0.113.1:4000", "192.0.2.9:53")},
		step{in: frame4(udpProto, "10.0.0.6:4001", "203.0.113.1:4000"), out: frame4(udpProto, "203.0.113.1:4001", "10.0.0.1:4000")},
		step{in: icmpError(natIP.inside, natIP.outside, 3, 3, quoteOf(frame4(udpProto, "203.0.113.1:4001", "10.0.0.1:4000"), 8)),
			out: icmpError(natIP.outside, natIP.inside2, 3, 3, quoteOf(frame4(udpProto, "10.0.0.6:4001", "203.0.113.1:4000"), 8))}),
	steps("errors that are made up", natWith(""),
		step{in: frame4(udpProto, "10.0.0.1:4000", "192.0.2.9:53"), out: frame4(udpProto, "203.0.113.1:4000", "192.0.2.9:53")},
		step{in: icmpError(natIP.hop, natIP.outside, 11, 0, quoteOf(frame4(udpProto, "203.0.113.1:4001", "192.0.2.9:53"), 8)), drop: natNoFlow},
		step{in: icmpError(natIP.hop, natIP.inside, 11, 0, quoteOf(frame4(udpProto, "10.0.0.1:4000", "192.0.2.9:53"), 8)), drop: natWrong},
		step{in: icmpError(natIP.hop, natIP.inside, 11, 0, quoteOf(frame4(udpProto, "203.0.113.1:4000", "192.0.2.9:53"), 8)), drop: natWrong},
		step{in: icmpError(natIP.hop, natIP.outside, 11, 0, quoteOf(frame4(udpProto, "192.0.2.9:53", "203.0.113.1:4000"), 8)), drop: natWrong}),
	steps("an error about what was dropped", natWith(""),
		step{in: frame4(udpProto, "192.0.2.9:53", "203.0.113.1:4000"), drop: natNoMapping},
		step{in: icmpError(natIP.router, natIP.remote, 3, 1, quoteOf(frame4(udpProto, "192.0.2.9:53", "203.0.113.1:4000"), 8)), drop: natNoMapping}),
	natFragments(),
	natNoSum(),
	natZeroSum(),
}

// natFragments are two fragments that go out and two that come back.
func natFragments() Case {
	var list []step
	for _, s := range answered(udpProto, "10.0.0.5:4000", "203.0.113.1:4001", "192.0.2.9:53") {
		first, rest := fragments(s.in, 77)
		newFirst, newRest := fragments(s.out, 77)
		list = append(list, step{in: first, out: newFirst}, step{in: rest, out: newRest})
	}
	_, lost := fragments(frame4(udpProto, "10.0.0.5:4000", "192.0.2.9:53"), 78)
	return steps("fragments", natWith(`,"ports":"4001-4001"`), append(list, step{in: lost, drop: natNoFlow})...)
}

// natNoSum is UDP without a checksum.
func natNoSum() Case {
	list := answered(udpProto, "10.0.0.5:4000", "203.0.113.1:4000", "192.0.2.9:53")
	for _, s := range list {
		withoutUDPSum(s.in)
		withoutUDPSum(s.out)
	}
	return steps("no checksum stays none", natWith(""), list...)
}

// natZeroSum is UDP whose sum becomes 0, for which 0xffff stands.
func natZeroSum() Case {
	in, out := frame4(udpProto, "10.0.0.5:4000", "192.0.2.9:53"), frame4(udpProto, "203.0.113.1:4000", "192.0.2.9:53")
	l4 := packet.EtherLen + packet.IPv4Len
	payload := uint16(out[l4+8])<<8 | uint16(out[l4+9])
	sum := uint16(out[l4+6])<<8 | uint16(out[l4+7])
	payload = ^packet.UpdateChecksum(^payload, 0, sum) // so much more, in ones' complement, makes the sum 0
	for _, b := range [][]byte{in, out} {
		b[l4+8], b[l4+9] = byte(payload>>8), byte(payload)
		packet.SetChecksums(b)
	}
	if out[l4+6] != 0xff || out[l4+7] != 0xff {
		panic("the sum is not what was wanted")
	}
	return steps("a sum of 0 is sent as 0xffff", natWith(""), step{in: in, out: out})
}

// TestNAT44MappingsEnd sees mappings go with the last flow that used them, and
// none before.
func TestNAT44MappingsEnd(t *testing.T) {
	for _, r := range runners(t, "nat44") {
		if err := r.Configure([]byte(natWith(`,"ports":"4000-4000"`))); err != nil {
			t.Fatal(err)
		}
		const minute = 60e9
		for i, s := range []struct {
			at     uint64 // minutes
			src    string
			dport  string
			reason uint16
		}{
			{0, "10.0.0.5:4000", "53", 0},
			{1, "10.0.0.5:4000", "54", 0},
			{2, "10.0.0.6:4000", "53", natExhausted},
			{3, "10.0.0.5:4000", "54", 0}, // port 53's flow has ended, after 2 minutes without an answer
			{4, "10.0.0.6:4000", "53", natExhausted},
			{9, "10.0.0.6:4000", "53", 0},
			{9, "10.0.0.5:4000", "54", natExhausted},
		} {
			for range 2 { // what has ended is seen to between bursts
				r.Process([]Packet{NewPacket(echo(5, natIP.hop, natIP.hop, 0), 1e15+s.at*minute)})
			}
			got := r.Process([]Packet{NewPacket(frame4(udpProto, s.src, "192.0.2.9:"+s.dport), 1e15+s.at*minute)})[0]
			if got.Reason != s.reason {
				t.Errorf("%T: packet %d: reason %d, want %d", r, i, got.Reason, s.reason)
			}
		}
	}
}
