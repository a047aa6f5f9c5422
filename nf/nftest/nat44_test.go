package nftest

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"sfc/dataplane/packet"
)

const (
	natOne = `{"inside":["10.0.0.0/8"],"pool":["203.0.113.1"]%s}` // one address outside

	natExhausted = 1
	natNoMapping = 2
	natFiltered  = 3
	natBind      = 4
	natCannot    = 5
	natWrong     = 6
	natNoFlow    = 7
	natNotInside = 8
)

func natWith(more string) string { return fmt.Sprintf(natOne, more) }

// at4 reads "10.0.0.5:4000".
func at4(text string) netip.AddrPort { return netip.MustParseAddrPort(text) }

// frame4 is a frame between two ends.
func frame4(proto uint8, src, dst string) []byte {
	a, b := at4(src), at4(dst)
	if proto == packet.ProtoICMP {
		return echo(8, a.Addr(), b.Addr(), a.Port())
	}
	return Spec{Src: a.Addr(), Dst: b.Addr(), SPort: a.Port(), DPort: b.Port(), Proto: proto, TCPFlags: syn, Payload: []byte("some payload, 32 bytes of it here")}.Frame()
}

// echo is an ICMP query with an identifier.
func echo(typ byte, src, dst netip.Addr, id uint16) []byte {
	frame := Spec{Src: src, Dst: dst, Proto: packet.ProtoICMP, Payload: []byte("ping of some length")}.Frame()
	l4 := packet.EtherLen + packet.IPv4Len
	frame[l4] = typ
	binary.BigEndian.PutUint16(frame[l4+4:], id)
	packet.SetChecksums(frame)
	return frame
}

// step is a packet of a case and what becomes of it: a frame, or a reason to drop.
type step struct {
	in, out []byte
	drop    uint16
}

// steps makes a case of them.
func steps(name, config string, list ...step) Case {
	c := Case{Name: name, Config: config, Apart: true}
	for i, s := range list {
		c.Packets = append(c.Packets, NewPacket(slices.Clone(s.in), uint64(i)*1e6))
		w := Want{Verdict: packet.Next, Frame: s.out}
		if s.drop != 0 {
			w = Drop(s.drop)
		}
		c.Want = append(c.Want, w)
	}
	return c
}

func passes(proto uint8, src, dst, newSrc, newDst string) step {
	return step{in: frame4(proto, src, dst), out: frame4(proto, newSrc, newDst)}
}

func refused(proto uint8, src, dst string, reason uint16) step {
	return step{in: frame4(proto, src, dst), drop: reason}
}

// answered is a packet that goes out, and its answer.
func answered(proto uint8, inside, outside, remote string) []step {
	return []step{passes(proto, inside, remote, outside, remote), passes(proto, remote, outside, remote, inside)}
}

const (
	tcpProto  = packet.ProtoTCP
	udpProto  = packet.ProtoUDP
	sctpProto = packet.ProtoSCTP
)

