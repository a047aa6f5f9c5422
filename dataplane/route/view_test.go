package route

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
)

// frameTo makes a frame with so many VLAN tags to a destination; the next hop's
// addresses are not in it yet. It returns where the IP header is.
func frameTo(dst string, tags int) (frame []byte, l3 int) {
	a := netip.MustParseAddr(dst)
	frame = append(frame, "\xee\xee\xee\xee\xee\xee\xdd\xdd\xdd\xdd\xdd\xdd"...)
	for i := range tags {
		frame = append(frame, 0x81, 0x00, 0, byte(7+i))
	}
	if a.Is4() {
		frame = append(frame, 0x08, 0x00, 0x45)
		l3 = len(frame) - 1
		frame = append(frame, make([]byte, 15)...)
	} else {
		frame = append(frame, 0x86, 0xdd, 0x60)
		l3 = len(frame) - 1
		frame = append(frame, make([]byte, 23)...)
	}
	return append(frame, append(a.AsSlice(), "payload"...)...), l3
}

// macOf is the address of a neighbour in still tables.
func macOf(n byte) [6]byte { return [6]byte{2, 0, 0, 0, 1, n} }

// still makes a table of one picture that nobody renews: n routes of each
// family by gateways, and hosts on the link.
func still(n int) *Table {
	p := portRoutes{up: true, mac: [6]byte{2, 0, 0, 0, 0, 9}}
	var list []metricRoute
	add := func(s string, r route, hops ...hop) {
		a := netip.MustParsePrefix(s)
		bits := a.Bits()
		if a.Addr().Is4() {
			bits += 96
		}
		r.first, r.n = int32(len(p.hops)), int32(len(hops))
		list = append(list, metricRoute{prefix{keyOf(a.Addr()), bits, int32(len(p.routes))}, 0})
		p.routes, p.hops = append(p.routes, r), append(p.hops, hops...)
	}
	via := func(s string) hop { return hop{gateway: keyOf(netip.MustParseAddr(s))} }
	add("10.0.0.0/24", route{}, hop{direct: true})
	add("10.0.0.1/32", route{kind: routeLocal})
	add("0.0.0.0/0", route{}, via("10.0.0.2"))
	add("192.0.2.0/24", route{kind: routeReject})
	add("198.51.100.0/24", route{}, via("10.0.0.2"), via("10.0.0.3"))
	add("2001:db8::/64", route{}, hop{direct: true})
	add("2001:db8:1::/48", route{}, via("fe80::2"))
	add("203.0.113.0/24", route{}, via("fe80::2"))
	for i := range n {
		add(fmt.Sprintf("11.%d.%d.0/24", i>>8&0xff, i&0xff), route{}, via("10.0.0.3"))
		add(fmt.Sprintf("2001:db8:8:%x::/64", i), route{}, via("fe80::2"))
	}
	p.ranges = layOut(list)
	neighbour := func(s string, n byte, stale bool) {
		p.neighbours = append(p.neighbours, neighbour{keyOf(netip.MustParseAddr(s)), macOf(n), stale})
	}
	neighbour("10.0.0.2", 2, false) // in order of address
	neighbour("10.0.0.3", 3, false)
	neighbour("10.0.0.4", 4, true)
	neighbour("2001:db8::7", 7, false)
	neighbour("fe80::2", 0x22, false)
	t := &Table{opts: Options{Cache: 4096}, wake: waker{fd: -1, asleep: new(atomic.Bool)}}
	t.current.Store(&snapshot{generation: 1, ports: []portRoutes{p, {mac: [6]byte{2, 0, 0, 0, 0, 8}}}})
	return t
}

