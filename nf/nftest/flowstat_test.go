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
	{Name: "unknown field", Config: `{"rtt":true}`, Refused: true},
	{Name: "not a truth value", Config: `{"tcp_rtt":1}`, Refused: true},
}

// The record is laid out in the slot as the function's page says.
func TestFlowStatRecord(t *testing.T) {
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
			if len(state) != 128 {
				t.Fatalf("%d bytes for two flows", len(state))
			}
			for i, want := range []uint64{80, 80, 2, 2, 10e6, 40e6} {
				if got := binary.LittleEndian.Uint64(state[8*i:]); got != want {
					t.Errorf("bytes %d to %d: %d, want %d", 8*i, 8*i+7, got, want)
				}
			}
			if got, want := [3]byte(state[48:]), [3]byte{syn | ack, syn | ack | 0x08, packet.ProtoTCP}; got != want {
				t.Errorf("flags and protocol %x, want %x", got, want)
			}
			for i, want := range []uint32{15000, 7000} {
				if got := binary.LittleEndian.Uint32(state[56+4*i:]); got != want {
					t.Errorf("round trip %d: %d us, want %d", i, got, want)
				}
			}
			r.FlowEnd([]uint32{1})
			if state := k.FlowState(2); [64]byte(state) != [64]byte{} || state[64] != 28 {
				t.Errorf("after the end of the first flow: %x", state)
			}
		})
	}
}