var natCases = []Case{
	steps("out and back, UDP", natWith(""), answered(udpProto, "10.0.0.5:4000", "203.0.113.1:4000", "192.0.2.9:53")...),
	steps("out and back, TCP", natWith(""), answered(tcpProto, "10.0.0.5:4000", "203.0.113.1:4000", "192.0.2.9:443")...),
	steps("out and back, SCTP keeps its ports", natWith(""), answered(sctpProto, "10.0.0.5:40", "203.0.113.1:40", "192.0.2.9:443")...),
	steps("out and back, echo", natWith(`,"ports":"5000-5000"`),
		step{in: echo(8, hostA, hostB, 7), out: echo(8, netip.MustParseAddr("203.0.113.1"), hostB, 5000)},
		step{in: echo(0, hostB, netip.MustParseAddr("203.0.113.1"), 5000), out: echo(0, hostB, hostA, 7)}),
	steps("a mapping is the same for all destinations", natWith(`,"ports":"4000-4001"`),
		passes(udpProto, "10.0.0.6:4000", "192.0.2.9:53", "203.0.113.1:4000", "192.0.2.9:53"),
		passes(udpProto, "10.0.0.5:4000", "192.0.2.9:53", "203.0.113.1:4001", "192.0.2.9:53"),
		passes(udpProto, "10.0.0.5:4000", "192.0.2.10:53", "203.0.113.1:4001", "192.0.2.10:53"),
		passes(udpProto, "10.0.0.5:4000", "192.0.2.10:54", "203.0.113.1:4001", "192.0.2.10:54"),
		refused(udpProto, "10.0.0.7:4000", "192.0.2.9:53", natExhausted),
		passes(tcpProto, "10.0.0.7:4000", "192.0.2.9:53", "203.0.113.1:4000", "192.0.2.9:53")), // another protocol's ports
	steps("ports below 1024 keep apart", natWith(`,"ports":"1023-1024"`),
		passes(udpProto, "10.0.0.5:9", "192.0.2.9:53", "203.0.113.1:1023", "192.0.2.9:53"),
		passes(udpProto, "10.0.0.5:5000", "192.0.2.9:53", "203.0.113.1:1024", "192.0.2.9:53"),
		refused(udpProto, "10.0.0.5:10", "192.0.2.9:53", natExhausted)),
	steps("subscribers have ports of their own", `{"inside":["10.0.0.0/30"],"pool":["203.0.113.1-203.0.113.2"],"ports":"1024-1027","ports_per_subscriber":2}`,
		passes(udpProto, "10.0.0.0:1025", "192.0.2.9:1", "203.0.113.1:1025", "192.0.2.9:1"),
		passes(udpProto, "10.0.0.1:1025", "192.0.2.9:1", "203.0.113.2:1025", "192.0.2.9:1"),
		passes(udpProto, "10.0.0.2:1027", "192.0.2.9:1", "203.0.113.1:1027", "192.0.2.9:1"),
		passes(udpProto, "10.0.0.2:1025", "192.0.2.9:1", "203.0.113.1:1026", "192.0.2.9:1"),
		refused(udpProto, "10.0.0.2:1024", "192.0.2.9:1", natExhausted),
		passes(udpProto, "10.0.0.3:1026", "192.0.2.9:1", "203.0.113.2:1026", "192.0.2.9:1")),
	steps("nobody is there", natWith(""), refused(udpProto, "192.0.2.9:53", "203.0.113.1:4000", natNoMapping)),
	steps("filtering by address and port", natWith(""),
		passes(udpProto, "10.0.0.5:4000", "192.0.2.9:53", "203.0.113.1:4000", "192.0.2.9:53"),
		refused(udpProto, "192.0.2.9:54", "203.0.113.1:4000", natFiltered),
		refused(udpProto, "192.0.2.10:53", "203.0.113.1:4000", natFiltered)),
	steps("filtering by address", natWith(`,"filtering":"address_dependent"`),
		passes(udpProto, "10.0.0.5:4000", "192.0.2.9:53", "203.0.113.1:4000", "192.0.2.9:53"),
		passes(udpProto, "192.0.2.9:54", "203.0.113.1:4000", "192.0.2.9:54", "10.0.0.5:4000"),
		refused(udpProto, "192.0.2.10:53", "203.0.113.1:4000", natFiltered),
		refused(udpProto, "192.0.2.9:53", "203.0.113.1:4001", natNoMapping)),
	steps("no filtering", natWith(`,"filtering":"endpoint_independent"`),
		passes(udpProto, "10.0.0.5:4000", "192.0.2.9:53", "203.0.113.1:4000", "192.0.2.9:53"),
		passes(udpProto, "192.0.2.10:7", "203.0.113.1:4000", "192.0.2.10:7", "10.0.0.5:4000"),
		refused(tcpProto, "192.0.2.10:7", "203.0.113.1:4000", natNoMapping)),
	steps("a mapping per destination", natWith(`,"mapping":"address_and_port_dependent","ports":"4000-4000"`),
		passes(udpProto, "10.0.0.5:4000", "192.0.2.9:53", "203.0.113.1:4000", "192.0.2.9:53"),
		passes(udpProto, "10.0.0.6:4000", "192.0.2.10:53", "203.0.113.1:4000", "192.0.2.10:53"),
		refused(udpProto, "10.0.0.6:4000", "192.0.2.9:53", natExhausted),
		refused(udpProto, "192.0.2.11:53", "203.0.113.1:4000", natNoMapping),
		refused(udpProto, "10.0.0.6:4000", "203.0.113.1:4000", natNoMapping)),
	steps("hairpin", natWith(`,"filtering":"endpoint_independent"`),
		passes(udpProto, "10.0.0.5:4000", "192.0.2.9:53", "203.0.113.1:4000", "192.0.2.9:53"),
		passes(udpProto, "10.0.0.6:4001", "203.0.113.1:4000", "203.0.113.1:4001", "10.0.0.5:4000"),
		passes(udpProto, "10.0.0.5:4000", "203.0.113.1:4001", "203.0.113.1:4000", "10.0.0.6:4001")),
	steps("hairpin lets in who was sent to", natWith(""),
		passes(udpProto, "10.0.0.5:4000", "192.0.2.9:53", "203.0.113.1:4000", "192.0.2.9:53"),
		refused(udpProto, "10.0.0.6:4001", "203.0.113.1:4000", natFiltered),
		refused(udpProto, "10.0.0.6:4001", "203.0.113.1:4000", natFiltered),
		passes(udpProto, "10.0.0.5:4000", "203.0.113.1:4001", "203.0.113.1:4000", "10.0.0.6:4001"),
		passes(udpProto, "10.0.0.6:4001", "203.0.113.1:4000", "203.0.113.1:4001", "10.0.0.5:4000")),
	steps("hairpin lets in whose address was sent to", natWith(`,"filtering":"address_dependent"`),
		passes(udpProto, "10.0.0.5:4000", "192.0.2.9:53", "203.0.113.1:4000", "192.0.2.9:53"),
		refused(udpProto, "10.0.0.6:4001", "203.0.113.1:4000", natFiltered),
		passes(udpProto, "10.0.0.6:4002", "192.0.2.9:53", "203.0.113.1:4002", "192.0.2.9:53"),
		refused(udpProto, "10.0.0.5:4000", "203.0.113.1:4003", natNoMapping),
		refused(udpProto, "10.0.0.5:4000", "203.0.113.1:4002", natFiltered), // .6 has sent to this address, but not from there
		passes(udpProto, "10.0.0.6:4001", "203.0.113.1:4000", "203.0.113.1:4001", "10.0.0.5:4000")),
	steps("no hairpin", natWith(`,"filtering":"endpoint_independent","hairpin":false`),
		passes(udpProto, "10.0.0.5:4000", "192.0.2.9:53", "203.0.113.1:4000", "192.0.2.9:53"),
		refused(udpProto, "10.0.0.6:4001", "203.0.113.1:4000", natNoMapping)),
	steps("other protocols have the address alone", natWith(""),
		step{in: frame4(47, "10.0.0.5:0", "192.0.2.9:0"), out: frame4(47, "203.0.113.1:0", "192.0.2.9:0")},
		step{in: frame4(47, "10.0.0.6:0", "192.0.2.9:0"), drop: natExhausted},
		step{in: frame4(47, "10.0.0.6:0", "192.0.2.10:0"), out: frame4(47, "203.0.113.1:0", "192.0.2.10:0")},
		step{in: frame4(51, "10.0.0.5:0", "192.0.2.9:0"), drop: natCannot},
		step{in: echo(10, hostA, hostB, 0), drop: natCannot}),
	steps("others are dropped", natWith(""),
		refused(udpProto, "192.0.2.9:53", "192.0.2.10:53", natNotInside),
		refused(udpProto, "10.0.0.5:4000", "10.0.0.6:53", natNotInside),
		refused(udpProto, "10.0.0.5:5353", "224.0.0.251:5353", natNotInside),
		refused(udpProto, "192.0.2.9:53", "10.0.0.5:4000", natNotInside)),
	steps("others pass", natWith(`,"others":"pass"`),
		passes(udpProto, "192.0.2.9:53", "192.0.2.10:53", "192.0.2.9:53", "192.0.2.10:53"),
		passes(udpProto, "10.0.0.5:67", "255.255.255.255:68", "10.0.0.5:67", "255.255.255.255:68"),
		passes(udpProto, "192.0.2.9:53", "10.0.0.5:4000", "192.0.2.9:53", "10.0.0.5:4000"),
		passes(udpProto, "10.0.0.5:4000", "192.0.2.9:53", "10.0.0.5:4000", "192.0.2.9:53")), // a flow is decided about once
	steps("the inside address itself is not reached from outside", natWith(""),
		passes(udpProto, "10.0.0.5:4000", "192.0.2.9:53", "203.0.113.1:4000", "192.0.2.9:53"),
		refused(udpProto, "192.0.2.9:53", "10.0.0.5:4000", natWrong)),
	steps("from the pool's own address", natWith(""), refused(udpProto, "203.0.113.1:4000", "192.0.2.9:53", natNotInside)),
	{Name: "no room for tuples", Config: natWith(""), Apart: true, Room: Room{Tuples: 1},
		Packets: []Packet{NewPacket(frame4(udpProto, "10.0.0.5:4000", "192.0.2.9:53"), 0), NewPacket(frame4(udpProto, "10.0.0.5:4000", "192.0.2.9:54"), 0)},
		Want:    []Want{Next, Drop(natBind)}},
	{Name: "no room for claims", Config: natWith(""), Apart: true, Room: Room{Claims: 3},
		Packets: []Packet{
			NewPacket(frame4(udpProto, "10.0.0.5:4000", "192.0.2.9:53"), 0), NewPacket(frame4(udpProto, "10.0.0.6:4001", "192.0.2.9:53"), 0),
			NewPacket(frame4(udpProto, "10.0.0.5:4000", "192.0.2.9:54"), 0), NewPacket(frame4(udpProto, "10.0.0.6:4001", "192.0.2.9:53"), 0),
		}, Want: []Want{Next, Drop(natBind), Next, Drop(natBind)}},
	{Name: "other families pass", Config: natWith(""), Packets: []Packet{udp6.Packet(0), arp}, Want: nexts[:2], Counters: []uint64{0, 0, 0, 0, 0, 0, 2}},
	{Name: "counters", Config: natWith(`,"filtering":"endpoint_independent"`),
		Packets: []Packet{
			NewPacket(frame4(udpProto, "10.0.0.5:4000", "192.0.2.9:53"), 0), NewPacket(frame4(udpProto, "10.0.0.5:4000", "192.0.2.9:54"), 0),
			NewPacket(frame4(udpProto, "192.0.2.10:53", "203.0.113.1:4000"), 0), NewPacket(frame4(udpProto, "10.0.0.6:1", "203.0.113.1:4000"), 0),
		}, Want: nexts[:4], Counters: []uint64{4, 1, 1, 2}},
	{Name: "nothing inside", Config: `{"pool":["203.0.113.1"]}`, Refused: true},
	{Name: "an empty pool", Config: `{"inside":["10.0.0.0/8"],"pool":[]}`, Refused: true},
	{Name: "inside and outside", Config: `{"inside":["10.0.0.0/8"],"pool":["10.255.255.255-11.0.0.0"]}`, Refused: true},
	{Name: "twice", Config: `{"inside":["10.0.0.0/8"],"pool":["203.0.113.0/24","203.0.113.255"]}`, Refused: true},
	{Name: "backwards", Config: `{"inside":["10.0.0.0/8"],"pool":["203.0.113.9-203.0.113.1"]}`, Refused: true},
	{Name: "IPv6 inside", Config: `{"inside":["fd00::/8"],"pool":["203.0.113.1"]}`, Refused: true},
	{Name: "ports backwards", Config: natWith(`,"ports":"2000-1000"`), Refused: true},
	{Name: "port 0", Config: natWith(`,"ports":"0-1000"`), Refused: true},
	{Name: "more ports than there are", Config: natWith(`,"ports":"1000-1009","ports_per_subscriber":11`), Refused: true},
	{Name: "filtering that needs a mapping", Config: natWith(`,"mapping":"address_and_port_dependent","filtering":"endpoint_independent"`), Refused: true},
}
