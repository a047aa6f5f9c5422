package nftest

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"sfc/dataplane/packet"
)

// natConfigs decide in many ways in the world of natFresh.
var natConfigs = []string{
	`{"inside":["10.0.0.0/24"],"pool":["203.0.113.0/30","203.0.113.9"],"filtering":"endpoint_independent"}`,
	`{"inside":["10.0.0.0/24"],"pool":["203.0.113.1"],"ports":"990-1090"}`,
	`{"inside":["10.0.0.0/24"],"pool":["203.0.113.1"],"filtering":"address_dependent","others":"pass"}`,
	`{"inside":["10.0.0.0/24"],"pool":["203.0.113.0-203.0.113.1"],"mapping":"address_and_port_dependent","ports":"4000-4003"}`,
	`{"inside":["10.0.0.4/30","10.0.0.0/30"],"pool":["203.0.113.1-203.0.113.2"],"ports":"1020-1043","ports_per_subscriber":6,"filtering":"endpoint_independent"}`,
	`{"inside":["10.0.0.0/29"],"pool":["203.0.113.1"],"ports":"1024-1039","filtering":"address_dependent","hairpin":false}`,
}

// natConfig draws a configuration.
func (g gen) natConfig() map[string]any {
	c := map[string]any{
		"inside": pick(g, []string{"10.0.0.0/8"}, []string{"10.0.0.4/30", "10.0.0.0/30"}, []string{"10.0.0.1", "10.0.0.2/31"}, []string{"0.0.0.0/1"}),
		"pool":   pick(g, []string{"203.0.113.1"}, []string{"203.0.113.0/30", "203.0.113.9"}, []string{"203.0.113.0-203.0.113.2"}, []string{"10.0.0.7"}),
	}
	g.maybe(c, "ports", pick(g, "1-65535", "1024-65535", "990-1090", "4000-4003", "65535-65535", "1023-1023"))
	g.maybe(c, "ports_per_subscriber", pick(g, 0, 1, 3, 64))
	g.maybe(c, "filtering", pick(g, "endpoint_independent", "address_dependent", "address_and_port_dependent"))
	if g.oneIn(3) {
		c["mapping"] = "address_and_port_dependent"
		delete(c, "filtering")
	}
	g.maybe(c, "hairpin", g.oneIn(2))
	g.maybe(c, "others", pick(g, "pass", "drop"))
	return c
}

// natFresh begins something inside.
func natFresh(g gen) []byte {
	src, dst := netip.AddrFrom4([4]byte{10, 0, 0, byte(g.IntN(8))}), netip.AddrFrom4([4]byte{198, 51, 100, byte(1 + g.IntN(3))})
	sport := pick(g, uint16(g.IntN(1024)), 4000, 4001, uint16(1000+g.IntN(60)), uint16(g.IntN(65536)))
	switch g.IntN(8) {
	case 0:
		return echo(pick[byte](g, 8, 8, 8, 13, 17, 5, 10), src, dst, sport)
	case 1: // UDP-Lite and DCCP have their sums where UDP has
		frame := Spec{Src: src, Dst: dst, SPort: sport, DPort: 53, Proto: udpProto, Payload: make([]byte, 16)}.Frame()
		frame[23] = pick[byte](g, 33, 136)
		packet.SetChecksums(frame)
		return frame
	case 2:
		return Spec{Src: src, Dst: dst, SPort: sport, DPort: 53, Proto: pick[uint8](g, 47, 50, 51, 132), Payload: make([]byte, 20)}.Frame()
	}
	return Spec{Src: src, Dst: dst, SPort: sport, DPort: pick[uint16](g, 53, 80), Proto: pick(g, udpProto, tcpProto),
		TCPFlags: pick[uint8](g, syn, ack, rst, 0x11), Payload: make([]byte, g.IntN(40))}.Frame()
}

// natStray belongs to nothing.
func natStray(g gen) []byte {
	s := g.spec()
	if g.oneIn(2) && s.Dst.Is4() {
		s.Dst = netip.AddrFrom4([4]byte{203, 0, 113, byte(g.IntN(4))})
	}
	return s.Frame()
}

func natDialog(g gen) *dialog { return newDialog(g, natFresh, natStray) }

// TestNAT44Random holds dialogs through all implementations: over 100,000
// packets, that together are dropped for every reason but a lack of room.
func TestNAT44Random(t *testing.T) {
	seed := testSeed(t)
	all := runners(t, "nat44")
	seen, sums := map[uint16]int{}, 0
	for i, config := range natConfigs {
		for round := range uint64(3) {
			d := natDialog(newGen(seed + uint64(i)*100 + round))
			d.spoil = round == 2
			lockstep(t, d, config, 6000, func(p Packet, r Result) {
				seen[r.Reason]++
				if r.Verdict == packet.Next && sumsRight(p.Frame) && !d.spoil {
					sums++
					if !sumsRight(r.Frame) {
						t.Fatalf("a right checksum became wrong:\n%x\n%x", p.Frame, r.Frame)
					}
				}
			}, all...)
		}
	}
	t.Logf("reasons %v, %d checksums", seen, sums)
	for reason := range uint16(natNotInside + 1) {
		if seen[reason] == 0 && reason != natBind {
			t.Errorf("no packet was dropped for reason %d: %v", reason, seen)
		}
	}
}

// sumsRight computes every checksum of an IPv4 frame, and of the header that an
// ICMP error quotes, with gopacket.
func sumsRight(frame []byte) bool {
	in, result := packet.Parse(frame)
	if result != packet.ParsedIP || in.Flags&packet.FlagIPv4 == 0 {
		return false
	}
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	ip, ok := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
	if !ok || !headerRight(ip) {
		return false
	}
	whole := in.Flags&packet.FlagFragment == 0
	switch l := p.Layer(gopacket.LayerType(ip.NextLayerType())).(type) {
	case *layers.TCP:
		return !whole || l.SetNetworkLayerForChecksum(ip) == nil && sameAgain(l, l.Contents, l.Payload, l.Checksum, 16)
	case *layers.UDP:
		return !whole || l.Checksum == 0 || l.SetNetworkLayerForChecksum(ip) == nil && sameAgain(l, l.Contents, l.Payload, l.Checksum, 6)
	case *layers.ICMPv4:
		if in.Flags&packet.FlagICMPError != 0 {
			var quoted layers.IPv4
			if err := quoted.DecodeFromBytes(l.Payload, gopacket.NilDecodeFeedback); err == nil && !headerRight(&quoted) {
				return false
			}
		}
		return !whole || sameAgain(l, l.Contents, l.Payload, l.Checksum, 2)
	}
	return true
}

func headerRight(ip *layers.IPv4) bool {
	buf := gopacket.NewSerializeBuffer()
	again := *ip
	if err := again.SerializeTo(buf, gopacket.SerializeOptions{ComputeChecksums: true}); err != nil {
		return false
	}
	return binary.BigEndian.Uint16(buf.Bytes()[10:]) == ip.Checksum
}

// sameAgain says whether a layer with its payload gets the checksum it has.
func sameAgain(l gopacket.SerializableLayer, contents, payload []byte, have uint16, at int) bool {
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{ComputeChecksums: true}, l, gopacket.Payload(payload)); err != nil {
		return false
	}
	want := binary.BigEndian.Uint16(buf.Bytes()[at:])
	return bytes.Equal(buf.Bytes()[:4], contents[:4]) && (want == have || want == 0 && have == 0xffff)
}
