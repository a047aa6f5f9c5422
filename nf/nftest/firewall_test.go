package nftest

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"sfc/dataplane/packet"
)

// seg is a TCP segment of a table case; flow 1, from the origin unless it says
// otherwise.
type seg struct {
	back     bool // from the answering side
	flags    uint8
	seq, ack uint32
	win      uint16
	options  []byte
	data     int
}

func (s seg) packet() Packet {
	spec := tcp
	spec.TCPFlags, spec.Seq, spec.Ack, spec.Window = s.flags, s.seq, s.ack, s.win
	spec.TCPOptions, spec.Payload = s.options, make([]byte, s.data)
	if s.back {
		spec.Src, spec.Dst, spec.SPort, spec.DPort = spec.Dst, spec.Src, spec.DPort, spec.SPort
	}
	return inFlow(spec.Packet(0), 1, s.back)
}

func segs(list ...seg) (out []Packet) {
	for _, s := range list {
		out = append(out, s.packet())
	}
	return out
}

// opened is a handshake: the origin's next byte is 1001, the answer's 5001, and
// both offer 1000 bytes.
var opened = segs(
	seg{flags: syn, seq: 1000, win: 1000},
	seg{back: true, flags: synAck, seq: 5000, ack: 1001, win: 1000},
	seg{flags: ack, seq: 1001, ack: 5001, win: 1000},
)

// scaled is the same with windows of 1000 * 2^7 and 1000 * 2^2 bytes.
var scaled = segs(
	seg{flags: syn, seq: 1000, win: 1000, options: []byte{1, 3, 3, 7}},
	seg{back: true, flags: synAck, seq: 5000, ack: 1001, win: 1000, options: []byte{1, 3, 3, 2}},
	seg{flags: ack, seq: 1001, ack: 5001, win: 1000},
)

// then is a case that goes on after packets that pass.
func then(name string, first []Packet, rest []Packet, want ...Want) Case {
	return Case{Name: name, Config: `{}`, Packets: slices.Concat(first, rest),
		Want: append(slices.Repeat([]Want{Next}, len(first)), want...)}
}

// fragmented returns the packet as if fragments of it followed.
func fragmented(p Packet) Packet {
	frame := slices.Clone(p.Frame)
	frame[20] |= 0x20
	packet.SetChecksums(frame)
	again := NewPacket(frame, p.RxNs)
	again.Flow, again.Flags = p.Flow, again.Flags|p.Flags&packet.FlagReverse
	return again
}

var (
	denied, invalidState, outOfWindow, noFlow, synLimit = Drop(1), Drop(2), Drop(3), Drop(4), Drop(5)

	otherHost = netip.MustParseAddr("10.0.0.99")

	fin = uint8(0x11) // FIN,ACK
)

