package capture

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	le = binary.LittleEndian
	be = binary.BigEndian
)

func TestReadFormats(t *testing.T) {
	tests := []struct {
		name string
		in   *pcapFile
		want []Packet
	}{
		{"pcap microseconds", newPcap(le, magicMicro, 1).record(7, 5, 3, 3, "abc"), []Packet{{TimeNs: 7_000_005_000, Data: []byte("abc"), OrigLen: 3}}},
		{"pcap microseconds, swapped", newPcap(be, magicMicro, 1).record(7, 5, 3, 9, "abc"), []Packet{{TimeNs: 7_000_005_000, Data: []byte("abc"), OrigLen: 9}}},
		{"pcap nanoseconds", newPcap(le, magicNano, 1).record(7, 5, 1, 1, "a"), []Packet{{TimeNs: 7_000_000_005, Data: []byte("a"), OrigLen: 1}}},
		{"pcap nanoseconds, swapped", newPcap(be, magicNano, 1).record(7, 5, 1, 1, "a"), []Packet{{TimeNs: 7_000_000_005, Data: []byte("a"), OrigLen: 1}}},
		{"pcap with FCS bits beside the link type", newPcap(le, magicMicro, 0x24000001).record(1, 0, 1, 1, "a"), []Packet{{TimeNs: 1e9, Data: []byte("a"), OrigLen: 1}}},
		{"pcap, packet longer than the header's snap length", newPcap(le, magicMicro, 1).record(1, 0, 200, 200, strings.Repeat("x", 200)), []Packet{{TimeNs: 1e9, Data: []byte(strings.Repeat("x", 200)), OrigLen: 200}}},
		{"pcap, captured more than there was", newPcap(le, magicMicro, 1).record(1, 0, 2, 1, "ab"), []Packet{{TimeNs: 1e9, Data: []byte("ab"), OrigLen: 2}}},
		{"pcap empty packet", newPcap(le, magicMicro, 1).record(1, 0, 0, 60, ""), []Packet{{TimeNs: 1e9, Data: nil, OrigLen: 60}}},
		{"pcap header only", newPcap(le, magicMicro, 1), nil},
		{"pcapng header only", (&pcapFile{order: le}).section(), nil},
		{"pcapng, other blocks between", (&pcapFile{order: le}).section().block(0xbad, func(b *pcapFile) { b.raw("12345678") }).
			ifc(1, 0, nil).block(5, func(b *pcapFile) { b.raw("statistics") }).epb(0, 1, 5, 5, "hello"), []Packet{{TimeNs: 1000, Data: []byte("hello"), OrigLen: 5}}},
		{"pcapng big endian", (&pcapFile{order: be}).section().ifc(1, 0, nil).epb(0, 1, 2, 8, "hi"), []Packet{{TimeNs: 1000, Data: []byte("hi"), OrigLen: 8}}},
		{"pcapng interfaces with their own clocks", (&pcapFile{order: le}).section().ifc(1, 0, nil).ifc(1, 0, resolution(9)).ifc(1, 0, resolution(0x80|20)).
			epb(1, 1_000_000_007, 1, 1, "a").epb(0, 2_000_001, 1, 1, "b").epb(2, 3<<20|1<<19, 1, 1, "c"),
			[]Packet{{TimeNs: 1_000_000_007, Data: []byte("a"), OrigLen: 1, Interface: 1}, {TimeNs: 2_000_001_000, Data: []byte("b"), OrigLen: 1}, {TimeNs: 3_500_000_000, Data: []byte("c"), OrigLen: 1, Interface: 2}}},
		{"pcapng time offset", (&pcapFile{order: le}).section().ifc(1, 0, func(b *pcapFile) {
			b.u16(optTSOffset).u16(8).u32(10).u32(0)
		}).epb(0, 5, 1, 1, "a"), []Packet{{TimeNs: 10_000_005_000, Data: []byte("a"), OrigLen: 1}}},
		{"pcapng interface of another kind without packets", (&pcapFile{order: le}).section().ifc(113, 0, nil).ifc(1, 0, nil).epb(1, 0, 1, 1, "a"), []Packet{{TimeNs: 0, Data: []byte("a"), OrigLen: 1, Interface: 1}}},
		{"pcapng simple packets keep the time of the one before", (&pcapFile{order: le}).section().ifc(1, 3, nil).epb(0, 4, 1, 1, "a").
			block(blockSimple, func(b *pcapFile) { b.u32(9).raw("xyz") }), []Packet{{TimeNs: 4000, Data: []byte("a"), OrigLen: 1}, {TimeNs: 4000, Data: []byte("xyz"), OrigLen: 9}}},
		{"pcapng obsolete packet block", (&pcapFile{order: be}).section().ifc(1, 0, nil).
			block(blockPacket, func(b *pcapFile) { b.u16(0).u16(77).u32(0).u32(6).u32(2).u32(2).raw("ok") }), []Packet{{TimeNs: 6000, Data: []byte("ok"), OrigLen: 2}}},
	}
	// Two sections of different byte order, the second with its own interfaces.
	two := (&pcapFile{order: le}).section().ifc(1, 0, nil).epb(0, 1, 1, 1, "a")
	two.order = be
	two.section().ifc(1, 0, resolution(3)).epb(0, 2, 1, 1, "b")
	tests = append(tests, struct {
		name string
		in   *pcapFile
		want []Packet
	}{"pcapng two sections", two, []Packet{{TimeNs: 1000, Data: []byte("a"), OrigLen: 1}, {TimeNs: 2_000_000, Data: []byte("b"), OrigLen: 1}}})

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ReadFile(tt.in.write(t))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("packets (-want +got):\n%s", d)
			}
		})
	}
}

