package route

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sfc/testbed/gate"
	"sfc/testbed/netns"
)

func TestMain(m *testing.M) { os.Exit(gate.Main(m)) }

// pair is the engine's namespace and a neighbour's, with a link between them.
type pair struct {
	t            *testing.T
	engine, peer *netns.NS
	wan, far     *netns.Link
	enl, pnl     *netlink.Handle // inside engine and peer
	table        *Table
	view         *View
}

// newPair gives the engine 10.0.0.1 and 2001:db8::1, and the neighbour
// 10.0.0.2, 10.0.0.3, 2001:db8::2 and fe80::2.
func newPair(t *testing.T) *pair {
	t.Helper()
	gate.Root(t)
	gate.Leaks(t)
	p := &pair{t: t}
	space := func() (*netns.NS, *netlink.Handle) {
		ns, err := netns.New()
		if err != nil {
			t.Fatal(err)
		}
		var nl *netlink.Handle
		err = ns.Do(func() (err error) { nl, err = netlink.NewHandle(unix.NETLINK_ROUTE); return err })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			nl.Close()
			if err := ns.Close(); err != nil {
				t.Error(err)
			}
		})
		return ns, nl
	}
	p.engine, p.enl = space()
	p.peer, p.pnl = space()
	var err error
	if p.wan, p.far, err = netns.Veth(p.engine, "wan", p.peer, "far", netns.VethOptions{Stack: true}); err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"10.0.0.1/24", "2001:db8::1/64"} {
		p.must(p.wan.AddAddress(netip.MustParsePrefix(a)))
	}
	for _, a := range []string{"10.0.0.2/24", "10.0.0.3/24", "2001:db8::2/64", "fe80::2/64"} {
		p.must(p.far.AddAddress(netip.MustParsePrefix(a)))
	}
	// Neighbours are found lost in a twentieth of a second instead of three.
	for _, f := range []string{"ipv4", "ipv6"} {
		p.must(p.engine.Do(func() error {
			return os.WriteFile("/proc/sys/net/"+f+"/neigh/wan/retrans_time_ms", []byte("20"), 0)
		}))
	}
	p.open()
	return p
}

func (p *pair) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *pair) open() {
	p.t.Helper()
	p.must(p.engine.Do(func() (err error) {
		p.table, err = Open([]int{p.wan.Index}, Options{})
		return err
	}))
	table := p.table
	p.t.Cleanup(func() {
		if err := table.Close(); err != nil {
			p.t.Error(err)
		}
	})
	p.view = p.table.View()
}

// send rewrites one frame to dst and returns the verdict; a frame that is ready
// must bear the link's own address.
func (p *pair) send(dst string) (Verdict, [6]byte) {
	p.t.Helper()
	frame, l3 := frameTo(dst, 1)
	v := p.view.Rewrite(0, frame, l3)
	if v == Ready && !slices.Equal(frame[6:12], p.wan.MAC) {
		p.t.Fatalf("%s: source is %x", dst, frame[6:12])
	}
	return v, [6]byte(frame)
}

// becomes sends frames, one every millisecond as traffic would, until one meets
// the verdict.
func (p *pair) becomes(dst string, want Verdict) [6]byte {
	p.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		v, mac := p.send(dst)
		if v == want {
			return mac
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%s: still %v, want %v; %+v", dst, v, want, p.table.Stats())
		}
		time.Sleep(time.Millisecond)
	}
}

// reaches is becomes Ready by the neighbour's link.
func (p *pair) reaches(dst string) {
	p.t.Helper()
	if mac := p.becomes(dst, Ready); !slices.Equal(mac[:], p.far.MAC) {
		p.t.Fatalf("%s: next hop %x, want %v", dst, mac, p.far.MAC)
	}
}

// path makes a route for tests that change them.
func path(link int, dst, gateway string) *netlink.Route {
	r := &netlink.Route{LinkIndex: link, Dst: ipNet(netip.MustParsePrefix(dst))}
	if gateway != "" {
		r.Gw = net.ParseIP(gateway)
	}
	return r
}