var firewallCases = []Case{
	{Name: "a permitted flow passes both ways, a denied one neither",
		Config:  `{"default":"deny","rules":[{"action":"permit","src":"10.0.0.0/8"}]}`,
		Packets: []Packet{inFlow(udp.Packet(0), 1, false), inFlow(reversed(udp), 1, true), inFlow(reversed(udp), 2, false), inFlow(udp6.Packet(0), 3, false)},
		Want:    []Want{Next, Next, denied, denied}, Counters: []uint64{1, 0, 0}},
	{Name: "a flow that was denied begins when the other side may",
		Config:  `{"default":"deny","rules":[{"action":"permit","src":"10.0.0.0/8"}]}`,
		Packets: []Packet{inFlow(reversed(udp), 2, false), inFlow(udp.Packet(0), 2, true), inFlow(reversed(udp), 2, false)},
		Want:    []Want{denied, Next, Next}, Counters: []uint64{1, 0, 0}},
	{Name: "no flow, no passage", Config: `{}`, Packets: []Packet{udp.Packet(0), laterFragment(tcp), arp}, Want: []Want{noFlow, noFlow, noFlow}},
	{Name: "errors pass about what was permitted", Config: `{"rules":[{"action":"deny","dst_ports":1}]}`,
		Packets: []Packet{inFlow(udp.Packet(0), 1, false), errorAbout(1), errorAbout(2)}, Want: []Want{Next, Next, denied}, Counters: []uint64{1, 0, 1}},
	{Name: "handshake, data, end", Config: `{}`,
		Packets: slices.Concat(opened, segs(
			seg{flags: ack, seq: 1001, ack: 5001, win: 1000, data: 500},
			seg{back: true, flags: ack, seq: 5001, ack: 1501, win: 1000, data: 1000},
			seg{flags: fin, seq: 1501, ack: 6001, win: 1000},
			seg{back: true, flags: fin, seq: 6001, ack: 1502, win: 1000},
			seg{flags: ack, seq: 1502, ack: 6002, win: 1000})),
		Want: nexts[:8], Counters: []uint64{1, 1, 0}},
	{Name: "nothing but a SYN begins", Config: `{}`,
		Packets: segs(seg{flags: ack, seq: 1}, seg{flags: synAck, seq: 1}, seg{flags: rst, seq: 1}, seg{flags: fin, seq: 1}, seg{flags: syn | 1, seq: 1}, seg{flags: syn | rst, seq: 1}, seg{flags: 0, seq: 1}, seg{flags: syn, seq: 1}),
		Want:    append(slices.Repeat([]Want{invalidState}, 7), Next), Counters: []uint64{1, 0, 0}},
	then("the answer acknowledges the SYN", opened[:1], segs(
		seg{back: true, flags: synAck, seq: 5000, ack: 1000, win: 9}, seg{back: true, flags: synAck, seq: 5000, ack: 1002, win: 9},
		seg{back: true, flags: ack, seq: 5000, ack: 1001, win: 9}, seg{flags: ack, seq: 1001, ack: 5001, win: 9},
		seg{back: true, flags: syn, seq: 5000, win: 9}, seg{back: true, flags: synAck, seq: 5000, ack: 1001, win: 9}),
		outOfWindow, outOfWindow, Next, invalidState, Next, Next),
	then("SYN with data, which may be acknowledged or not", segs(seg{flags: syn, seq: 1000, win: 1000, data: 10}), segs(
		seg{back: true, flags: synAck, seq: 5000, ack: 1012, win: 9}, seg{back: true, flags: synAck, seq: 5000, ack: 1001, win: 9}), outOfWindow, Next),
	then("SYN again, with another number", opened[:1], segs(
		seg{flags: syn, seq: 7000, win: 1000}, seg{back: true, flags: synAck, seq: 5000, ack: 1001, win: 1000}, seg{back: true, flags: synAck, seq: 5000, ack: 7001, win: 1000}),
		Next, outOfWindow, Next),
	then("refused", opened[:1], segs(
		seg{back: true, flags: rst, seq: 0, win: 0}, seg{back: true, flags: rst | ack, seq: 0, ack: 999}, seg{back: true, flags: rst | ack, seq: 0, ack: 1001},
		seg{back: true, flags: synAck, seq: 5000, ack: 1001, win: 9}, seg{flags: syn, seq: 9000, win: 1000}),
		invalidState, outOfWindow, Next, invalidState, Next),
	then("given up", opened[:1], segs(seg{flags: rst, seq: 1002}, seg{flags: rst, seq: 1001}, seg{flags: ack, seq: 1001, ack: 1}), Next, Next, invalidState),
	then("segments in and out of the window", opened, segs(
		seg{flags: ack, seq: 2001, ack: 5001, win: 1000, data: 1}, // begins at its edge: a probe
		seg{flags: ack, seq: 2003, ack: 5001, win: 1000, data: 1},
		seg{flags: ack, seq: 1001, ack: 5001, win: 1000, data: 1000}, // late, within the largest window
		seg{flags: ack, seq: 901, ack: 5001, win: 1000, data: 100},
		seg{back: true, flags: ack, seq: 5001, ack: 2003, win: 1000}, // acknowledges what was not sent
		seg{back: true, flags: ack, seq: 5001, ack: 2002, win: 1000}),
		Next, outOfWindow, Next, outOfWindow, outOfWindow, Next),
	then("scaled windows", scaled, segs(
		seg{back: true, flags: ack, seq: 5001 + 127000, ack: 1001, win: 1000, data: 1000},
		seg{back: true, flags: ack, seq: 5001 + 128002, ack: 1001, win: 1000, data: 1},
		seg{flags: ack, seq: 1001 + 4000, ack: 5001, win: 1000, data: 1},
		seg{flags: ack, seq: 1001 + 4002, ack: 5001, win: 1000, data: 1}),
		Next, outOfWindow, Next, outOfWindow),
	then("one side does not scale", segs(
		seg{flags: syn, seq: 1000, win: 1000, options: []byte{1, 3, 3, 7}},
		seg{back: true, flags: synAck, seq: 5000, ack: 1001, win: 1000},
		seg{flags: ack, seq: 1001, ack: 5001, win: 1000}), segs(seg{back: true, flags: ack, seq: 5001 + 1001, ack: 1001, win: 1000, data: 1}), outOfWindow),
	then("an old acknowledgement", slices.Concat(scaled, segs(
		seg{back: true, flags: ack, seq: 5001, ack: 1001, win: 1000, data: 1400},
		seg{back: true, flags: ack, seq: 5001 + 100000, ack: 1001, win: 1000, data: 1400})), segs(
		seg{flags: ack, seq: 1001, ack: ^uint32(127999 - 106401), win: 1000}, // 128000 before 106401
		seg{flags: ack, seq: 1001, ack: ^uint32(128000 - 106401), win: 1000}),
		Next, outOfWindow),
	then("RST in the window only", opened, segs(
		seg{back: true, flags: rst, seq: 6100}, seg{back: true, flags: rst, seq: 3900}, seg{back: true, flags: rst | ack, seq: 5001}, seg{flags: ack, seq: 1001, ack: 5001}),
		outOfWindow, outOfWindow, Next, invalidState),
	then("errors quote a segment under way", opened, []Packet{
		quoting(seg{flags: ack, seq: 1001, ack: 5001, data: 9}, 0), quoting(seg{flags: ack, seq: 1001, ack: 5001}, 1),
		quoting(seg{flags: ack, seq: 1001, ack: 5001}, 0), quoting(seg{flags: ack, seq: 1002, ack: 5001}, 0),
		quoting(seg{back: true, flags: ack, seq: 5001}, 0), quoting(seg{back: true, flags: ack, seq: 4001}, 0), quoting(seg{back: true, flags: ack, seq: 4000}, 0),
		cut(quoting(seg{flags: ack, seq: 1001, ack: 5001}, 0), 14+20+8+20+7)},
		Next, Next, Next, outOfWindow, Next, Next, outOfWindow, outOfWindow),
	then("errors about a SYN", opened[:1], []Packet{
		quoting(seg{flags: syn, seq: 1000}, 0), quoting(seg{flags: syn, seq: 1001}, 0), quoting(seg{back: true, flags: syn, seq: 1000}, 0)},
		Next, outOfWindow, outOfWindow),
	then("numbers wrap", segs(
		seg{flags: syn, seq: 0xffffffff, win: 1000}, seg{back: true, flags: synAck, seq: 0xfffffff0, ack: 0, win: 1000}, seg{flags: ack, seq: 0, ack: 0xfffffff1, win: 1000}), segs(
		seg{back: true, flags: ack, seq: 0xfffffff1, ack: 0, win: 1000, data: 500}, seg{flags: ack, seq: 0, ack: 485, win: 1000, data: 900},
		seg{flags: ack, seq: 1100, ack: 485, win: 1000}),
		Next, Next, outOfWindow),
	then("a full receiver is probed", opened, segs(
		seg{flags: ack, seq: 1001, ack: 5001, win: 1000, data: 1000}, seg{back: true, flags: ack, seq: 5001, ack: 2001, win: 0},
		seg{flags: ack, seq: 2001, ack: 5001, win: 1000, data: 1}, seg{flags: ack, seq: 2003, ack: 5001, win: 1000, data: 1}),
		Next, Next, Next, outOfWindow),
	then("a new connection of the same ports after the end, not before", slices.Concat(opened, segs(seg{flags: fin, seq: 1001, ack: 5001, win: 1000})), segs(
		seg{flags: syn, seq: 900000, win: 1000}, seg{back: true, flags: fin, seq: 5001, ack: 1002, win: 1000},
		seg{flags: syn, seq: 900000, win: 1000}, seg{back: true, flags: synAck, seq: 1, ack: 900001, win: 1000}),
		Next, Next, Next, Next),
	then("only a RST with the next number ends the connection", opened, segs(
		seg{back: true, flags: rst, seq: 5002}, seg{back: true, flags: rst, seq: 5900}, seg{flags: ack, seq: 1001, ack: 5001, win: 1000, data: 10},
		seg{flags: rst, seq: 1001}, seg{back: true, flags: ack, seq: 5001, ack: 1011, win: 1000}, seg{flags: rst, seq: 1011}, seg{back: true, flags: ack, seq: 5001, ack: 1011}),
		Next, Next, Next, Next, Next, Next, invalidState),
	then("a SYN in a connection is for the answering side to reject, and moves nothing", opened, segs(
		seg{flags: syn, seq: 777000, win: 9}, seg{back: true, flags: ack, seq: 5001, ack: 1001, win: 1000}, // the challenge
		seg{flags: rst, seq: 1001}, seg{flags: syn, seq: 777000, win: 9}, seg{back: true, flags: synAck, seq: 1, ack: 777001, win: 9}),
		Next, Next, Next, Next, Next),
	then("both open at the same time", opened[:1], segs(
		seg{back: true, flags: syn, seq: 5000, win: 1000}, seg{flags: synAck, seq: 1000, ack: 5002, win: 1000}, seg{flags: synAck, seq: 1000, ack: 5001, win: 1000},
		seg{flags: syn, seq: 1000, win: 1000}, seg{back: true, flags: synAck, seq: 5000, ack: 1001, win: 1000}, seg{flags: ack, seq: 1001, ack: 5001, win: 1000, data: 1000},
		seg{flags: ack, seq: 2003, ack: 5001, win: 1000}),
		Next, outOfWindow, Next, Next, Next, Next, outOfWindow),
	then("a forged SYN of the answering side does not keep it from answering", opened[:1], append(segs(
		seg{back: true, flags: syn, seq: 777, win: 1}), append([]Packet{quoting(seg{back: true, flags: syn, seq: 777}, 0), quoting(seg{back: true, flags: syn, seq: 778}, 0)}, opened[1:]...)...),
		Next, Next, outOfWindow, Next, Next),
	then("a SYN of the answering side is nothing", opened, segs(seg{back: true, flags: syn, seq: 5001, win: 9}), invalidState),
	then("the answering side has an older connection, and learns that it is over", opened[:1], segs(
		seg{back: true, flags: ack, seq: 99, ack: 88, win: 9}, seg{back: true, flags: ack, seq: 99, ack: 88, win: 9, data: 1}, seg{flags: rst, seq: 88},
		seg{flags: syn, seq: 1000, win: 1000}, seg{back: true, flags: synAck, seq: 5000, ack: 1001, win: 1000}),
		Next, invalidState, Next, Next, Next),
	{Name: "pickup: an ACK takes the connection over, both ways, without windows; nothing else does", Config: `{"pickup":"loose"}`,
		Packets: segs(
			seg{flags: fin, seq: 70, ack: 7}, seg{flags: rst, seq: 70, ack: 7}, seg{flags: synAck, seq: 70, ack: 7},
			seg{flags: ack, seq: 70, ack: 7, win: 9, data: 5}, seg{back: true, flags: ack, seq: 4000, ack: 9000, win: 9},
			seg{back: true, flags: rst, seq: 1}, seg{back: true, flags: ack, seq: 4000, ack: 75}),
		Want: []Want{invalidState, invalidState, invalidState, Next, Next, Next, invalidState}, Counters: []uint64{1, 0, 0, 1}},
	{Name: "pickup asks the rules, and a closed connection is not picked up", Config: `{"pickup":"loose","default":"deny","rules":[{"action":"permit","src":"10.0.0.0/8"}]}`,
		Packets: segs(seg{back: true, flags: ack, seq: 1, ack: 1}, seg{flags: ack, seq: 1, ack: 1}, seg{flags: rst, seq: 1}, seg{flags: ack, seq: 1, ack: 1}),
		Want:    []Want{denied, Next, Next, invalidState}},
	{Name: "rules are counted, the default and those far behind too",
		Config: `{"default":"deny","rules":[{"action":"permit","proto":"tcp"},{"action":"deny","src":"10.0.0.0/8","dst_ports":53},{"action":"permit","proto":"udp"}]}`,
		Packets: []Packet{seg{flags: ack}.packet(), seg{flags: syn, seq: 1}.packet(), seg{flags: syn, seq: 1}.packet(), inFlow(udp.Packet(0), 2, false), inFlow(udp.Packet(1), 2, false),
			inFlow(udp6.Packet(0), 3, false), inFlow(udp6.Packet(0), 3, false), inFlow(with(udp, func(s *Spec) { s.Proto = 47 }), 4, false), inFlow(arp, 5, false)},
		Want:     []Want{invalidState, Next, Next, denied, denied, Next, Next, denied, denied},
		Counters: []uint64{2, 0, 0, 0, 0, 0, 1, 0, 2, 2, 1, 0}},
	{Name: "300 rules", Config: lastRules(300), Packets: []Packet{inFlow(with(udp, func(s *Spec) { s.DPort = 255 }), 1, false), inFlow(with(udp, func(s *Spec) { s.DPort = 256 }), 2, false),
		inFlow(with(udp, func(s *Spec) { s.DPort = 299 }), 3, false), inFlow(with(udp, func(s *Spec) { s.DPort = 300 }), 4, false)},
		Want: []Want{denied, denied, denied, Next}, Counters: append([]uint64{1, 0, 0, 0, 0, 0, 1, 2}, append(make([]uint64, 255), 1)...)},
	{Name: "half-open connections of a source", Config: `{"syn_limits":{"per_source":{"rate":1,"burst":2}}}`,
		Packets: []Packet{from(hostA, 1, 0), from(hostA, 2, 0), from(hostA, 3, 0), from(otherHost, 4, 0), from(hostA, 3, 999), from(hostA, 3, 1000), from(hostA, 5, 1000)},
		Want:    []Want{Next, Next, synLimit, Next, synLimit, Next, synLimit}, Counters: []uint64{4, 0, 0, 0, 3, 0}},
	{Name: "who completes handshakes may go on, and what is open is left alone", Config: `{"syn_limits":{"per_source":{"rate":1,"burst":1},"per_destination":{"rate":1,"burst":2}}}`,
		Packets: slices.Concat(handshakeOf(1), handshakeOf(2), handshakeOf(3), []Packet{from(hostA, 4, 0), from(hostA, 5, 0)}, inFlows(1, segs(seg{flags: ack, seq: 1001, ack: 5001, data: 1}))),
		Want:    append(slices.Repeat([]Want{Next}, 10), synLimit, Next), Counters: []uint64{4, 3, 0, 0, 1, 0}},
	{Name: "unless all that is new counts", Config: `{"syn_limits":{"per_destination":{"rate":1,"burst":2,"count":"new","prefix4":0}}}`,
		Packets: slices.Concat(handshakeOf(1), handshakeOf(2), []Packet{from(otherHost, 3, 0)}, inFlows(1, segs(seg{flags: ack, seq: 1001, ack: 5001, data: 1}))),
		Want:    append(slices.Repeat([]Want{Next}, 6), synLimit, Next), Counters: []uint64{2, 2, 0, 0, 0, 1}},
	{Name: "a SYN that the destination refuses costs its source nothing", Config: `{"syn_limits":{"per_source":{"rate":1,"burst":2},"per_destination":{"rate":1,"burst":1}}}`,
		Packets: []Packet{from(hostA, 1, 0), from(hostA, 2, 0), from(hostA, 3, 0), from(hostA, 3, 1000), from(hostA, 4, 2000)},
		Want:    []Want{Next, synLimit, synLimit, Next, Next}, Counters: []uint64{3, 0, 0, 0, 0, 2}},
	{Name: "repeated SYNs count, those that the rules deny do not", Config: `{"rules":[{"action":"deny","dst_ports":22}],"syn_limits":{"per_source":{"rate":1,"burst":2}}}`,
		Packets: []Packet{inFlow(with(tcp, func(s *Spec) { s.DPort = 22 }), 9, false), from(hostA, 1, 0), from(hostA, 1, 0), from(hostA, 1, 0)},
		Want:    []Want{denied, Next, Next, synLimit}},
	{Name: "a limit without a rate", Config: `{"syn_limits":{"per_source":{"burst":2}}}`, Refused: true},
	{Name: "a limit per something else", Config: `{"syn_limits":{"per_port":{"rate":2}}}`, Refused: true},
	{Name: "pickup of a third kind", Config: `{"pickup":"any"}`, Refused: true},
	then("fragmented segments end the checks of windows", opened, []Packet{
		fragmented(seg{flags: ack, seq: 1001, ack: 5001, win: 1000, data: 8}.packet()), inFlow(laterFragment(tcp), 1, false),
		seg{back: true, flags: ack, seq: 5001, ack: 1801, win: 1000}.packet()}, Next, Next, Next),
	then("headers that lie", opened, []Packet{
		edit(seg{flags: ack, seq: 1001, ack: 5001}.packet(), 46, 0x40), edit(seg{flags: ack, seq: 1001, ack: 5001}.packet(), 46, 0x60),
		cut(seg{flags: ack, seq: 1001, ack: 5001}.packet(), 53)}, invalidState, invalidState, invalidState),
	then("another protocol in its flow", opened, []Packet{inFlow(udp.Packet(0), 1, false)}, invalidState),
	{Name: "unknown field", Config: `{"rule":[]}`, Refused: true},
	{Name: "families mixed", Config: `{"rules":[{"action":"deny","src":"10.0.0.0/8","dst":"2001:db8::/32"}]}`, Refused: true},
	{Name: "1024 rules", Config: manyRules(1024), Refused: true},
	{Name: "the most tables possible", Config: worstRules(), Packets: []Packet{inFlow(udp.Packet(0), 1, false), inFlow(udp6.Packet(0), 2, false)}, Want: []Want{Next, Next}},
}