func TestReadErrors(t *testing.T) {
	long := newPcap(le, magicMicro, 1).record(1, 0, 2, 2, "ab")
	ng := func() *pcapFile { return (&pcapFile{order: le}).section().ifc(1, 0, nil).epb(0, 1, 2, 2, "ab") }
	tests := []struct {
		name    string
		in      []byte
		packets int
		want    string // part of the error
	}{
		{"empty file", nil, 0, "has only 0 bytes"},
		{"text", []byte("apiVersion: sfc/v1\n"), 0, "begins with bytes 61 70 69 56; give a pcap or pcapng file"},
		{"gzip", []byte("\x1f\x8b\x08\x00rest"), 0, "gunzip first"},
		{"old version", (&pcapFile{order: le}).u32(magicMicro).u16(2).u16(2).raw(strings.Repeat("\x00", 16)).b, 0, "version 2.2 is not 2.4"},
		{"link type", newPcap(le, magicMicro, 113).b, 0, "link type 113 LINUX_SLL, not Ethernet (1)"},
		{"link type that is Ethernet in its low 8 bits", newPcap(le, magicMicro, 257).b, 0, "link type 257"},
		{"header cut", long.b[:20], 0, "breaks off in the record at byte 0, after 0 whole packets (at least 4 bytes missing)"},
		{"record header cut", append(long.b, 1, 2, 3), 1, "at byte 42, after 1 whole packets (at least 13 bytes missing)"},
		{"record data cut", append(long.b, long.b[24:41]...), 1, "at byte 42, after 1 whole packets (at least 1 bytes missing)"},
		{"absurd length", newPcap(le, magicMicro, 1).record(0, 0, 1<<31, 1<<31, "").b, 0, "captured length 2147483648 of packet 1 is above 262144"},
		{"pcapng cut in its first header", ng().b[:10], 0, "after 0 whole packets"},
		{"pcapng cut in a block", ng().b[:len(ng().b)-10], 0, "after 0 whole packets (at least 10 bytes missing)"},
		{"pcapng cut in a block header", append(ng().b, 6, 0, 0, 0, 0), 1, "after 1 whole packets (at least 7 bytes missing)"},
		{"pcapng byte order mark", []byte("\n\r\r\n\x1c\x00\x00\x00abcdefgh"), 0, "byte order mark 61 62 63 64"},
		{"pcapng block too short", ng().u32(6).u32(8).b, 1, "block length 8 is not a multiple of 4 between 12"},
		{"pcapng block odd", ng().u32(6).u32(33).b, 1, "block length 33"},
		{"pcapng block huge", ng().u32(6).u32(0xfffffffc).b, 1, "block length 4294967292"},
		{"pcapng lengths differ", ng().u32(99).u32(12).u32(16).b, 1, "block length is 12 in front and 16 behind"},
		{"pcapng version", (&pcapFile{order: le}).block(blockSection, func(b *pcapFile) { b.u32(byteOrderMagic).u16(2).u16(0).u32(0).u32(0) }).b, 0, "version 2.0 is not 1.x"},
		{"pcapng short section", (&pcapFile{order: le}).block(blockSection, func(b *pcapFile) { b.u32(byteOrderMagic) }).b, 0, "block has 0 bytes where 12 are needed"},
		{"pcapng packet before its interface", (&pcapFile{order: le}).section().epb(0, 1, 1, 1, "a").b, 0, "packet 1 names interface 0; the section has described 0"},
		{"pcapng interface of the section before", ng().section().epb(0, 1, 1, 1, "a").b, 1, "packet 2 names interface 0; the section has described 0"},
		{"pcapng link type", ng().ifc(276, 0, nil).epb(1, 1, 1, 1, "a").b, 1, "link type 276 LINUX_SLL2 from packet 2 on, not Ethernet"},
		{"pcapng length beyond its block", ng().epb(0, 1, 9, 9, "a").b, 1, "captured length 9 of packet 2 is above 4"},
		{"pcapng simple packet beyond its block", ng().block(blockSimple, func(b *pcapFile) { b.u32(100).raw("a") }).b, 1, "captured length 100 of packet 2"},
		{"pcapng option beyond its block", (&pcapFile{order: le}).section().ifc(1, 0, func(b *pcapFile) { b.u16(2).u16(50) }).b, 0, "option 2 of interface 0 has 50 bytes where 0 are left"},
		{"pcapng time resolution of two bytes", (&pcapFile{order: le}).section().ifc(1, 0, func(b *pcapFile) { b.u16(optTSResol).u16(2).u32(0) }).b, 0, "option 9 of interface 0 has 2 bytes"},
		{"pcapng interface too short", (&pcapFile{order: le}).section().block(blockInterface, func(b *pcapFile) { b.u32(1) }).b, 0, "interface description of 4 bytes"},
		{"pcapng time beyond 2262", (&pcapFile{order: le}).section().ifc(1, 0, resolution(0)).epb(0, math.MaxUint64, 1, 1, "a").b, 0, "time stamp 18446744073709551615 of packet 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := (&pcapFile{b: tt.in}).write(t)
			packets, err := ReadFile(path)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want one with %q", err, tt.want)
			}
			if !strings.Contains(err.Error(), path) {
				t.Errorf("error %q does not name the file", err)
			}
			if len(packets) != tt.packets {
				t.Errorf("%d whole packets, want %d", len(packets), tt.packets)
			}
		})
	}
}

