package nftest

import (
	"fmt"
	"net/netip"
	"testing"

	"sfc/dataplane/packet"
)

// lbTwo is a configuration with two back ends in these states, and more.
func lbTwo(first, second string, more string) string {
	return lbOne(fmt.Sprintf(`{"addr":"10.0.1.1","state":"%s"},{"addr":"10.0.1.2","state":"%s"}%s`, first, second, more))
}

// tcp4 is a TCP segment.
func tcp4(flags uint8, src, dst string) []byte {
	a, b := at4(src), at4(dst)
	return Spec{Src: a.Addr(), Dst: b.Addr(), SPort: a.Port(), DPort: b.Port(), Proto: tcpProto, TCPFlags: flags}.Frame()
}

// TestLB4Stays follows flows while the configuration changes under them: they
// stay with their back end when it drains or the table changes, and go elsewhere
// when it is down.
func TestLB4Stays(t *testing.T) {
	const vip = "192.0.2.10:80"
	for _, r := range runners(t, "lb4") {
		t.Run(fmt.Sprintf("%T", r), func(t *testing.T) {
			send := func(frame []byte) (to string, reason uint16) {
				res := r.Process([]Packet{NewPacket(frame, 1e9)})[0]
				return netip.AddrFrom4([4]byte(res.Frame[packet.EtherLen+16:])).String(), res.Reason
			}
			want := func(what string, frame []byte, to string, reason uint16) {
				t.Helper()
				if got, why := send(frame); why != reason || reason == 0 && got != to {
					t.Errorf("%s: to %s, reason %d; want %s, %d", what, got, why, to, reason)
				}
			}
			change := func(config string) {
				t.Helper()
				if err := r.(Reconfigurer).Reconfigure([]byte(config)); err != nil {
					t.Fatal(err)
				}
			}
			if err := r.Configure([]byte(lbTwo("up", "down", ""))); err != nil {
				t.Fatal(err)
			}
			client := "198.51.100.7:4000"
			want("the first", tcp4(syn, client, vip), "10.0.1.1", 0)
			change(lbTwo("draining", "up", `,{"addr":"10.0.0.9"}`))
			want("draining", tcp4(ack, client, vip), "10.0.1.1", 0)
			want("its answer", tcp4(ack, "10.0.1.1:80", client), "198.51.100.7", 0)
			if to, _ := send(tcp4(syn, "198.51.100.8:4000", vip)); to == "10.0.1.1" {
				t.Error("a new flow went to one that is draining")
			}
			change(lbOne(`{"addr":"10.0.1.2"},{"addr":"10.0.1.1"}`))
			want("another order", tcp4(ack, client, vip), "10.0.1.1", 0)
			change(lbTwo("down", "up", ""))
			want("down", tcp4(ack, client, vip), "", lbDown)
			want("late answer", tcp4(ack, "10.0.1.1:80", client), "198.51.100.7", 0)
			want("next connection", tcp4(syn, client, vip), "10.0.1.2", 0)
			want("its data", tcp4(ack, client, vip), "10.0.1.2", 0)
			want("its answer", tcp4(ack, "10.0.1.2:80", client), "198.51.100.7", 0)
			want("an answer of who was before", tcp4(ack, "10.0.1.1:80", client), "", lbWrong)
			change(lbOne(`{"addr":"10.0.1.3"}`))
			want("gone", tcp4(ack, client, vip), "", lbDown)
			want("a third back end is one tuple too many", tcp4(syn, client, vip), "", lbBind)
			change(lbOne(``))
			want("nobody", tcp4(syn, client, vip), "", lbNoBackend)
			change(`{"services":[]}`)
			want("no service", tcp4(syn, client, vip), "", lbDown)
			change(lbTwo("up", "up", ""))
			want("back again", tcp4(ack, client, vip), "10.0.1.2", 0)
			if c := r.(Counter).Counters(); c[0] != 2 || c[1] != 1 {
				t.Errorf("%d flows, %d moved; want 2 and 1", c[0], c[1])
			}
		})
	}
}