func TestHostsAndGateways(t *testing.T) {
	p := newPair(t)
	p.reaches("10.0.0.2")
	p.reaches("2001:db8::2")
	if v, _ := p.send("10.0.0.1"); v != Local {
		t.Errorf("own address: %v", v)
	}
	if v, _ := p.send("2001:db8::1"); v != Local {
		t.Errorf("own IPv6 address: %v", v)
	}
	if v, _ := p.send("192.0.2.1"); v != NoRoute {
		t.Errorf("no route yet: %v", v)
	}
	p.must(p.enl.RouteAdd(path(p.wan.Index, "0.0.0.0/0", "10.0.0.3")))
	p.must(p.enl.RouteAdd(path(p.wan.Index, "::/0", "fe80::2")))
	p.reaches("192.0.2.1")
	p.reaches("2001:db8:ffff::1")
	p.must(p.enl.RouteAdd(&netlink.Route{Dst: ipNet(netip.MustParsePrefix("192.0.2.0/24")), Type: unix.RTN_BLACKHOLE}))
	p.becomes("192.0.2.1", NoRoute)
	p.reaches("192.0.3.1")
	// IPv4 by an IPv6 gateway.
	p.must(p.enl.RouteAdd(&netlink.Route{
		LinkIndex: p.wan.Index, Dst: ipNet(netip.MustParsePrefix("203.0.113.0/24")),
		Via: &netlink.Via{AddrFamily: unix.AF_INET6, Addr: net.ParseIP("2001:db8::2")},
	}))
	p.must(p.enl.RouteDel(path(p.wan.Index, "0.0.0.0/0", "10.0.0.3")))
	p.becomes("192.0.3.1", NoRoute)
	p.reaches("203.0.113.7")
}

// However many frames of however many workers miss a neighbour, the kernel is
// asked once per generation.
func TestAsksOnce(t *testing.T) {
	p := newPair(t)
	p.must(p.engine.Do(func() error {
		return os.WriteFile("/proc/sys/net/ipv4/neigh/wan/retrans_time_ms", []byte("1000"), 0)
	}))
	other := p.table.View()
	before := p.table.Stats().Generation
	for range 300 {
		frame, l3 := frameTo("10.0.0.99", 0)
		if v := other.Rewrite(0, frame, l3); v != NoNeighbour {
			t.Fatal(v)
		}
		p.becomes("10.0.0.99", NoNeighbour)
		time.Sleep(time.Millisecond)
	}
	if s := p.table.Stats(); s.Asked < 1 || s.Asked > uint64(s.Generation-before)+1 || s.Asked > 4 {
		t.Errorf("asked %d times in %d generations", s.Asked, s.Generation-before+1)
	}
}

// A neighbour that is known but not confirmed is used and confirmed at once.
func TestStaleNeighbourIsConfirmed(t *testing.T) {
	p := newPair(t)
	p.must(p.engine.Do(func() error {
		return os.WriteFile("/proc/sys/net/ipv4/neigh/wan/delay_first_probe_time", []byte("0"), 0)
	}))
	p.must(p.enl.NeighSet(&netlink.Neigh{
		LinkIndex: p.wan.Index, Family: netlink.FAMILY_V4, State: netlink.NUD_STALE, IP: net.IPv4(10, 0, 0, 2), HardwareAddr: p.far.MAC,
	}))
	p.reaches("10.0.0.2")
	p.eventually("confirmed", func() bool {
		p.reaches("10.0.0.2")
		return p.neighbour("10.0.0.2").State == netlink.NUD_REACHABLE
	})
}

func (p *pair) eventually(what string, ok func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("never %s; %+v", what, p.table.Stats())
		}
	}
}

// neighbour returns the kernel's entry.
func (p *pair) neighbour(addr string) (n netlink.Neigh) {
	p.t.Helper()
	list, err := p.enl.NeighList(p.wan.Index, unix.AF_UNSPEC)
	p.must(err)
	for _, e := range list {
		if e.IP.Equal(net.ParseIP(addr)) {
			n = e
		}
	}
	return n
}

// A neighbour that went away is given up, and found when it comes again.
func TestNeighbourFailsAndReturns(t *testing.T) {
	for _, addr := range []string{"10.0.0.2", "2001:db8::2"} {
		t.Run(addr, func(t *testing.T) {
			p := newPair(t)
			p.reaches(addr)
			far, err := p.pnl.LinkByIndex(p.far.Index)
			p.must(err)
			bits := 24
			if netip.MustParseAddr(addr).Is6() {
				bits = 64
			}
			prefix := netip.PrefixFrom(netip.MustParseAddr(addr), bits)
			p.must(p.pnl.AddrDel(far, &netlink.Addr{IPNet: ipNet(prefix)}))
			p.must(p.enl.NeighDel(&netlink.Neigh{LinkIndex: p.wan.Index, IP: net.ParseIP(addr)}))
			p.becomes(addr, NoNeighbour)
			p.eventually("given up", func() bool {
				p.send(addr)
				return p.neighbour(addr).State == netlink.NUD_FAILED
			})
			// It stays away for longer than a generation, and is not forgotten.
			generation := p.table.Stats().Generation
			p.eventually("asked for again", func() bool {
				p.send(addr)
				s := p.table.Stats()
				return s.Generation > generation+1 && s.Asked >= 3
			})
			p.must(p.far.AddAddress(prefix))
			p.reaches(addr)
		})
	}
}