// from is the SYN of a flow, ms after the beginning.
func from(src netip.Addr, flow uint32, ms uint64) Packet {
	p := with(tcp, func(s *Spec) { s.Src, s.SPort = src, uint16(flow) })
	p.RxNs = ms * 1e6
	return inFlow(p, flow, false)
}

// quoting is an ICMP error about a segment of flow 1, whose IP header has some
// words of options.
func quoting(s seg, options int) Packet {
	of := s.packet()

	quote := slices.Clone(of.Frame[packet.EtherLen : packet.EtherLen+packet.IPv4Len])
	quote[0] += byte(options)
	quote = append(append(quote, make([]byte, 4*options)...), of.Frame[of.L4:of.L4+8]...)
	frame := Spec{Src: hostB, Dst: hostA, Proto: packet.ProtoICMP, Payload: quote}.Frame()
	frame[packet.EtherLen+packet.IPv4Len] = 3 // destination unreachable
	return inFlow(NewPacket(frame, 0), 1, !s.back)
}

// inFlows puts packets into another flow.
func inFlows(flow uint32, list []Packet) []Packet {
	for i := range list {
		list[i].Flow = flow
	}
	return list
}

// handshakeOf is the handshake of a flow.
func handshakeOf(flow uint32) []Packet { return inFlows(flow, slices.Clone(opened)) }

