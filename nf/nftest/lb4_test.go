package nftest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"sfc/dataplane/packet"
)

const (
	lbNoBackend  = 1
	lbDown       = 2
	lbNoService  = 3
	lbBind       = 4
	lbCannot     = 5
	lbWrong      = 6
	lbNoFlow     = 7
	lbNotService = 8
)

// lbOne is a configuration with the service 192.0.2.10:80/tcp and these back ends.
func lbOne(backends string) string {
	return fmt.Sprintf(`{"table_size":251,"services":[{"vip":"192.0.2.10","port":80,"proto":"tcp","backends":[%s]}]}`, backends)
}

// withMACs returns a frame with other MAC addresses; "" leaves one.
func withMACs(frame []byte, dst, src string) []byte {
	frame = slices.Clone(frame)
	copy(frame, dst)
	copy(frame[6:], src)
	return frame
}

const (
	macB = "\x02\x00\x00\x00\x01\x01"
	macL = "\x02\x00\x00\x00\x00\xff"
)

var lbCases = []Case{
	steps("to a back end and back", lbOne(`{"addr":"10.0.1.1","port":8080}`),
		passes(tcpProto, "198.51.100.7:4000", "192.0.2.10:80", "198.51.100.7:4000", "10.0.1.1:8080"),
		passes(tcpProto, "10.0.1.1:8080", "198.51.100.7:4000", "192.0.2.10:80", "198.51.100.7:4000"),
		passes(tcpProto, "198.51.100.7:4000", "192.0.2.10:80", "198.51.100.7:4000", "10.0.1.1:8080"),
		refused(udpProto, "198.51.100.7:4000", "192.0.2.10:80", lbNoService),
		refused(tcpProto, "198.51.100.7:4000", "192.0.2.10:81", lbNoService),
		passes(tcpProto, "198.51.100.7:4000", "192.0.2.11:80", "198.51.100.7:4000", "192.0.2.11:80")),
	steps("errors about both directions", lbOne(`{"addr":"10.0.1.1","port":8080}`),
		passes(tcpProto, "198.51.100.7:4000", "192.0.2.10:80", "198.51.100.7:4000", "10.0.1.1:8080"),
		step{in: icmpError(at4("10.0.1.1:0").Addr(), at4("198.51.100.7:0").Addr(), 3, 3, quoteOf(frame4(tcpProto, "198.51.100.7:4000", "10.0.1.1:8080"), 8)),
			out: icmpError(at4("192.0.2.10:0").Addr(), at4("198.51.100.7:0").Addr(), 3, 3, quoteOf(frame4(tcpProto, "198.51.100.7:4000", "192.0.2.10:80"), 8))},
		step{in: icmpError(natIP.hop, at4("192.0.2.10:0").Addr(), 11, 0, quoteOf(frame4(tcpProto, "192.0.2.10:80", "198.51.100.7:4000"), 8)),
			out: icmpError(natIP.hop, at4("10.0.1.1:0").Addr(), 11, 0, quoteOf(frame4(tcpProto, "10.0.1.1:8080", "198.51.100.7:4000"), 8))}),
	steps("the service that names most", `{"table_size":251,"services":[
		{"vip":"192.0.2.10","backends":[{"addr":"10.0.1.1"}]},
		{"vip":"192.0.2.10","proto":"udp","backends":[{"addr":"10.0.1.2"}]},
		{"vip":"192.0.2.10","port":80,"proto":"tcp","backends":[{"addr":"10.0.1.3"}]}]}`,
		passes(tcpProto, "198.51.100.7:4000", "192.0.2.10:80", "198.51.100.7:4000", "10.0.1.3:80"),
		passes(tcpProto, "198.51.100.7:4000", "192.0.2.10:81", "198.51.100.7:4000", "10.0.1.1:81"),
		passes(udpProto, "198.51.100.7:4000", "192.0.2.10:80", "198.51.100.7:4000", "10.0.1.2:80"),
		passes(sctpProto, "198.51.100.7:4000", "192.0.2.10:80", "198.51.100.7:4000", "10.0.1.1:80"),
		passes(packet.ProtoICMP, "198.51.100.7:9", "192.0.2.10:9", "198.51.100.7:9", "10.0.1.1:9"),
		passes(47, "198.51.100.7:0", "192.0.2.10:0", "198.51.100.7:0", "10.0.1.1:0"),
		step{in: frame4(51, "198.51.100.7:0", "192.0.2.10:0"), drop: lbCannot}),
	steps("as it is, to the back end's MAC address", `{"table_size":251,"src_mac":"02:00:00:00:00:ff","services":[
		{"vip":"192.0.2.10","mode":"dsr","backends":[{"addr":"10.0.1.1","mac":"02:00:00:00:01:01"}]}]}`,
		step{in: frame4(tcpProto, "198.51.100.7:4000", "192.0.2.10:80"), out: withMACs(frame4(tcpProto, "198.51.100.7:4000", "192.0.2.10:80"), macB, macL)},
		passes(tcpProto, "192.0.2.10:80", "198.51.100.7:4000", "192.0.2.10:80", "198.51.100.7:4000"),
		step{in: icmpError(natIP.hop, at4("192.0.2.10:0").Addr(), 11, 0, quoteOf(frame4(tcpProto, "192.0.2.10:80", "198.51.100.7:4000"), 8)),
			out: withMACs(icmpError(natIP.hop, at4("192.0.2.10:0").Addr(), 11, 0, quoteOf(frame4(tcpProto, "192.0.2.10:80", "198.51.100.7:4000"), 8)), macB, macL)}),
	steps("the source's MAC address stays", `{"table_size":251,"services":[{"vip":"192.0.2.10","mode":"dsr","backends":[{"addr":"10.0.1.1","mac":"02:00:00:00:01:01"}]}]}`,
		step{in: frame4(udpProto, "198.51.100.7:4000", "192.0.2.10:80"), out: withMACs(frame4(udpProto, "198.51.100.7:4000", "192.0.2.10:80"), macB, "")}),
	steps("nobody is up", lbOne(`{"addr":"10.0.1.1","state":"down"},{"addr":"10.0.1.2","state":"draining"},{"addr":"10.0.1.3","weight":0}`),
		refused(tcpProto, "198.51.100.7:4000", "192.0.2.10:80", lbNoBackend)),
	steps("others are dropped", `{"services":[],"others":"drop"}`, refused(tcpProto, "198.51.100.7:4000", "192.0.2.10:80", lbNotService)),
	steps("one port through two services", `{"table_size":251,"services":[
		{"vip":"192.0.2.10","backends":[{"addr":"10.0.1.1"}]},{"vip":"192.0.2.11","backends":[{"addr":"10.0.1.1"}]}]}`,
		passes(tcpProto, "198.51.100.7:4000", "192.0.2.10:80", "198.51.100.7:4000", "10.0.1.1:80"),
		refused(tcpProto, "198.51.100.7:4000", "192.0.2.11:80", lbBind)),
	{Name: "counters", Config: lbOne(`{"addr":"10.0.1.1"}`),
		Packets: []Packet{NewPacket(frame4(tcpProto, "198.51.100.7:4000", "192.0.2.10:80"), 0), udp.Packet(0), udp6.Packet(0)},
		Want:    nexts[:3], Counters: []uint64{1, 0, 0, 1, 1}},
	{Name: "no services", Config: `{}`, Refused: true},
	{Name: "no back ends", Config: `{"services":[{"vip":"192.0.2.10"}]}`, Refused: true},
	{Name: "a table of 65536", Config: `{"services":[],"table_size":65536}`, Refused: true},
	{Name: "a service twice", Config: `{"services":[{"vip":"192.0.2.10","backends":[]},{"vip":"192.0.2.10","backends":[]}]}`, Refused: true},
	{Name: "a back end twice", Config: lbOne(`{"addr":"10.0.1.1"},{"addr":"10.0.1.1"}`), Refused: true},
	{Name: "a port without a protocol", Config: `{"services":[{"vip":"192.0.2.10","port":80,"backends":[]}]}`, Refused: true},
	{Name: "a port of a back end alone", Config: `{"services":[{"vip":"192.0.2.10","backends":[{"addr":"10.0.1.1","port":80}]}]}`, Refused: true},
	{Name: "dsr without a MAC address", Config: `{"services":[{"vip":"192.0.2.10","mode":"dsr","backends":[{"addr":"10.0.1.1"}]}]}`, Refused: true},
	{Name: "nat with one", Config: lbOne(`{"addr":"10.0.1.1","mac":"02:00:00:00:01:01"}`), Refused: true},
	{Name: "two MAC addresses", Config: `{"services":[{"vip":"192.0.2.10","mode":"dsr","backends":[{"addr":"10.0.1.1","mac":"02:00:00:00:01:01"}]},
		{"vip":"192.0.2.11","mode":"dsr","backends":[{"addr":"10.0.1.1","mac":"02:00:00:00:01:02"}]}]}`, Refused: true},
	{Name: "65 services", Config: lbServices(65), Refused: true},
	{Name: "64 services with the largest tables", Config: lbServices(64), Packets: []Packet{NewPacket(frame4(udpProto, "198.51.100.7:1", "192.0.2.63:1"), 0)}, Want: nexts[:1]},
}

