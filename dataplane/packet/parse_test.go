package packet

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

// unhex reads a frame written as hex with spaces.
func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

const (
	macs   = "020000000001 020000000002 "
	udp4   = "4500001c 00004000 40110000 c0000201 c6336407 "
	udpHdr = "3039 0035 0008 0000"
	src6   = "20010db8000000000000000000000001 "
	dst6   = "20010db8000000000000000000000002 "
)

// The wide table of frames is in package bpf, where each is parsed by both
// parsers; this one shows what every field holds.
func TestParse(t *testing.T) {
	v4 := func(in Info) Info {
		in.Src, in.Dst = [16]byte{192, 0, 2, 1}, [16]byte{198, 51, 100, 7}
		in.Flags |= FlagIPv4
		return in
	}
	v6 := func(in Info) Info {
		in.Src = [16]byte{0x20, 1, 0xd, 0xb8, 15: 1}
		in.Dst = [16]byte{0x20, 1, 0xd, 0xb8, 15: 2}
		in.Flags |= FlagIPv6
		return in
	}
	for _, tt := range []struct {
		name, frame string
		want        Info
		result      ParseResult
	}{
		{"udp4", macs + "0800" + udp4 + udpHdr,
			v4(Info{L3: 14, L4: 34, Proto: 17, SrcPort: 12345, DstPort: 53}), ParsedIP},
		{"udp4 padded", macs + "0800" + udp4 + udpHdr + strings.Repeat("00", 18),
			v4(Info{L3: 14, L4: 34, Proto: 17, SrcPort: 12345, DstPort: 53}), ParsedIP},
		{"two tags: the outer one counts", macs + "88a8 2064 8100 0065 0800" + udp4 + udpHdr,
			v4(Info{L3: 22, L4: 42, Proto: 17, Flags: FlagVLAN, VLAN: 100, SrcPort: 12345, DstPort: 53}), ParsedIP},
		{"three tags", macs + "8100 0001 8100 0002 8100 0003 0800" + udp4 + udpHdr,
			Info{Flags: FlagVLAN, VLAN: 1}, NotIP},
		{"arp", macs + "0806 0001", Info{}, NotIP},
		{"time exceeded", macs + "0800 4500001c 00000000 40010000 c0000201 c6336407 0b00 0000 00000000",
			v4(Info{L3: 14, L4: 34, Proto: 1, Flags: FlagICMPError}), ParsedIP},
		{"echo request", macs + "0800 4500001c 00000000 40010000 c0000201 c6336407 0800 0000 abcd 0001",
			v4(Info{L3: 14, L4: 34, Proto: 1, ID: 0xabcd}), ParsedIP},
		{"router advertisement in ipv4 has no identifier", macs + "0800 4500001c 00000000 40010000 c0000201 c6336407 0900 0000 abcd 0001",
			v4(Info{L3: 14, L4: 34, Proto: 1}), ParsedIP},
		{"icmp6 echo reply", macs + "86dd 60000000 0008 3a 40" + src6 + dst6 + "8100 0000 abcd 0001",
			v6(Info{L3: 14, L4: 54, Proto: 58, ID: 0xabcd}), ParsedIP},
		{"icmp6 echo in ipv4 is opaque", macs + "0800 4500001c 00000000 403a0000 c0000201 c6336407 8000 0000 abcd 0001",
			v4(Info{L3: 14, Proto: 58}), ParsedIP},
		{"later fragment", macs + "0800 4500001c 000000b9 40110000 c0000201 c6336407 aaaaaaaaaaaaaaaa",
			v4(Info{L3: 14, Proto: 17, Flags: FlagFragment | FlagLaterFrag}), ParsedIP},
		{"hop-by-hop, then udp", macs + "86dd 60000000 0010 00 40" + src6 + dst6 + "11 00 010400000000 " + udpHdr,
			v6(Info{L3: 14, L4: 62, Proto: 17, SrcPort: 12345, DstPort: 53}), ParsedIP},
		{"neighbour solicitation", macs + "86dd 60000000 0018 3a ff" + src6 + dst6 + "8700 0000 00000000" + dst6,
			v6(Info{L3: 14, L4: 54, Proto: 58}), NeighbourDiscovery},
		{"total length past the frame", macs + "0800 4500001d 00004000 40110000 c0000201 c6336407" + udpHdr,
			Info{L3: 14, Flags: FlagIPv4}, Malformed},
		{"udp length past the packet", macs + "0800" + udp4 + "3039 0035 0009 0000",
			v4(Info{L3: 14, Proto: 17}), Malformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, result := Parse(unhex(t, tt.frame))
			if got != tt.want || result != tt.result {
				t.Errorf("got  %+v, %v\nwant %+v, %v", got, result, tt.want, tt.result)
			}
		})
	}
}

// Cut anywhere inside its headers, a packet is malformed, never something else.
func TestParseTruncated(t *testing.T) {
	for _, frame := range goodFrames(t, nil) {
		in, _ := Parse(frame)
		for n := range l3End(frame, &in) {
			if _, r := Parse(frame[:n]); r != Malformed {
				t.Errorf("proto %d: cut to %d of %d bytes: %v", in.Proto, n, len(frame), r)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, frame := range goodFrames(f, []byte("seed")) {
		f.Add(frame)
	}
	f.Add(unhex(f, macs+"88a8 2064 8100 0065 86dd 60000000 0018 2c 40"+src6+dst6+"00000001000000001100010400000000"+udpHdr))
	f.Fuzz(func(t *testing.T, frame []byte) {
		in, result := Parse(frame)
		if result != ParsedIP {
			return
		}
		if (in.Flags&FlagIPv4 != 0) == (in.Flags&FlagIPv6 != 0) {
			t.Fatalf("neither or both IP versions: %+v", in)
		}
		end := l3End(frame, &in)
		if end > len(frame) || in.L4 != 0 && (in.L4 <= in.L3 || int(in.L4)+ICMPLen > end) {
			t.Fatalf("offsets outside the packet of %d bytes: %+v", len(frame), in)
		}
		if in.Flags&FlagLaterFrag != 0 && (in.Flags&FlagFragment == 0 || in.L4 != 0) {
			t.Fatalf("later fragment with a transport header: %+v", in)
		}
		if !in.Ports() && in.SrcPort|in.DstPort != 0 {
			t.Fatalf("ports of a packet that has none: %+v", in)
		}
		// What follows the packet must not matter.
		again, r := Parse(append(bytes.Clone(frame[:end]), 0xff))
		if r != result || again != in {
			t.Fatalf("with other padding: %+v, %v; was %+v", again, r, in)
		}
	})
}
