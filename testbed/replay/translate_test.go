package replay

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"net/netip"
	"testing"

	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
)

// ether puts an Ethernet header in front of IP packets.
func ether(ip []byte) []byte {
	typ := packet.EtherIPv4
	if ip[0]>>4 == 6 {
		typ = packet.EtherIPv6
	}
	return append(binary.BigEndian.AppendUint16(make([]byte, 12), typ), ip...)
}

// ipPacket makes an IP packet of a tuple: with more set, the beginning of a
// larger one; body follows the ports, or an ICMP header's first 6 bytes.
func ipPacket(t flow.Tuple, more bool, body []byte) []byte {
	var l4 []byte
	switch t.Proto {
	case packet.ProtoTCP:
		l4 = make([]byte, packet.TCPLen)
		l4[12] = 0x50
	case packet.ProtoUDP:
		l4 = make([]byte, packet.UDPLen)
		binary.BigEndian.PutUint16(l4[4:], uint16(packet.UDPLen+len(body)))
	default:
		l4 = make([]byte, packet.ICMPLen)
		l4[0] = t.Query
		binary.BigEndian.PutUint16(l4[4:], t.SrcPort)
	}
	if packet.HasPorts(t.Proto) {
		binary.BigEndian.PutUint16(l4, t.SrcPort)
		binary.BigEndian.PutUint16(l4[2:], t.DstPort)
	}
	l4 = append(l4, body...)
	var ip []byte
	if t.Src.Is4() {
		ip = make([]byte, packet.IPv4Len)
		ip[0], ip[8], ip[9] = 0x45, 64, t.Proto
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+len(l4)))
		if more {
			ip[6] = 0x20
		}
		copy(ip[12:], t.Src.AsSlice())
		copy(ip[16:], t.Dst.AsSlice())
	} else {
		ip = make([]byte, packet.IPv6Len)
		ip[0], ip[6], ip[7] = 0x60, t.Proto, 64
		binary.BigEndian.PutUint16(ip[4:], uint16(len(l4)))
		copy(ip[8:], t.Src.AsSlice())
		copy(ip[24:], t.Dst.AsSlice())
	}
	frame := ether(append(ip, l4...))
	packet.SetChecksums(frame)
	return frame[packet.EtherLen:]
}

// errorAbout makes an ICMP error of who, which quotes the beginning of a packet.
func errorAbout(who netip.Addr, quoted []byte) []byte {
	t := flow.Tuple{Src: who, Proto: packet.ProtoICMP, Query: 11}
	if who.Is4() {
		t.Dst, _ = netip.AddrFromSlice(quoted[12:16])
	} else {
		t.Dst, _ = netip.AddrFromSlice(quoted[8:24])
		t.Proto, t.Query = packet.ProtoICMPv6, 3
	}
	return ipPacket(t, false, quoted)
}

var (
	inside4  = flow.Tuple{Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("192.0.2.9"), SrcPort: 5000, DstPort: 80, Proto: packet.ProtoTCP}
	outside4 = flow.Tuple{Src: netip.MustParseAddr("203.0.113.5"), Dst: netip.MustParseAddr("198.51.100.4"), SrcPort: 61000, DstPort: 8080, Proto: packet.ProtoTCP}
	inside6  = flow.Tuple{Src: netip.MustParseAddr("fd00::1"), Dst: netip.MustParseAddr("2001:db8::9"), SrcPort: 5000, DstPort: 80, Proto: packet.ProtoTCP}
	outside6 = flow.Tuple{Src: netip.MustParseAddr("2001:db8:1::5"), Dst: netip.MustParseAddr("2001:db8:2::4"), SrcPort: 61000, DstPort: 8080, Proto: packet.ProtoTCP}
)

// of returns tuples as a protocol has them.
func of(t flow.Tuple, proto uint8) flow.Tuple {
	if t.Proto = proto; packet.HasPorts(proto) {
		return t
	}
	if t.Query = 8; proto == packet.ProtoICMPv6 {
		t.Query = 128
	}
	t.DstPort = t.SrcPort
	return t
}

