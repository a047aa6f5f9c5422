package filter

import (
	"encoding/hex"
	"math/rand/v2"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/bpf"

	"sfc/dataplane/packet"
)

// frame makes a frame; an IPv6 address makes it IPv6.
func frame(src, dst string, proto uint8, sport, dport uint16) []byte {
	a, b := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	f := make([]byte, 14, 80)
	copy(f, "\x02\x00\x00\x00\x00\x0b\x02\x00\x00\x00\x00\x0a")
	ports := []byte{byte(sport >> 8), byte(sport), byte(dport >> 8), byte(dport), 0, 20, 0, 0, 0, 0, 0, 0, 0x50, 0, 0, 0, 0, 0, 0, 0}
	if a.Is4() {
		f[12], f[13] = 8, 0
		f = append(f, 0x45, 0, 0, byte(20+len(ports)), 0, 0, 0, 0, 64, proto, 0, 0)
	} else {
		f[12], f[13] = 0x86, 0xdd
		f = append(f, 0x60, 0, 0, 0, 0, byte(len(ports)), proto, 64)
	}
	f = append(append(f, a.AsSlice()...), b.AsSlice()...)
	return append(f, ports...)
}

func tag(f []byte, vlan byte) []byte {
	return append(append(append([]byte{}, f[:12]...), 0x81, 0, 0, vlan), f[12:]...)
}

func TestFilter(t *testing.T) {
	web := frame("10.0.0.1", "192.0.2.7", packet.ProtoTCP, 40000, 80)
	dns := frame("2001:db8::1", "2001:db8::2", packet.ProtoUDP, 5353, 53)
	arp := append([]byte("\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x0a\x08\x06"), make([]byte, 28)...)
	for text, want := range map[string]string{
		"":                                      "web dns arp tagged",
		"tcp":                                   "web tagged",
		"ip":                                    "web tagged",
		"ip6":                                   "dns",
		"arp":                                   "arp",
		"not arp":                               "web dns tagged",
		"host 10.0.0.1":                         "web tagged",
		"10.0.0.1":                              "web tagged",
		"host 10.0.0.1 and tcp port 80":         "web tagged",
		"dst host 10.0.0.1":                     "",
		"src or dst host 192.0.2.7":             "web tagged",
		"src and dst net 10.0.0.0/8":            "",
		"net 192.0.2.0/24":                      "web tagged",
		"port 53":                               "dns",
		"port 53 or 80":                         "web dns tagged",
		"port domain or http":                   "web dns tagged",
		"udp port 80":                           "",
		"tcp dst port 80 and src host 10.0.0.1": "web tagged",
		"portrange 79-81":                       "web tagged",
		"src portrange 79-81":                   "",
		"proto 17":                              "dns",
		"ip6 proto udp":                         "dns",
		"vlan":                                  "tagged",
		"vlan 7 and tcp":                        "tagged",
		"vlan 8":                                "",
		"ether src 02:00:00:00:00:0a":           "web dns arp tagged",
		"ether dst 02:00:00:00:00:0a":           "",
		"less 42":                               "arp",
		"greater 60":                            "dns",
		"udp or tcp and port 80":                "web tagged", // from left to right
		"udp or (tcp and port 81)":              "dns",
		"!udp&&!arp":                            "web tagged",
		"host 2001:db8::1 or 10.0.0.1":          "web dns tagged",
	} {
		f, err := Parse(text)
		if err != nil {
			t.Error(err)
			continue
		}
		var got []string
		for _, c := range []struct {
			name  string
			frame []byte
		}{{"web", web}, {"dns", dns}, {"arp", arp}, {"tagged", tag(web, 7)}} {
			if f.Frame(c.frame) {
				got = append(got, c.name)
			}
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%q chooses %q, want %q", text, s, want)
		}
	}
	f, _ := Parse("host 10.0.0.1 and tcp port 80")
	if n := testing.AllocsPerRun(100, func() { f.Frame(web) }); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
	if a, b := netip.MustParseAddrPort("10.0.0.1:5"), netip.MustParseAddrPort("10.0.0.2:80"); !f.Tuple(a, b, packet.ProtoTCP) || f.Tuple(a, b, packet.ProtoUDP) {
		t.Error("a tuple was taken for another")
	}
}