func TestRewrite(t *testing.T) {
	tests := []struct {
		dst  string
		want Verdict
		mac  [6]byte
		ask  string
	}{
		{"10.0.0.2", Ready, macOf(2), ""},
		{"10.0.0.4", Ready, macOf(4), "10.0.0.4"},
		{"10.0.0.77", NoNeighbour, [6]byte{}, "10.0.0.77"},
		{"10.0.0.1", Local, [6]byte{}, ""},
		{"8.8.8.8", Ready, macOf(2), ""},
		{"192.0.2.5", NoRoute, [6]byte{}, ""},
		{"203.0.113.9", Ready, macOf(0x22), ""},
		{"11.0.3.9", Ready, macOf(3), ""},
		{"224.0.0.251", Ready, [6]byte{0x01, 0x00, 0x5e, 0, 0, 0xfb}, ""},
		{"239.255.1.2", Ready, [6]byte{0x01, 0x00, 0x5e, 0x7f, 1, 2}, ""},
		{"255.255.255.255", Ready, [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, ""},
		{"2001:db8::7", Ready, macOf(7), ""},
		{"2001:db8::8", NoNeighbour, [6]byte{}, "2001:db8::8"},
		{"2001:db8:1::8", Ready, macOf(0x22), ""},
		{"2001:db9::8", NoRoute, [6]byte{}, ""},
		{"ff02::1:ff00:2", Ready, [6]byte{0x33, 0x33, 0xff, 0, 0, 2}, ""},
		{"::ffff:8.8.8.8", NoRoute, [6]byte{}, ""},
	}
	table := still(8)
	for _, tt := range tests {
		for tags := range 3 {
			v := newView(table)
			for again := range 3 { // from the picture, then from the cache
				frame, l3 := frameTo(tt.dst, tags)
				want := bytes.Clone(frame)
				if tt.want == Ready {
					copy(want, append(tt.mac[:], 2, 0, 0, 0, 0, 9))
				}
				if got := v.Rewrite(0, frame, l3); got != tt.want || !bytes.Equal(frame, want) {
					t.Errorf("%s, %d tags, time %d: %v, want %v\n got %x\nwant %x", tt.dst, tags, again, got, tt.want, frame, want)
				}
				q, asked := v.ring.take()
				if again > 0 && asked || again == 0 && asked != (tt.ask != "") || asked && (q.addr.addr().String() != tt.ask || q.port != 0) {
					t.Errorf("%s, time %d: asked %v for %v, want %q", tt.dst, again, asked, q.addr.addr(), tt.ask)
				}
			}
		}
	}
}

// Several next hops share the destinations, each destination has one.
func TestRewriteManyHops(t *testing.T) {
	v := newView(still(0))
	count := map[byte]int{}
	for host := range 256 {
		frame, l3 := frameTo(fmt.Sprintf("198.51.100.%d", host), 0)
		var first byte
		for again := range 2 {
			v.cache = make([]entry, len(v.cache))
			if v.Rewrite(0, frame, l3) != Ready {
				t.Fatal("not ready")
			}
			if again == 0 {
				first = frame[5]
			} else if frame[5] != first {
				t.Fatalf("host %d has two next hops", host)
			}
		}
		count[first]++
	}
	if count[2] < 64 || count[3] < 64 {
		t.Errorf("hops are taken %v times", count)
	}
}

func TestRewriteRefusesNonsense(t *testing.T) {
	v := newView(still(0))
	good, l3 := frameTo("10.0.0.2", 0)
	six, _ := frameTo("2001:db8::7", 0)
	arp := bytes.Clone(good)
	arp[l3] = 0
	for _, tt := range []struct {
		name  string
		port  int
		frame []byte
		l3    int
	}{
		{"empty", 0, nil, 14}, {"cut", 0, good[:l3+19], l3}, {"cut, IPv6", 0, six[:l3+39], l3}, {"no IP", 0, arp, l3},
		{"header before the frame", 0, good, -1}, {"header within Ethernet's", 0, good, 13}, {"header behind the frame", 0, good, len(good)},
		{"port", 2, good, l3}, {"negative port", -1, good, l3}, {"link that is down", 1, good, l3},
	} {
		before := bytes.Clone(tt.frame)
		for range 2 {
			if got := v.Rewrite(tt.port, tt.frame, tt.l3); got != NoRoute || !bytes.Equal(before, tt.frame) {
				t.Errorf("%s: %v", tt.name, got)
			}
		}
	}
}

// A full ring loses no question: whoever did not get it in asks again.
func TestFullRingAsksAgain(t *testing.T) {
	v := newView(still(0))
	for i := range 100 {
		frame, l3 := frameTo(fmt.Sprintf("10.0.0.%d", 100+i), 0)
		v.Rewrite(0, frame, l3)
	}
	asked := map[key]bool{}
	for range 2 {
		for q, ok := v.ring.take(); ok; q, ok = v.ring.take() {
			asked[q.addr] = true
		}
		for i := range 100 {
			frame, l3 := frameTo(fmt.Sprintf("10.0.0.%d", 100+i), 0)
			v.Rewrite(0, frame, l3)
		}
	}
	if len(asked) != 100 {
		t.Errorf("%d addresses were asked for, want 100", len(asked))
	}
}

// A new picture takes effect with the next packet.
func TestGenerations(t *testing.T) {
	table := still(0)
	v := newView(table)
	frame, l3 := frameTo("10.0.0.2", 0)
	for n := byte(1); n < 50; n++ {
		s := *table.current.Load()
		p := s.ports[0]
		p.neighbours = append([]neighbour(nil), p.neighbours...)
		p.neighbours[0].mac = macOf(n)
		s.generation++
		s.ports = []portRoutes{p}
		table.current.Store(&s)
		if got := v.Rewrite(0, frame, l3); got != Ready || frame[5] != n {
			t.Fatalf("generation %d: %v, neighbour %d", s.generation, got, frame[5])
		}
	}
}

func TestRewriteDoesNotAllocate(t *testing.T) {
	v := newView(still(100))
	hit, l3 := frameTo("10.0.0.2", 0)
	miss, _ := frameTo("11.0.1.1", 0)
	n := uint32(0)
	if allocs := testing.AllocsPerRun(1000, func() {
		v.Rewrite(0, hit, l3)
		n++
		binary.BigEndian.PutUint32(miss[l3+16:], 11<<24|n<<3)
		v.Rewrite(0, miss, l3)
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func BenchmarkRewrite(b *testing.B) {
	for _, routes := range []int{10, 10_000} {
		table := still(routes)
		for _, hosts := range []uint32{1, 1000, 1_000_000} {
			b.Run(fmt.Sprintf("routes=%d/destinations=%d", routes, hosts), func(b *testing.B) {
				v := newView(table)
				frame, l3 := frameTo("11.0.0.1", 0)
				b.ReportAllocs()
				n := uint32(1)
				for b.Loop() {
					n = n*1664525 + 1013904223 // Numerical Recipes
					binary.BigEndian.PutUint32(frame[l3+16:], 11<<24|n>>8%hosts)
					v.Rewrite(0, frame, l3)
				}
			})
		}
	}
}