// A translated packet is the one that would have been sent with the other
// tuple, checksums included, and translated back it is what it was.
func TestTranslate(t *testing.T) {
	body := []byte("what was said, of odd length.")
	for _, tt := range []struct {
		name     string
		from, to flow.Tuple
	}{
		{"tcp", inside4, outside4},
		{"udp", of(inside4, packet.ProtoUDP), of(outside4, packet.ProtoUDP)},
		{"icmp", of(inside4, packet.ProtoICMP), of(outside4, packet.ProtoICMP)},
		{"tcp6", inside6, outside6},
		{"udp6", of(inside6, packet.ProtoUDP), of(outside6, packet.ProtoUDP)},
		{"icmp6", of(inside6, packet.ProtoICMPv6), of(outside6, packet.ProtoICMPv6)},
	} {
		router := netip.MustParseAddr("192.0.2.77")
		if tt.from.Src.Is6() {
			router = netip.MustParseAddr("2001:db8::77")
		}
		fore, aft := ipPacket(tt.from, false, body), ipPacket(tt.to, false, body)
		short := packet.IPv6Len + 8
		if tt.from.Src.Is4() {
			short = packet.IPv4Len + 8
		}
		// An error travels to who sent what it quotes.
		from, to := reversed(tt.from), reversed(tt.to)
		for _, c := range []struct {
			name         string
			from, to     flow.Tuple
			before, want []byte
		}{
			{"packet", tt.from, tt.to, fore, aft},
			{"error of a router", from, to, errorAbout(router, fore), errorAbout(router, aft)},
			{"error of a router, short", from, to, errorAbout(router, fore[:short]), errorAbout(router, aft[:short])},
			{"error of the host", from, to, errorAbout(tt.from.Dst, fore), errorAbout(tt.to.Dst, aft)},
		} {
			t.Run(tt.name+"/"+c.name, func(t *testing.T) {
				frame := ether(bytes.Clone(c.before))
				translate(frame, c.from, c.to)
				if want := ether(c.want); !bytes.Equal(frame, want) {
					t.Errorf("got\n%swant\n%s", hex.Dump(frame), hex.Dump(want))
				}
				if !packet.VerifyChecksums(frame) {
					t.Error("wrong checksum")
				}
				translate(frame, c.to, c.from)
				if !bytes.Equal(frame, ether(c.before)) {
					t.Errorf("there and back\n%swas\n%s", hex.Dump(frame), hex.Dump(ether(c.before)))
				}
			})
		}
	}
}

// Fragments have the addresses changed, and the first one the ports; its
// checksum, which covers them all, by what changed.
func TestTranslateFragments(t *testing.T) {
	from, to := of(inside4, packet.ProtoUDP), of(outside4, packet.ProtoUDP)
	whole, want := ipPacket(from, false, make([]byte, 24)), ipPacket(to, false, make([]byte, 24))
	first := func(whole []byte) []byte {
		p := bytes.Clone(whole[:packet.IPv4Len+16])
		p[6], p[2], p[3] = 0x20, 0, byte(len(p))
		f := ether(p)
		packet.SetChecksums(f)
		return f
	}
	later := func(whole []byte) []byte {
		p := append(bytes.Clone(whole[:packet.IPv4Len]), whole[packet.IPv4Len+16:]...)
		p[6], p[7], p[2], p[3] = 0, 2, 0, byte(len(p))
		f := ether(p)
		packet.SetChecksums(f)
		return f
	}
	for name, cut := range map[string]func([]byte) []byte{"first": first, "later": later} {
		got := cut(whole)
		translate(got, from, to)
		if !bytes.Equal(got, cut(want)) {
			t.Errorf("%s: got\n%swant\n%s", name, hex.Dump(got), hex.Dump(cut(want)))
		}
	}
}

// What is no packet of the family, or cut anywhere, stays in its bounds.
func TestTranslateAnything(t *testing.T) {
	seeds := [][]byte{
		ether(ipPacket(inside4, false, nil)), ether(ipPacket(inside6, false, nil)),
		ether(errorAbout(inside4.Dst, ipPacket(inside4, false, nil))), ether(errorAbout(inside6.Dst, ipPacket(inside6, false, nil))),
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for range 20_000 {
		f := bytes.Clone(seeds[rnd.IntN(len(seeds))])
		for range rnd.IntN(4) {
			f[rnd.IntN(len(f))] = byte(rnd.Uint32())
		}
		f = f[:packet.EtherLen+rnd.IntN(len(f)-packet.EtherLen+1)]
		n := len(f)
		translate(f, inside4, outside4)
		translate(f, inside6, outside6)
		if len(f) != n {
			t.Fatal("another length")
		}
	}
}
