package nftest

import (
	"encoding/binary"
	"fmt"
	"testing"

	"sfc/dataplane/packet"
)

// inFlow puts a packet into a flow; reverse is against its direction.
func inFlow(p Packet, flow uint32, reverse bool) Packet {
	p.Flow = flow
	if reverse {
		p.Flags |= packet.FlagReverse
	}
	return p
}

// segment is a TCP segment of flow 1, ms after the beginning.
func segment(ms uint64, reverse bool, flags uint8) Packet {
	s := tcp
	s.TCPFlags = flags
	if reverse {
		s.Src, s.Dst, s.SPort, s.DPort = s.Dst, s.Src, s.DPort, s.SPort
	}
	return inFlow(s.Packet(ms*1e6), 1, reverse)
}

// errorAbout is an ICMP error about a flow.
func errorAbout(flow uint32) Packet {
	p := inFlow(with(udp, func(s *Spec) { s.Proto = packet.ProtoICMP }), flow, true)
	p.Flags |= packet.FlagICMPError
	return p
}

// padded returns the packet in a frame with n bytes of padding.
func padded(p Packet, n int) Packet {
	p.Frame = append(p.Frame[:len(p.Frame):len(p.Frame)], make([]byte, n)...)
	return p
}

const (
	syn    = 0x02
	rst    = 0x04
	ack    = 0x10
	synAck = syn | ack
)

var nexts = []Want{Next, Next, Next, Next, Next, Next, Next, Next}