// lbConfigs decide in many ways in the world of lbFresh.
var lbConfigs = []string{
	`{"table_size":251,"services":[
		{"vip":"192.0.2.10","port":80,"proto":"tcp","backends":[{"addr":"10.0.1.1","port":8080},{"addr":"10.0.1.2","weight":3},{"addr":"10.0.1.3","state":"down"}]},
		{"vip":"192.0.2.10","proto":"udp","hash":"source","backends":[{"addr":"10.0.1.1"},{"addr":"10.0.1.2"}]},
		{"vip":"192.0.2.11","mode":"dsr","backends":[{"addr":"10.0.1.1","mac":"02:00:00:00:01:01"},{"addr":"10.0.1.2","mac":"02:00:00:00:01:02"}]},
		{"vip":"192.0.2.12","backends":[{"addr":"10.0.1.9"},{"addr":"10.0.1.8"}]},
		{"vip":"192.0.2.13","backends":[]}]}`,
	`{"table_size":13,"others":"drop","seed":7,"src_mac":"02:00:00:00:00:01","services":[
		{"vip":"192.0.2.10","backends":[{"addr":"10.0.1.1"},{"addr":"10.0.1.3"}]},
		{"vip":"192.0.2.10","proto":"tcp","backends":[{"addr":"10.0.1.2","state":"draining"},{"addr":"10.0.1.1"}]},
		{"vip":"192.0.2.11","mode":"dsr","hash":"source","backends":[{"addr":"10.0.1.2","mac":"02:00:00:00:01:02"}]}]}`,
	`{"table_size":2,"services":[{"vip":"192.0.2.10","port":80,"proto":"tcp","backends":[{"addr":"10.0.1.2","weight":100},{"addr":"10.0.1.3","weight":0}]}]}`,
}

// lbFresh begins something at a client.
func lbFresh(g gen) []byte {
	src, dst := netip.AddrFrom4([4]byte{198, 51, 100, byte(g.IntN(8))}), netip.AddrFrom4([4]byte{192, 0, 2, byte(9 + g.IntN(6))})
	sport := pick(g, 4000, 4001, uint16(g.IntN(65536)))
	switch g.IntN(6) {
	case 0:
		return echo(pick[byte](g, 8, 8, 13, 5), src, dst, sport)
	case 1:
		return Spec{Src: src, Dst: dst, SPort: sport, DPort: 80, Proto: pick[uint8](g, 47, 51, 132), Payload: make([]byte, 20)}.Frame()
	}
	return Spec{Src: src, Dst: dst, SPort: sport, DPort: pick[uint16](g, 80, 80, 53), Proto: pick(g, udpProto, tcpProto, tcpProto),
		TCPFlags: pick[uint8](g, syn, syn, ack, rst, 0x11), Payload: make([]byte, g.IntN(40))}.Frame()
}

// lbStray belongs to nothing.
func lbStray(g gen) []byte { return g.spec().Frame() }

func lbDialog(g gen) *dialog { return newDialog(g, lbFresh, lbStray) }

// lbConfig draws a configuration.
func (g gen) lbConfig() map[string]any {
	services := []any{}
	for i := range g.IntN(5) {
		s := map[string]any{"vip": fmt.Sprintf("192.0.2.%d", 10+i%4)}
		dsr := g.oneIn(3)
		if dsr {
			s["mode"] = "dsr"
		}
		g.maybe(s, "hash", pick(g, "five_tuple", "source"))
		g.maybe(s, "proto", pick(g, "tcp", "udp"))
		if s["proto"] != nil {
			g.maybe(s, "port", pick(g, 80, 53))
		}
		backends := []any{}
		for k := range g.IntN(5) {
			b := map[string]any{"addr": fmt.Sprintf("10.0.1.%d", k)}
			if dsr {
				b["mac"] = fmt.Sprintf("02:00:00:00:01:%02x", k)
			} else if s["port"] != nil {
				g.maybe(b, "port", 8080)
			}
			g.maybe(b, "weight", g.IntN(4))
			g.maybe(b, "state", pick(g, "up", "up", "draining", "down"))
			backends = append(backends, b)
		}
		s["backends"] = backends
		services = append(services, s)
	}
	c := map[string]any{"services": services, "table_size": pick(g, 2, 13, 251)}
	g.maybe(c, "seed", g.Int64())
	g.maybe(c, "others", pick(g, "drop", "pass"))
	g.maybe(c, "src_mac", "02:aA:00:fF:09:90")
	return c
}

// TestLB4Random holds dialogs through all implementations, over 100,000 packets,
// while the configuration changes every now and then.
func TestLB4Random(t *testing.T) {
	seed := testSeed(t)
	all := runners(t, "lb4")
	seen := map[uint16]int{}
	for round := range uint64(6) {
		d := lbDialog(newGen(seed + round))
		d.spoil = round%2 == 1
		d.configs = lbConfigs
		lockstep(t, d, lbConfigs[round%3], 18000, func(p Packet, r Result) {
			seen[r.Reason]++
			if r.Verdict == packet.Next && !d.spoil && sumsRight(p.Frame) && !sumsRight(r.Frame) {
				t.Fatalf("a right checksum became wrong:\n%x\n%x", p.Frame, r.Frame)
			}
		}, all...)
	}
	t.Logf("reasons %v", seen)
	for reason := range uint16(lbNotService + 1) {
		if seen[reason] == 0 {
			t.Errorf("no packet was dropped for reason %d: %v", reason, seen)
		}
	}
}
