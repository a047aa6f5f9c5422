package route

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// For random routes of both families, with metrics, several next hops and
// refusals, the picture and the kernel's own lookup give the same next hop.
func TestAgreesWithTheKernel(t *testing.T) {
	p := newPair(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	gateways := map[bool][]string{
		true:  {"10.0.0.10", "10.0.0.11", "10.0.0.12"},
		false: {"2001:db8::10", "2001:db8::11", "2001:db8::12"},
	}
	macs := map[string][6]byte{}
	for four, list := range gateways {
		for i, g := range list {
			mac := macOf(byte(i))
			if four {
				mac[4] = 4
			}
			macs[g] = mac
			p.must(p.enl.NeighSet(&netlink.Neigh{LinkIndex: p.wan.Index, State: netlink.NUD_PERMANENT, IP: net.ParseIP(g), HardwareAddr: mac[:]}))
		}
	}
	// Addresses differ in few bits, so that prefixes nest.
	address := func(four bool) netip.Addr {
		if four {
			return netip.AddrFrom4([4]byte{20, byte(rng.IntN(2)), byte(rng.IntN(3)), byte(rng.IntN(4))})
		}
		return netip.AddrFrom16([16]byte{0x20, 1, 0x0d, 0xb9, byte(rng.IntN(2)), 7: byte(rng.IntN(2)), 8: byte(rng.IntN(2)), 15: byte(rng.IntN(4))})
	}
	for i := range 300 {
		four := i%2 == 0
		bits := []int{0, 1, 32, 33, 39, 40, 64, 65, 72, 126, 127, 128}[rng.IntN(12)]
		if four {
			bits = []int{0, 1, 6, 8, 16, 22, 23, 24, 29, 30, 31, 32}[rng.IntN(12)]
		}
		prefix, err := address(four).Prefix(bits)
		p.must(err)
		r := path(p.wan.Index, prefix.String(), gateways[four][rng.IntN(3)])
		r.Priority = 1 + rng.IntN(3)
		if i%7 == 0 {
			r = &netlink.Route{Dst: ipNet(prefix), Type: []int{unix.RTN_BLACKHOLE, unix.RTN_UNREACHABLE, unix.RTN_PROHIBIT}[i/7%3], Priority: r.Priority}
		}
		p.must(p.enl.RouteReplace(r)) // what is there already gives way
	}
	p.eventually("in the picture", func() bool { return p.settled() })
	outcomes := map[Verdict]int{}
	for i := range 2000 {
		dst := address(i%2 == 0)
		want := NoRoute
		var mac [6]byte
		if routes, err := p.enl.RouteGet(dst.AsSlice()); err == nil {
			want, mac = Ready, macs[routes[0].Gw.String()]
		}
		got, to := p.send(dst.String())
		if got != want || got == Ready && to != mac {
			t.Fatalf("%v: %v to %x, the kernel says %v to %x", dst, got, to, want, mac)
		}
		outcomes[got]++
	}
	if outcomes[Ready] < 100 || outcomes[NoRoute] < 20 {
		t.Errorf("outcomes %v: the routes test little", outcomes)
	}
}

// settled reports whether the picture is what a reading gives now.
func (p *pair) settled() bool {
	p.t.Helper()
	var fresh *Table
	p.must(p.engine.Do(func() (err error) {
		fresh, err = Open([]int{p.wan.Index}, Options{})
		return err
	}))
	defer fresh.Close()
	return fresh.current.Load().equal(p.table.current.Load())
}

// A route with several next hops has only those that leave by the port; each
// destination keeps its own.
func TestSeveralHops(t *testing.T) {
	p := newPair(t)
	used := map[[6]byte]bool{}
	var hops []*netlink.NexthopInfo
	for i, g := range []string{"10.0.0.10", "10.0.0.11"} {
		mac := macOf(byte(i))
		p.must(p.enl.NeighSet(&netlink.Neigh{LinkIndex: p.wan.Index, State: netlink.NUD_PERMANENT, IP: net.ParseIP(g), HardwareAddr: mac[:]}))
		hops = append(hops, &netlink.NexthopInfo{LinkIndex: p.wan.Index, Gw: net.ParseIP(g)})
	}
	lo, err := p.enl.LinkByName("lo")
	p.must(err)
	hops = append(hops, &netlink.NexthopInfo{LinkIndex: lo.Attrs().Index})
	p.must(p.enl.RouteAdd(&netlink.Route{Dst: ipNet(netip.MustParsePrefix("192.0.2.0/24")), MultiPath: hops}))
	for host := range 100 {
		used[p.becomes(fmt.Sprintf("192.0.2.%d", host), Ready)] = true
	}
	if len(used) != 2 || !used[macOf(0)] || !used[macOf(1)] {
		t.Errorf("next hops %v", used)
	}
}

// What concerns no port is not read again.
func TestEventsOfOthers(t *testing.T) {
	table := &Table{}
	table.ports.Store(&[]int{3, 0, 5})
	message := func(kind uint16, index int32, more int) []byte {
		m := make([]byte, unix.NLMSG_HDRLEN+8+more)
		binary.NativeEndian.PutUint32(m, uint32(len(m)))
		binary.NativeEndian.PutUint16(m[4:], kind)
		binary.NativeEndian.PutUint32(m[unix.NLMSG_HDRLEN+4:], uint32(index))
		return slices.Concat(m, make([]byte, -len(m)&3)) // aligned
	}
	tests := []struct {
		name string
		msgs []byte
		want bool
	}{
		{"nothing", nil, false},
		{"neighbour of a port", message(unix.RTM_NEWNEIGH, 5, 20), true},
		{"neighbour of another", message(unix.RTM_DELNEIGH, 6, 20), false},
		{"link", message(unix.RTM_DELLINK, 3, 8), true},
		{"another link, and a neighbour", slices.Concat(message(unix.RTM_NEWLINK, 4, 9), message(unix.RTM_NEWNEIGH, 3, 0)), true},
		{"two others", slices.Concat(message(unix.RTM_NEWLINK, 4, 9), message(unix.RTM_NEWADDR, 7, 3)), false},
		{"route", message(unix.RTM_NEWROUTE, 0, 20), true},
		{"cut", message(unix.RTM_NEWNEIGH, 6, 20)[:30], true},
		{"length of nothing", make([]byte, 20), true},
		{"too short for its index", func() []byte {
			m := message(unix.RTM_NEWNEIGH, 6, 0)[:unix.NLMSG_HDRLEN+4]
			binary.NativeEndian.PutUint32(m, uint32(len(m)))
			return m
		}(), true},
	}
	for _, tt := range tests {
		if got := table.concerns(tt.msgs); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}
