package scenario

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sfc/dataplane/packet"
	"sfc/testbed/capture"
	"sfc/testbed/replay"
)

// The notation against bytes put down and summed by hand.
func TestNotationBytes(t *testing.T) {
	tests := []struct{ line, want string }{
		{"ip 10.0.0.1>10.0.0.2 ttl 64 udp 1234>53 payload 2", `
			02000000000b 02000000000a 0800
			4500 001e 0001 0000 4011 66cc 0a000001 0a000002
			04d2 0035 000a e6cf 0001`},
		{"eth 02:00:00:00:00:01>ff:ff:ff:ff:ff:ff vlan 5 arp 10.0.0.1>10.0.0.2", `
			ffffffffffff 020000000001 8100 0005 0806
			0001 0800 0604 0001 020000000001 0a000001 000000000000 0a000002`},
		{"ip fe80::1>ff02::1 hop 255 hopopts icmp6 128", `
			02000000000b 02000000000a 86dd
			60000000 0010 00 ff fe800000000000000000000000000001 ff020000000000000000000000000001
			3a00 010400000000 8000 8236 00000001`},
		{"ip 10.0.0.1>10.0.0.2 id 7 frag 24 more nops 1 proto 17", `
			02000000000b 02000000000a 0800
			4600 0018 0007 2003 4011 43c7 0a000001 0a000002 01010101`},
		{"ip 10.0.0.1>10.0.0.2 tcp 7>8 SYN seq 0x01020304 ack 5 win 6", `
			02000000000b 02000000000a 0800
			4500 0028 0001 0000 4006 66cd 0a000001 0a000002
			0007 0008 01020304 00000005 5002 0006 97c0 0000`},
		{"hex 0102 03", "010203"},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			want, err := hex.DecodeString(strings.Join(strings.Fields(tt.want), ""))
			if err != nil {
				t.Fatal(err)
			}
			got, err := parsePackets("test", []byte(tt.line))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got[0].frame, want) {
				t.Errorf("got:\n%swant:\n%s", hex.Dump(got[0].frame), hex.Dump(want))
			}
		})
	}
}

// What the notation builds, the engine's parser reads back.
func TestNotationParses(t *testing.T) {
	tests := []struct {
		line           string
		result         packet.ParseResult
		proto          uint8
		sport, dport   uint16
		flags          uint16
		goodSums       bool
		lastBytesAsHex string
	}{
		{"vlan 3 ip 10.0.0.1>10.0.0.2 tcp 7>8 SYN,ACK", packet.ParsedIP, 6, 7, 8, packet.FlagIPv4 | packet.FlagVLAN, true, ""},
		{"ip 2001:db8::1>2001:db8::2 dstopts fragment 0 more udp 7>8", packet.ParsedIP, 17, 7, 8, packet.FlagIPv6 | packet.FlagFragment, true, ""},
		{"ip 10.0.0.1>10.0.0.2 udp 7>8 badsum", packet.ParsedIP, 17, 7, 8, packet.FlagIPv4, false, ""},
		{"ip fe80::1>fe80::2 icmp6 135 payload 16", packet.NeighbourDiscovery, 58, 0, 0, packet.FlagIPv6, true, ""},
		{"eth type 0x88cc payload 3", packet.NotIP, 0, 0, 0, 0, true, "000102"},
		{"ip 10.0.0.1>10.0.0.2 udp 7>53 dns a.bc d^14", packet.ParsedIP, 17, 7, 53, packet.FlagIPv4, true,
			"1234 0100 0002 0000 0000 0000 0161 026263 00 0001 0001 0164 c00e 0001 0001"},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			list, err := parsePackets("test", []byte(tt.line))
			if err != nil {
				t.Fatal(err)
			}
			frame := list[0].frame
			in, result := packet.Parse(frame)
			if result != tt.result || in.Proto != tt.proto || in.SrcPort != tt.sport || in.DstPort != tt.dport || in.Flags != tt.flags {
				t.Errorf("%v %+v", result, in)
			}
			if packet.VerifyChecksums(frame) != tt.goodSums {
				t.Errorf("checksums good: %v", !tt.goodSums)
			}
			tail, err := hex.DecodeString(strings.ReplaceAll(tt.lastBytesAsHex, " ", ""))
			if err != nil || !bytes.HasSuffix(frame, tail) {
				t.Errorf("ends differently: %v\n%s", err, hex.Dump(frame))
			}
		})
	}
}

func TestNotationTimes(t *testing.T) {
	list, err := parsePackets("test", []byte("# nothing\n\n@5ms arp 10.0.0.1>10.0.0.2\narp 10.0.0.1>10.0.0.2 # later\n@2s arp 10.0.0.1>10.0.0.2\n"))
	if err != nil {
		t.Fatal(err)
	}
	var at []time.Duration
	for _, p := range list {
		at = append(at, p.at)
	}
	if want := []time.Duration{5 * time.Millisecond, 6 * time.Millisecond, 2 * time.Second}; !slices.Equal(at, want) {
		t.Errorf("times %v, want %v", at, want)
	}
}