func TestErrorsCanBeToldApart(t *testing.T) {
	if _, err := ReadFile(filepath.Join(t.TempDir(), "none.pcap")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := ReadFile(t.TempDir()); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("directory: %v", err)
	}
	if _, err := readAll("nonsense"); !errors.Is(err, ErrNotCapture) {
		t.Errorf("not a capture: %v", err)
	}
	var link *LinkTypeError
	if _, err := readAll(string(newPcap(be, magicNano, 12).b)); !errors.As(err, &link) || link.LinkType != 12 || link.Packet != 0 {
		t.Errorf("link type: %v", err)
	}
	var cut *TruncatedError
	in := newPcap(le, magicMicro, 1).record(1, 0, 2, 2, "ab").record(1, 0, 9, 9, "cd")
	if _, err := readAll(string(in.b)); !errors.As(err, &cut) || *cut != (TruncatedError{"mem", 42, 1, 7}) {
		t.Errorf("truncated: %#v", err)
	}
	var bad *CorruptError
	if _, err := readAll(string(in.b[:24]) + strings.Repeat("\xff", 16)); !errors.As(err, &bad) || bad.Offset != 24 {
		t.Errorf("corrupt: %#v", err)
	}
}

func TestErrorIsFinal(t *testing.T) {
	r, err := NewReader(strings.NewReader(string(newPcap(le, magicMicro, 1).record(1, 0, 9, 9, "short").b)), "mem")
	if err != nil {
		t.Fatal(err)
	}
	_, first := r.Next()
	_, second := r.Next()
	if first == nil || !errors.Is(second, first) {
		t.Errorf("Next gave %v, then %v", first, second)
	}
}