func TestErrors(t *testing.T) {
	for text, want := range map[string]string{
		"host":                       "it ends where there should be an address or a number",
		"host 10.0.0.0/8":            `word 2 is "10.0.0.0/8" where there should be an address`,
		"port 70000":                 "a port",
		"portrange 5-1":              "a range of ports",
		"tcp host 1.2.3.4":           "tcp host means nothing",
		"tcp and":                    "it ends where there should be a protocol",
		"(tcp":                       "there should be )",
		"tcp)":                       "and, or, or the end",
		"frobnicate":                 "there should be a protocol",
		strings.Repeat("(", 100):     "nests deeper",
		strings.Repeat("tcp ", 2000): "at most 4096",
		strings.Repeat("arp or ", MaxTests) + "ip":   "more than 64 things",
		"port 1" + strings.Repeat(" or 2", MaxTests): "more than 64 things",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, want %q", text, err, want)
		}
	}
}

// On frames without tags it is tcpdump's language: the same frames are chosen by
// what tcpdump compiles of the expressions.
func TestAgreesWithTcpdump(t *testing.T) {
	tcpdump, err := exec.LookPath("tcpdump")
	if err != nil {
		t.Skip("there is no tcpdump to compare with")
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	var frames [][]byte
	hosts := [][2]string{{"10.0.0.1", "192.0.2.7"}, {"10.1.0.9", "10.0.0.1"}, {"2001:db8::1", "2001:db8::2"}, {"2001:db8:1::9", "fd00::1"}}
	for range 500 {
		h, ports := hosts[rnd.IntN(4)], []uint16{53, 80, 443, 5005, 40000}
		i := rnd.IntN(2)
		protos := []uint8{packet.ProtoTCP, packet.ProtoUDP, packet.ProtoSCTP, packet.ProtoICMP, packet.ProtoICMPv6}
		frames = append(frames, frame(h[i], h[1-i], protos[rnd.IntN(5)], ports[rnd.IntN(5)], ports[rnd.IntN(5)]))
	}
	for _, text := range []string{
		"ip", "ip6", "tcp", "udp", "sctp", "icmp", "icmp6", "not tcp", "host 10.0.0.1", "src host 10.0.0.1", "dst host 2001:db8::2",
		"net 10.0.0.0/8", "src net 2001:db8::/32", "port 53", "src port 80", "dst port 443 or 80", "tcp port 80", "udp portrange 5000-6000",
		"src and dst net 10.0.0.0/8", "host 10.0.0.1 and (tcp port 80 or udp port 53)", "udp or tcp and port 80", "ip proto 17", "less 60", "greater 75",
		"ether src 02:00:00:00:00:0a", "not (port 53 or port 80) and ip6", "src port 53 and dst port 80 or icmp",
	} {
		out, err := exec.Command(tcpdump, "-y", "EN10MB", "-ddd", text).Output()
		if err != nil {
			t.Fatalf("tcpdump %q: %v", text, err)
		}
		vm := machine(t, string(out))
		f, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, fr := range frames {
			n, err := vm.Run(fr)
			if got, want := f.Frame(fr), err == nil && n > 0; got != want {
				t.Fatalf("%q: %v, tcpdump says %v: %s", text, got, want, hex.EncodeToString(fr))
			}
		}
	}
}

// machine runs what tcpdump -ddd printed.
func machine(t *testing.T, text string) *bpf.VM {
	t.Helper()
	var program []bpf.RawInstruction
	for _, line := range strings.Split(strings.TrimSpace(text), "\n")[1:] {
		var v [4]uint64
		for i, w := range strings.Fields(line) {
			n, err := strconv.ParseUint(w, 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			v[i] = n
		}
		program = append(program, bpf.RawInstruction{Op: uint16(v[0]), Jt: uint8(v[1]), Jf: uint8(v[2]), K: uint32(v[3])})
	}
	list, ok := bpf.Disassemble(program)
	if !ok {
		t.Fatal("an instruction is unknown")
	}
	vm, err := bpf.NewVM(list)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"host 10.0.0.1 and tcp port 80", "!(vlan 7)", "src or dst portrange 1-2 or 3", "ether host 02::1"} {
		f.Add(s, []byte("\x02\x00\x00\x00\x00\x0b\x02\x00\x00\x00\x00\x0a\x08\x00\x45"))
	}
	f.Fuzz(func(t *testing.T, text string, frame []byte) {
		if c, err := Parse(text); err == nil {
			c.Frame(frame)
		}
	})
}