func TestLinkDownAndUp(t *testing.T) {
	p := newPair(t)
	p.reaches("10.0.0.2")
	wan, err := p.enl.LinkByIndex(p.wan.Index)
	p.must(err)
	p.must(p.enl.LinkSetDown(wan))
	p.becomes("10.0.0.2", NoRoute)
	p.must(p.enl.LinkSetUp(wan))
	p.reaches("10.0.0.2")
	far, err := p.pnl.LinkByIndex(p.far.Index)
	p.must(err)
	p.must(p.pnl.LinkSetDown(far)) // no carrier
	p.becomes("10.0.0.2", NoRoute)
	p.must(p.pnl.LinkSetUp(far))
	p.reaches("10.0.0.2")

	// The link's own address changes.
	p.wan.MAC = net.HardwareAddr{2, 0, 0, 0, 9, 9}
	p.must(p.enl.LinkSetHardwareAddr(wan, p.wan.MAC))
	p.eventually("the new source", func() bool {
		frame, l3 := frameTo("10.0.0.2", 0)
		return p.view.Rewrite(0, frame, l3) == Ready && slices.Equal(frame[6:12], p.wan.MAC)
	})

	p.must(p.enl.LinkDel(wan))
	p.becomes("10.0.0.2", NoRoute)
	if s := p.table.Stats(); s.Failed != 0 {
		t.Errorf("%+v", s)
	}
}

// A route that is replaced under load has one of the two next hops for each
// frame, and soon the new one.
func TestRouteReplacedUnderLoad(t *testing.T) {
	p := newPair(t)
	gateways := []string{"10.0.0.20", "10.0.0.30"}
	for i, g := range gateways {
		mac := macOf(byte(i))
		p.must(p.enl.NeighSet(&netlink.Neigh{LinkIndex: p.wan.Index, State: netlink.NUD_PERMANENT, IP: net.ParseIP(g), HardwareAddr: mac[:]}))
	}
	p.must(p.enl.RouteAdd(path(p.wan.Index, "192.0.2.0/24", gateways[0])))
	p.becomes("192.0.2.1", Ready)
	frame, l3 := frameTo("192.0.2.1", 0)
	sent := 0
	for i := range 200 {
		want := macOf(byte((i + 1) % 2))
		p.must(p.enl.RouteReplace(path(p.wan.Index, "192.0.2.0/24", gateways[(i+1)%2])))
		for deadline := time.Now().Add(5 * time.Second); ; sent++ {
			if v := p.view.Rewrite(0, frame, l3); v != Ready || frame[4] != 1 || frame[5] > 1 {
				t.Fatalf("%v to %x", v, frame[:6])
			}
			if [6]byte(frame) == want {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("the route of replacement %d is never taken", i)
			}
		}
	}
	t.Logf("%d frames during 200 replacements", sent)
}

// Frames to many addresses that nobody has do not keep others from being found.
func TestManyUnknownDestinations(t *testing.T) {
	p := newPair(t)
	for i := range 150 {
		p.send(netip.AddrFrom4([4]byte{10, 0, 0, byte(50 + i)}).String())
	}
	p.reaches("10.0.0.3")
	p.reaches("2001:db8::2")
}

func TestOpenRefuses(t *testing.T) {
	if _, err := Open(make([]int, maxPorts+1), Options{}); err == nil {
		t.Error("too many ports are accepted")
	}
	gate.Root(t)
	gate.Leaks(t)
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	for _, index := range []int{99, 1} { // none, and the loopback
		err := ns.Do(func() error {
			table, err := Open([]int{index}, Options{})
			if err == nil {
				table.Close()
			}
			return err
		})
		if err == nil || index == 99 && !errors.Is(err, ErrNoPort) {
			t.Errorf("interface %d: %v", index, err)
		}
	}
}