func TestPacketCut(t *testing.T) {
	packets, err := readAll(string(newPcap(le, magicMicro, 1).record(1, 0, 2, 60, "ab").record(1, 0, 2, 2, "cd").b))
	if err != nil {
		t.Fatal(err)
	}
	if !packets[0].Cut() || packets[1].Cut() {
		t.Errorf("Cut is %v and %v, want true and false", packets[0].Cut(), packets[1].Cut())
	}
}

func TestTimeNs(t *testing.T) {
	tests := []struct {
		ifc   ngInterface
		ticks uint64
		want  int64
		ok    bool
	}{
		{ngInterface{exponent: 6}, 1_700_000_000_123_456, 1_700_000_000_123_456_000, true},
		{ngInterface{exponent: 9}, math.MaxInt64, math.MaxInt64, true},
		{ngInterface{exponent: 9}, math.MaxInt64 + 1, 0, false},
		{ngInterface{exponent: 12}, 1_999, 1, true},
		{ngInterface{exponent: 28}, math.MaxUint64, 1, true},
		{ngInterface{exponent: 29}, math.MaxUint64, 0, true},
		{ngInterface{exponent: 127}, math.MaxUint64, 0, true},
		{ngInterface{binary: true, exponent: 0}, 3, 3e9, true},
		{ngInterface{binary: true, exponent: 63}, 1 << 62, 5e8, true},
		{ngInterface{binary: true, exponent: 64}, 1 << 63, 5e8, true},
		{ngInterface{binary: true, exponent: 127}, math.MaxUint64, 0, true},
		{ngInterface{exponent: 9, offset: -1}, 1e9 + 4, 4, true},
		{ngInterface{exponent: 9, offset: -2}, 1e9 + 4, 0, false},
		{ngInterface{exponent: 9, offset: math.MinInt64}, 0, 0, false},
		{ngInterface{exponent: 9, offset: 9_223_372_036}, 1e9, 0, false},
	}
	for _, tt := range tests {
		if got, ok := tt.ifc.timeNs(tt.ticks); got != tt.want || ok != tt.ok {
			t.Errorf("%+v.timeNs(%d) = %d, %v; want %d, %v", tt.ifc, tt.ticks, got, ok, tt.want, tt.ok)
		}
	}
}

// A record that claims much and holds nothing must not take the memory it
// claims.
func TestClaimsTakeNoMemory(t *testing.T) {
	in := (&pcapFile{order: le}).section().ifc(1, 0, nil).u32(99).u32(16 << 20)
	path := in.write(t)
	got := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ReadFile(path); err == nil {
				b.Fatal("no error")
			}
		}
	})
	if n := got.AllocedBytesPerOp(); n > 2*slabBytes {
		t.Errorf("%d bytes allocated for a file of %d", n, len(in.b))
	}
	if err := os.Remove(path); err != nil {
		t.Error(err)
	}
}