// lbServices is a configuration with n services of 16 back ends.
func lbServices(n int) string {
	type backend struct {
		Addr string `json:"addr"`
	}
	type service struct {
		VIP      string    `json:"vip"`
		Backends []backend `json:"backends"`
	}
	var list []service
	for i := range n {
		s := service{VIP: fmt.Sprintf("192.0.2.%d", i)}
		for k := range 16 {
			s.Backends = append(s.Backends, backend{fmt.Sprintf("10.0.%d.%d", i, k)})
		}
		list = append(list, s)
	}
	text, err := json.Marshal(map[string]any{"services": list})
	if err != nil {
		panic(err)
	}
	return string(text)
}

// fleet is the configuration of a service for all ports of 192.0.2.10 with so
// many back ends; f may change each.
func fleet(n int, f func(i int, b map[string]any)) []byte {
	var backends []map[string]any
	for i := range n {
		b := map[string]any{"addr": fmt.Sprintf("10.0.%d.%d", i/200, i%200+1)}
		if f(i, b); b["gone"] == nil {
			backends = append(backends, b)
		}
	}
	text, err := json.Marshal(map[string]any{"services": []any{map[string]any{"vip": "192.0.2.10", "backends": backends}}})
	if err != nil {
		panic(err)
	}
	return text
}