var flowStatCases = []Case{
	{Name: "both directions of one flow, another family",
		Config:   `{}`,
		Packets:  []Packet{inFlow(udp.Packet(0), 1, false), inFlow(padded(udp.Packet(5), 18), 1, true), inFlow(udp6.Packet(9), 2, false)},
		Want:     nexts[:3],
		Counters: []uint64{2, 0, 3, 28 + 28 + 48, 0, 0}},
	{Name: "the end",
		Config:  `{}`,
		Packets: []Packet{segment(0, false, syn), inFlow(udp.Packet(0), 2, false), inFlow(udp.Packet(0), 2, true), inFlow(with(udp, func(s *Spec) { s.Proto = 1 }), 3, false), inFlow(with(udp, func(s *Spec) { s.Proto = 47 }), 4, false)},
		Want:    nexts[:5],
		End:     []uint32{1, 2, 3, 4, 5}, // nothing of 5 came by
		Counters: []uint64{4, 4, 5, 40 + 28 + 28 + 28 + 20, 0, 0,
			1, 1, 40, 1, 2, 56, 1, 1, 28, 1, 1, 20, 0, 0}},
	{Name: "errors about a flow are not of it, fragments of nothing known have none",
		Config: `{}`, Packets: []Packet{errorAbout(1), laterFragment(udp), arp}, Want: nexts[:3],
		End: []uint32{1}, Counters: []uint64{0, 0, 0, 0, 1, 2}},
	{Name: "a length that lies counts as much as is there",
		Config: `{}`, Packets: []Packet{inFlow(cut(udp.Packet(0), 40), 1, false), inFlow(cut(udp.Packet(0), 33), 1, false)},
		Want: nexts[:2], Counters: []uint64{1, 0, 2, 26}},
	{Name: "a handshake is timed",
		Config: `{"tcp_rtt":true}`, Packets: []Packet{segment(10, false, syn), segment(25, true, synAck), segment(32, false, ack), segment(50, false, ack)},
		Want: nexts[:4], End: []uint32{1}, Counters: []uint64{1, 1, 4, 160, 0, 0, 1, 4, 160, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 22000}},
	{Name: "unless nobody asked",
		Config: `{}`, Packets: []Packet{segment(10, false, syn), segment(25, true, synAck), segment(32, false, ack)},
		Want: nexts[:3], End: []uint32{1}, Counters: []uint64{1, 1, 3, 120, 0, 0, 1, 3, 120, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
	{Name: "a repeated SYN spoils the time",
		Config: `{"tcp_rtt":true}`, Packets: []Packet{segment(10, false, syn), segment(11, false, syn), segment(25, true, synAck), segment(32, false, ack)},
		Want: nexts[:4], End: []uint32{1}, Counters: []uint64{1, 1, 4, 160, 0, 0, 1, 4, 160, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
	{Name: "a refused connection has none",
		Config: `{"tcp_rtt":true}`, Packets: []Packet{segment(10, false, syn), segment(25, true, rst|ack), segment(32, false, ack)},
		Want: nexts[:3], End: []uint32{1}, Counters: []uint64{1, 1, 3, 120, 0, 0, 1, 3, 120, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
	{Name: "a record per flow", Config: `{"tcp_rtt":true}`,
		Packets: []Packet{segment(10, false, syn), segment(25, true, synAck), segment(32, false, ack), padded(segment(40, true, rst|ack), 6), inFlow(udp6.Packet(7e6), 2, true)},
		Want:    nexts[:5], End: []uint32{1, 2}, Records: []string{
			`{"record":"flow4","function":"flowstat","sourceIPv4Address":"10.0.0.1","destinationIPv4Address":"192.0.2.9","protocolIdentifier":6,"flowEndReason":3,` +
				`"sourceTransportPort":4000,"destinationTransportPort":443,"tcpControlBits":18,"reverseTcpControlBits":22,"icmpTypeCodeIPv4":0,` +
				`"flowStartMilliseconds":10,"flowEndMilliseconds":40,"packetDeltaCount":2,"reversePacketDeltaCount":2,"octetDeltaCount":80,"reverseOctetDeltaCount":80,` +
				`"tcpServerRoundTripMicroseconds":15000,"tcpClientRoundTripMicroseconds":7000}`,
			`{"record":"flow6","function":"flowstat","sourceIPv6Address":"2001:db8:ffff::9","destinationIPv6Address":"2001:db8::1","protocolIdentifier":17,"flowEndReason":1,` +
				`"sourceTransportPort":53,"destinationTransportPort":4000,"tcpControlBits":0,"reverseTcpControlBits":0,"icmpTypeCodeIPv6":0,` +
				`"flowStartMilliseconds":7,"flowEndMilliseconds":7,"packetDeltaCount":0,"reversePacketDeltaCount":1,"octetDeltaCount":0,"reverseOctetDeltaCount":48,` +
				`"tcpServerRoundTripMicroseconds":0,"tcpClientRoundTripMicroseconds":0}`,
		}},
	{Name: "a record when a flow lasts, and of what came since", Config: `{"active_timeout":1}`,
		Packets: []Packet{ping(0), ping(999), ping(1000), ping(1001)}, Want: nexts[:4], End: []uint32{1},
		Counters: append([]uint64{1, 1, 4, 112, 0, 0, 0, 0, 0, 0, 0, 0, 1, 4, 112}, 0, 0, 0, 0, 0, 2),
		Records:  []string{pings(2, 0, 999, 2), pings(1, 1000, 1001, 2)}},
	{Name: "or not", Config: `{"active_timeout":0}`,
		Packets: []Packet{ping(0), ping(1e9)}, Want: nexts[:2], End: []uint32{1}, Records: []string{pings(1, 0, 1e9, 2)}},
	{Name: "both sides have sent FIN", Config: `{}`, Packets: []Packet{segment(0, false, fin), segment(0, true, fin), segment(0, false, ack)},
		Want: nexts[:3], End: []uint32{1}, Records: []string{
			`{"record":"flow4","function":"flowstat","sourceIPv4Address":"10.0.0.1","destinationIPv4Address":"192.0.2.9","protocolIdentifier":6,"flowEndReason":3,` +
				`"sourceTransportPort":4000,"destinationTransportPort":443,"tcpControlBits":17,"reverseTcpControlBits":17,"icmpTypeCodeIPv4":0,` +
				`"flowStartMilliseconds":0,"flowEndMilliseconds":0,"packetDeltaCount":2,"reversePacketDeltaCount":1,"octetDeltaCount":80,"reverseOctetDeltaCount":40,` +
				`"tcpServerRoundTripMicroseconds":0,"tcpClientRoundTripMicroseconds":0}`}},
	{Name: "errors about a flow and what has no flow are in no record", Config: `{}`, Packets: []Packet{errorAbout(1), udp.Packet(0)},
		Want: nexts[:2], End: []uint32{1}, Records: []string{}},
	{Name: "unknown field", Config: `{"rtt":true}`, Refused: true},
	{Name: "a timeout of more than a day", Config: `{"active_timeout":86401}`, Refused: true},
	{Name: "not a truth value", Config: `{"tcp_rtt":1}`, Refused: true},
}

// ping is an echo request of flow 1, ms after the beginning.
func ping(ms uint64) Packet {
	p := with(udp, func(s *Spec) { s.Proto = packet.ProtoICMP })
	p.RxNs = ms * 1e6
	return inFlow(p, 1, false)
}

// pings is the record of n of them, from and to so many ms after the beginning.
func pings(why, from, to, n uint64) string {
	return fmt.Sprintf(`{"record":"flow4","function":"flowstat","sourceIPv4Address":"10.0.0.1","destinationIPv4Address":"192.0.2.9","protocolIdentifier":1,"flowEndReason":%d,`+
		`"sourceTransportPort":0,"destinationTransportPort":0,"tcpControlBits":0,"reverseTcpControlBits":0,"icmpTypeCodeIPv4":2048,`+
		`"flowStartMilliseconds":%d,"flowEndMilliseconds":%d,"packetDeltaCount":%d,"reversePacketDeltaCount":0,"octetDeltaCount":%d,"reverseOctetDeltaCount":0,`+
		`"tcpServerRoundTripMicroseconds":0,"tcpClientRoundTripMicroseconds":0}`, why, from, to, n, 28*n)
}

// What is kept of a flow is laid out in the slot as the function's page says.
func TestFlowStatSlot(t *testing.T) {
	packets := []Packet{
		segment(10, false, syn), segment(25, true, synAck), segment(32, false, ack), padded(segment(40, true, ack|0x08), 6),
		inFlow(udp.Packet(7), 2, false),
	}
	for _, r := range runners(t, "flowstat") {
		k, ok := r.(Keeper)
		if !ok {
			continue
		}
		t.Run(fmt.Sprintf("%T", r), func(t *testing.T) {
			if err := r.Configure([]byte(`{"tcp_rtt":true}`)); err != nil {
				t.Fatal(err)
			}
			r.Process(packets)
			state := k.FlowState(2)
			if len(state) != 192 {
				t.Fatalf("%d bytes for two flows", len(state))
			}
			for at, want := range map[int]uint64{0: 80, 8: 80, 24: 10e6, 32: 40e6} {
				if got := binary.LittleEndian.Uint64(state[at:]); got != want {
					t.Errorf("bytes %d to %d: %d, want %d", at, at+7, got, want)
				}
			}
			for at, want := range map[int]uint32{16: 2, 20: 2, 48: 15000, 52: 7000, 64: 0x0100000a, 80: 0x090200c0} {
				if got := binary.LittleEndian.Uint32(state[at:]); got != want {
					t.Errorf("bytes %d to %d: %#x, want %#x", at, at+3, got, want)
				}
			}
			if got, want := [3]byte(state[40:]), [3]byte{syn | ack, syn | ack | 0x08, packet.ProtoTCP}; got != want {
				t.Errorf("flags and protocol %x, want %x", got, want)
			}
			r.FlowEnd([]uint32{1})
			if state := k.FlowState(2); [96]byte(state) != [96]byte{} || state[96] != 28 {
				t.Errorf("after the end of the first flow: %x", state)
			}
		})
	}
}