// lastRules are n rules, of which number i denies UDP to port i.
func lastRules(n int) string {
	rules := make([]string, n)
	for i := range rules {
		rules[i] = fmt.Sprintf(`{"action":"deny","proto":"udp","dst_ports":%d}`, i)
	}
	return `{"rules":[` + strings.Join(rules, ",") + `]}`
}

// reversed is a packet from s's destination to its source.
func reversed(s Spec) Packet {
	s.Src, s.Dst, s.SPort, s.DPort = s.Dst, s.Src, s.DPort, s.SPort
	return s.Packet(0)
}

// edit returns the packet with one byte changed, as parsed before.
func edit(p Packet, i int, b byte) Packet {
	p.Frame = slices.Clone(p.Frame)
	p.Frame[i] = b
	return p
}

// Random traffic has errors about connections of both families that pass, and some
// that do not.
func TestFirewallRelated(t *testing.T) {
	seed := testSeed(t)
	all := runners(t, "firewall")
	seen := map[string]int{}
	for i := range uint64(20) {
		packets := newGen(seed+i).talks(t, 2000)
		for k, r := range Compare(t, []byte(`{}`), packets, all...) {
			if p := packets[k]; p.Flags&packet.FlagICMPError != 0 && p.Flow != 0 {
				seen[fmt.Sprintf("ip6=%v reason=%d", p.Flags&packet.FlagIPv6 != 0, r.Reason)]++
			}
		}
	}
	for _, want := range []string{"ip6=false reason=0", "ip6=true reason=0", "ip6=false reason=3", "ip6=true reason=3"} {
		if seen[want] == 0 {
			t.Errorf("%v: no error with %s", seen, want)
		}
	}
	t.Log(seen)
}

