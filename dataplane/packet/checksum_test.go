package packet

import (
	"encoding/binary"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"pgregory.net/rapid"
)

// serialize builds a frame with correct lengths and checksums.
func serialize(tb testing.TB, l ...gopacket.SerializableLayer) []byte {
	tb.Helper()
	buf := gopacket.NewSerializeBuffer()
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buf, opts, l...); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

// goodFrames returns one correct frame for each kind of checksum.
func goodFrames(tb testing.TB, payload []byte) map[string][]byte {
	tb.Helper()
	eth4 := &layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6), EthernetType: layers.EthernetTypeIPv4}
	eth6 := &layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6), EthernetType: layers.EthernetTypeIPv6}
	ip4 := func(p layers.IPProtocol) *layers.IPv4 {
		return &layers.IPv4{Version: 4, TTL: 64, Protocol: p, SrcIP: []byte{192, 0, 2, 1}, DstIP: []byte{198, 51, 100, 7},
			Options: []layers.IPv4Option{{OptionType: 1}, {OptionType: 1}, {OptionType: 1}, {OptionType: 0}}}
	}
	ip6 := func(p layers.IPProtocol) *layers.IPv6 {
		return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: p, SrcIP: append([]byte{0x20, 1}, make([]byte, 14)...), DstIP: append([]byte{0x20, 2}, make([]byte, 14)...)}
	}
	data := gopacket.Payload(payload)
	frames := map[string][]byte{}
	for v6, eth := range map[bool]gopacket.SerializableLayer{false: eth4, true: eth6} {
		network := func(p layers.IPProtocol) (gopacket.SerializableLayer, gopacket.NetworkLayer) {
			if v6 {
				l := ip6(p)
				return l, l
			}
			l := ip4(p)
			return l, l
		}
		name := map[bool]string{false: "v4 ", true: "v6 "}[v6]
		ip, nl := network(layers.IPProtocolTCP)
		tcp := &layers.TCP{SrcPort: 1024, DstPort: 443, SYN: true}
		udp := &layers.UDP{SrcPort: 5353, DstPort: 53}
		if err := tcp.SetNetworkLayerForChecksum(nl); err != nil {
			tb.Fatal(err)
		}
		frames[name+"tcp"] = serialize(tb, eth, ip, tcp, data)
		ip, nl = network(layers.IPProtocolUDP)
		if err := udp.SetNetworkLayerForChecksum(nl); err != nil {
			tb.Fatal(err)
		}
		frames[name+"udp"] = serialize(tb, eth, ip, udp, data)
	}
	frames["v4 icmp"] = serialize(tb, eth4, ip4(layers.IPProtocolICMPv4),
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 7, Seq: 1}, data)
	icmp6 := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(128, 0)}
	l6 := ip6(layers.IPProtocolICMPv6)
	if err := icmp6.SetNetworkLayerForChecksum(l6); err != nil {
		tb.Fatal(err)
	}
	frames["v6 icmp"] = serialize(tb, eth6, l6, icmp6, gopacket.Payload(append([]byte{0, 7, 0, 1}, payload...)))
	return frames
}

func TestVerifyChecksums(t *testing.T) {
	for _, payload := range []string{"", "odd", "some payload of even length"} {
		for name, frame := range goodFrames(t, []byte(payload)) {
			if !VerifyChecksums(frame) {
				t.Errorf("%s, payload %q: a correct frame counts as wrong", name, payload)
			}
			in, _ := Parse(frame)
			for i, end := int(in.L4), l3End(frame, &in); i < end; i++ {
				if in.Proto == ProtoUDP && (i-int(in.L4) == 4 || i-int(in.L4) == 5) {
					continue // its length: the sum then covers other bytes
				}
				bad := append([]byte(nil), frame...)
				bad[i] ^= 0x10
				if _, r := Parse(bad); r == ParsedIP && VerifyChecksums(bad) {
					t.Errorf("%s: byte %d flipped and nobody sees it", name, i)
				}
			}
			if in.Flags&FlagIPv4 != 0 {
				bad := append([]byte(nil), frame...)
				bad[in.L3+8]--
				if VerifyChecksums(bad) {
					t.Errorf("%s: TTL changed and nobody sees it", name)
				}
			}
			blank := append([]byte(nil), frame...)
			if covered, at, _, ok := l4Sum(blank, &in); ok {
				covered[at], covered[at+1] = 0xde, 0xad
			}
			SetChecksums(blank)
			if string(blank) != string(frame) {
				t.Errorf("%s: SetChecksums wrote\n%x, want\n%x", name, blank, frame)
			}
		}
	}
}

func TestUDPWithoutChecksum(t *testing.T) {
	frames := goodFrames(t, []byte("x"))
	for name, want := range map[string]bool{"v4 udp": true, "v6 udp": false} {
		frame := frames[name]
		in, _ := Parse(frame)
		frame[in.L4+6], frame[in.L4+7] = 0, 0
		if got := VerifyChecksums(frame); got != want {
			t.Errorf("%s with checksum 0: %v, want %v", name, got, want)
		}
	}
}

// A sum kept up to date word by word equals one computed anew.
func TestUpdateChecksum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOfN(rapid.Byte(), 4, 60).Draw(t, "data")
		data = append(data[:len(data)&^3], 0x45, 0) // never all zero: RFC 1624 section 3
		at := rapid.IntRange(0, len(data)/4-1).Draw(t, "word") * 4
		value := rapid.Uint32().Draw(t, "value")
		sum := Checksum(data, 0)
		was := binary.BigEndian.Uint32(data[at:])
		step := UpdateChecksum(sum, uint16(was>>16), uint16(value>>16))
		step = UpdateChecksum(step, uint16(was), uint16(value))
		once := UpdateChecksum32(sum, was, value)
		binary.BigEndian.PutUint32(data[at:], value)
		if want := Checksum(data, 0); step != want || once != want {
			t.Fatalf("updated %#x and %#x, computed %#x", step, once, want)
		}
	})
}

func TestUpdateUDPChecksum(t *testing.T) {
	if got := UpdateUDPChecksum(0, 1, 2); got != 0 {
		t.Errorf("no checksum became %#x", got)
	}
	// ^1 + ^0xfffe... the sum that comes out as 0 must be written as 0xffff.
	if got := UpdateUDPChecksum(1, 0, 1); got != 0xffff {
		t.Errorf("sum 0 is written as %#x, want 0xffff", got)
	}
}

func FuzzVerifyChecksums(f *testing.F) {
	for _, frame := range goodFrames(f, []byte("seed")) {
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		VerifyChecksums(frame)
		frame = append([]byte(nil), frame...)
		_, before := Parse(frame)
		SetChecksums(frame)
		in, after := Parse(frame)
		if before != after {
			t.Fatalf("SetChecksums turned %v into %v", before, after)
		}
		if !VerifyChecksums(frame) {
			t.Fatalf("checksums just set count as wrong: %+v\n%x", in, frame)
		}
	})
}