// A misspelt packet is an error with its line, never another packet.
func TestNotationIsStrict(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"ip 10.0.0.1>10.0.0.2 upd 1>2", `"upd" begins no layer`},
		{"ip 10.0.0.1>10.0.0.2 ttl 256", "not a number from 0 to 255"},
		{"ip 10.0.0.1>10.0.0.2 frag 7", "not a multiple of 8"},
		{"ip 10.0.0.1>2001:db8::1", "not two addresses of one family"},
		{"ip 10.0.0.1 udp 1>2", "not FROM>TO"},
		{"ip 10.0.0.1>10.0.0.2 udp 1>70000", "not a port"},
		{"ip 10.0.0.1>10.0.0.2 tcp 1>2 SYN,AKC", "not a TCP flag"},
		{"ip 10.0.0.1>10.0.0.2 udp", "ends too early"},
		{"udp 1>2", "udp cannot stand here"},
		{"ip 10.0.0.1>10.0.0.2 ip 10.0.0.1>10.0.0.2", "ip cannot stand here"},
		{"ip 10.0.0.1>10.0.0.2 udp 1>2 tcp 1>2", "tcp cannot stand here"},
		{"eth 02:00:00:00:00>02:00:00:00:00:01", "not a MAC address"},
		{"arp ::1>::2", "IPv4"},
		{"hex 012", "odd length"},
		{"ip 10.0.0.1>10.0.0.2 udp 1>2 bytes zz", "bytes"},
		{"ip ::1>::2 udp 1>2 badsum", "needs an IPv4 header"},
		{"ip 10.0.0.1>10.0.0.2 udp 1>2 dns a^x", "not an offset"},
		{"@soon arp 10.0.0.1>10.0.0.2", "invalid duration"},
		{"@2s arp 10.0.0.1>10.0.0.2\n@1s arp 10.0.0.1>10.0.0.2", "before the packet above"},
	} {
		_, err := parsePackets("in", []byte("\n"+tt.line))
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "in:") {
			t.Errorf("%q: error %v, want %q", tt.line, err, tt.want)
		}
	}
}

// The parts of a file are checked before anything runs.
func TestScenarioIsStrict(t *testing.T) {
	good := "what is shown\n-- chain.yaml --\n-- in --\n-- want.out --\n-- want.json --\n{\"sent\":0,\"received\":0,\"passed\":0,\"dropped\":{}}\n"
	if _, err := parse(t.TempDir(), []byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ from, to, want string }{
		{"what is shown", "", "the text on top"},
		{"-- in --", "-- inn --", "part inn: not a part"},
		{"-- in --", "-- in --\n-- in --", "part in is there twice"},
		{"-- want.out --", "", "part want.out is missing"},
		{"-- chain.yaml --", "", "part chain.yaml is missing"},
		{`"passed":0,`, "", "part want.json: passed is missing"},
		{"-- in --", "-- options.json --\n{\"speed\": 1}\n-- in --", "speed"},
		{"-- in --", "-- f.wat --\n(module\n-- in --", "part f.wat"},
	} {
		_, err := parse(t.TempDir(), []byte(strings.Replace(good, tt.from, tt.to, 1)))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q for %q: error %v, want %q", tt.to, tt.from, err, tt.want)
		}
	}
}

// Every kind of difference is found: a comparison that never fails proves
// nothing.
func TestDifferencesAreFound(t *testing.T) {
	want := []timed{{frame: []byte("one")}, {frame: []byte("two")}}
	for _, tt := range []struct {
		got  []string
		want int
	}{{[]string{"one", "two"}, 0}, {[]string{"one"}, 1}, {[]string{"two", "one"}, 2}, {[]string{"one", "two", "two"}, 1}, {[]string{"one", "twoo"}, 1}} {
		var got []capture.Packet
		for _, g := range tt.got {
			got = append(got, capture.Packet{Data: []byte(g)})
		}
		if c := diffPackets(got, want); len(c) != tt.want {
			t.Errorf("%q: %d complaints, want %d: %q", tt.got, len(c), tt.want, c)
		}
	}

	rep := &replay.Report{
		Sent: 3, Received: 1, Dropped: map[string]uint64{"acl.denied": 2},
		Functions: []replay.FunctionData{{Name: "acl", Packets: 3, State: "running"}},
	}
	for _, tt := range []struct{ want, complaint string }{
		{`{"sent":3,"received":1,"passed":0,"dropped":{"acl.denied":2},"functions":{"acl":{"packets":3,"faults":0}}}`, ""},
		{`{"sent":4,"received":1,"passed":0,"dropped":{"acl.denied":2}}`, "/sent is 3, want 4"},
		{`{"sent":3,"received":1,"passed":0,"dropped":{}}`, "2 as acl.denied, which is not in want.json"},
		{`{"sent":3,"received":1,"passed":0,"dropped":{"acl.denied":1}}`, "/dropped/acl.denied is 2, want 1"},
		{`{"sent":3,"received":1,"passed":0,"dropped":{"acl.denied":2,"hop.expired":1}}`, "/dropped/hop.expired is <nil>, want 1"},
		{`{"dropped":{"acl.denied":2},"functions":{"acl":{"state":"quarantined"}}}`, "/functions/acl/state is running, want quarantined"},
		{`{"dropped":{"acl.denied":2},"functions":{"hop":{"packets":1}}}`, "/functions/hop/packets is <nil>, want 1"},
		{`{"dropped":{"acl.denied":2},"sent":{"x":1}}`, "/sent is 3, want an object"},
	} {
		parsed, err := parseReport([]byte(tt.want))
		if err != nil {
			t.Fatal(err)
		}
		got, err := diffReport(rep, parsed)
		if err != nil {
			t.Fatal(err)
		}
		if text := fmt.Sprint(got); (len(got) > 0) != (tt.complaint != "") || !strings.Contains(text, tt.complaint) {
			t.Errorf("%s: complaints %s, want %q", tt.want, text, tt.complaint)
		}
	}
	rep.Lost = 1
	got, err := diffReport(rep, map[string]any{"dropped": map[string]any{"acl.denied": nil}})
	if err != nil || !strings.Contains(fmt.Sprint(got), "lost is 1") {
		t.Errorf("a lost packet: complaints %q, %v", got, err)
	}
}