// While SYNs of random sources exceed every limit, no packet of connections that
// were open before is dropped, and new flows of other protocols go on.
func TestFirewallFloodSparesEstablished(t *testing.T) {
	const config = `{"syn_limits":{"per_source":{"rate":1,"burst":1,"max":16},"per_destination":{"rate":10,"burst":500}}}`
	open, other := connections(200, false), randomFlows(3000, false)
	var packets []Packet
	for _, p := range open {
		packets = append(packets, handshake(p)...)
	}
	established := len(packets)
	for i, p := range tcpData(6000, false) {
		p.Frame[p.L4+13] = syn
		copy(p.Frame[30:34], []byte{172, 16, 0, 1}) // one victim
		p.Flow = uint32(10000 + i)
		data, datagram := open[i%len(open)], other[i%len(other)]
		datagram.Flow += 20000
		packets = append(packets, p, data, datagram)
	}
	floods := 0
	for i, r := range Compare(t, []byte(config), packets, runners(t, "firewall")...) {
		switch flood := i >= established && (i-established)%3 == 0; {
		case flood && r.Verdict == packet.Drop:
			floods++
		case !flood && r.Verdict != packet.Next && i < len(packets)/2: // then Compare ends flows
			t.Fatalf("packet %d of an open flow: %v(%d)", i, r.Verdict, r.Reason)
		}
	}
	if floods < 5000 {
		t.Errorf("%d of 6000 SYNs dropped", floods)
	}
}