// choices returns where n new flows go, each of another client.
func choices(tb testing.TB, r Runner, config []byte, n int) []netip.Addr {
	tb.Helper()
	if err := r.Configure(config); err != nil {
		tb.Fatal(err)
	}
	var packets []Packet
	for i := range n {
		s := Spec{Src: netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), Dst: netip.MustParseAddr("192.0.2.10"), Proto: udpProto, SPort: uint16(1000 + i), DPort: 80}
		packets = append(packets, s.Packet(0))
	}
	var out []netip.Addr
	for i, res := range r.Process(packets) {
		if res.Verdict != packet.Next {
			tb.Fatalf("flow %d: %v(%d)", i, res.Verdict, res.Reason)
		}
		out = append(out, netip.AddrFrom4([4]byte(res.Frame[packet.EtherLen+16:])))
	}
	return out
}

// TestLB4Disruption takes one of 100 back ends away: its flows must go elsewhere,
// of the others' hardly any.
func TestLB4Disruption(t *testing.T) {
	const flows = 8000
	r := newSandboxed(t, "lb4")
	before := choices(t, r, fleet(100, func(int, map[string]any) {}), flows)
	gone := netip.MustParseAddr("10.0.0.42")
	after := choices(t, r, fleet(100, func(i int, b map[string]any) {
		if i == 41 {
			b["gone"] = true
		}
	}), flows)
	its, moved := 0, 0
	for i := range before {
		switch {
		case before[i] == gone:
			its++
		case before[i] != after[i]:
			moved++
		}
		if after[i] == gone {
			t.Fatal("a flow went to the back end that is gone")
		}
	}
	t.Logf("of %d flows %d were its own; %d others moved (%.2f %%)", flows, its, moved, 100*float64(moved)/float64(flows-its))
	if its < flows/200 || its > flows/50 || moved > flows/50 {
		t.Errorf("%d flows of one back end of 100; %d others moved", its, moved)
	}
}

// TestLB4Weights gives back ends flows by their weights, in any order of the list.
func TestLB4Weights(t *testing.T) {
	const flows = 8000
	r := newSandboxed(t, "lb4")
	weights := func(i int, b map[string]any) { b["weight"] = i%5 + 1 }
	list := choices(t, r, fleet(20, weights), flows)
	share := map[netip.Addr]int{}
	for _, a := range list {
		share[a]++
	}
	for i := range 20 {
		a := netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})
		want := float64(flows*(i%5+1)) / 60
		if got := float64(share[a]); got < want*0.7 || got > want*1.3 {
			t.Errorf("%v with weight %d has %v flows, want about %.0f", a, i%5+1, got, want)
		}
	}
	var reversed map[string]any
	if err := json.Unmarshal(fleet(20, weights), &reversed); err != nil {
		t.Fatal(err)
	}
	slices.Reverse(reversed["services"].([]any)[0].(map[string]any)["backends"].([]any))
	text, err := json.Marshal(reversed)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(list, choices(t, r, text, flows)) {
		t.Error("the order of the list decides")
	}
}

// TestLB4Source sends all flows of a client to one back end.
func TestLB4Source(t *testing.T) {
	for _, r := range runners(t, "lb4") {
		config := `{"table_size":1021,"services":[{"vip":"192.0.2.10","hash":"source","backends":[{"addr":"10.0.1.1"},{"addr":"10.0.1.2"},{"addr":"10.0.1.3"}]}]}`
		if err := r.Configure([]byte(config)); err != nil {
			t.Fatal(err)
		}
		of := map[string]map[byte]bool{}
		for i := range 200 {
			client := fmt.Sprintf("198.51.100.%d", i%20)
			res := r.Process([]Packet{NewPacket(frame4(udpProto, fmt.Sprintf("%s:%d", client, 1000+i), fmt.Sprintf("192.0.2.10:%d", 1+i)), 0)})[0]
			if of[client] == nil {
				of[client] = map[byte]bool{}
			}
			of[client][res.Frame[packet.EtherLen+19]] = true
		}
		all := map[byte]bool{}
		for client, to := range of {
			if len(to) != 1 {
				t.Errorf("%T: %s goes to %d back ends", r, client, len(to))
			}
			maps.Copy(all, to)
		}
		if len(all) != 3 {
			t.Errorf("%T: clients go to %d back ends of 3", r, len(all))
		}
	}
}