// A flow that has ended takes its permission with it: its slot is another's.
func TestFirewallForgetsEndedFlows(t *testing.T) {
	for _, r := range runners(t, "firewall") {
		if err := r.Configure([]byte(`{"default":"deny","rules":[{"action":"permit","src":"10.0.0.0/8"}]}`)); err != nil {
			t.Fatal(err)
		}
		out, back := inFlow(udp.Packet(0), 1, false), inFlow(reversed(udp), 1, true)
		before := r.Process([]Packet{out, back})
		r.FlowEnd([]uint32{1})
		if after := r.Process([]Packet{back}); before[1].Verdict != packet.Next || after[0].Verdict != packet.Drop || after[0].Reason != 1 {
			t.Errorf("%T: %v, then %v", r, before, after)
		}
	}
}

// Every prefix of options is read without trouble: 40 bytes of any content.
func TestFirewallOptions(t *testing.T) {
	g := newGen(testSeed(t))
	all := runners(t, "firewall")
	var packets []Packet
	for i := range 2000 {
		options := binary.LittleEndian.AppendUint64(nil, g.Uint64())
		for k := range options {
			options[k] &= 3
		}
		options = options[:g.IntN(9)]
		flow := uint32(i/4) + 1
		for k, s := range []seg{
			{flags: syn, seq: 1000, win: 1000, options: options},
			{back: true, flags: synAck, seq: 5000, ack: 1001, win: 1000, options: []byte{3, 3, 1}},
			{flags: ack, seq: 1001, ack: 5001, win: 1000},
			{back: true, flags: ack, seq: uint32(5001 + 1000<<g.IntN(5)), ack: 1001, win: 1000, data: 1},
		} {
			if i%4 == k {
				p := s.packet()
				p.Flow = flow
				packets = append(packets, p)
			}
		}
	}
	seen := map[packet.Verdict]int{}
	for _, r := range Compare(t, []byte(`{}`), packets, all...) {
		seen[r.Verdict]++
	}
	if seen[packet.Drop] == 0 || seen[packet.Next] == 0 {
		t.Errorf("verdicts %v: too narrow a world", seen)
	}
}
