package route

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// answered reports whether the engine answers the neighbour's request for an
// address: the neighbour's kernel sends it.
func (p *pair) answered(addr string) bool {
	p.t.Helper()
	family := netlink.FAMILY_V6
	if netip.MustParseAddr(addr).Is4() {
		family = netlink.FAMILY_V4
	}
	n := &netlink.Neigh{LinkIndex: p.far.Index, Family: family, IP: net.ParseIP(addr), Flags: netlink.NTF_USE}
	p.must(p.pnl.NeighSet(n))
	var got netlink.Neigh
	p.eventually("decided for "+addr, func() bool {
		list, err := p.pnl.NeighList(p.far.Index, family)
		p.must(err)
		i := slices.IndexFunc(list, func(e netlink.Neigh) bool { return e.IP.Equal(n.IP) })
		if i < 0 {
			return false
		}
		got = list[i]
		return got.State&(netlink.NUD_INCOMPLETE|netlink.NUD_NONE) == 0 && got.State != 0
	})
	p.must(p.pnl.NeighDel(&netlink.Neigh{LinkIndex: p.far.Index, Family: family, IP: n.IP}))
	return slices.Equal(got.HardwareAddr, p.wan.MAC)
}

// state lists what the engine's namespace has of addresses and routes.
func (p *pair) state() (s []string) {
	p.t.Helper()
	addrs, err := p.enl.AddrList(nil, netlink.FAMILY_ALL)
	p.must(err)
	for _, a := range addrs {
		if !a.IP.IsLinkLocalUnicast() { // comes when it likes
			s = append(s, a.IPNet.String())
		}
	}
	for _, f := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := p.enl.RouteListFiltered(f, &netlink.Route{}, netlink.RT_FILTER_TABLE)
		p.must(err)
		for _, r := range routes {
			if r.Type == unix.RTN_LOCAL && (r.Dst == nil || !r.Dst.IP.IsLinkLocalUnicast()) {
				s = append(s, r.String())
			}
		}
	}
	slices.Sort(s)
	return s
}

func TestProxy(t *testing.T) {
	p := newPair(t)
	for _, f := range []string{"ipv4", "ipv6"} {
		p.must(p.peer.Do(func() error { return os.WriteFile("/proc/sys/net/"+f+"/neigh/far/retrans_time_ms", []byte("20"), 0) }))
	}
	// An address that is there already stays.
	p.must(p.wan.AddAddress(netip.MustParsePrefix("2001:db8::101/128")))
	for _, a := range []string{"2001:db8::1", "2001:db8::101"} {
		p.becomes(a, Local) // its route comes a moment later
	}
	source := func() string { // of the host's own packets
		routes, err := p.enl.RouteGet(net.ParseIP("2001:db8::2"))
		p.must(err)
		return routes[0].Src.String()
	}
	before, own := p.state(), source()
	pool4, pool6 := netip.MustParsePrefix("10.0.0.64/28"), netip.MustParsePrefix("2001:db8::100/126")
	ours := []string{"10.0.0.64", "10.0.0.79", "2001:db8::100", "2001:db8::103"}
	expect := func(when string, want bool) {
		t.Helper()
		for _, a := range ours {
			if got := p.answered(a); got != want {
				t.Errorf("%s: %s is answered: %v", when, a, got)
			}
		}
		for _, a := range []string{"10.0.0.63", "10.0.0.80", "2001:db8::ff", "2001:db8::104"} {
			if p.answered(a) {
				t.Errorf("%s: %s is answered", when, a)
			}
		}
		if !p.answered("2001:db8::101") || !p.answered("10.0.0.1") {
			t.Errorf("%s: what was there is not answered", when)
		}
	}
	expect("before", false)
	p.must(p.table.AddProxy(0, pool4))
	p.must(p.table.AddProxy(0, pool6))
	expect("added", true)
	for _, a := range ours {
		p.becomes(a, Local)
	}
	if got := source(); got != own {
		t.Errorf("the host's packets come from %s, before from %s", got, own)
	}
	if err := p.table.AddProxy(0, pool4); err == nil {
		t.Error("a prefix is accepted twice")
	}

	wan, err := p.enl.LinkByIndex(p.wan.Index)
	p.must(err)
	p.must(p.enl.LinkSetDown(wan))
	p.becomes("10.0.0.2", NoRoute)
	p.must(p.enl.LinkSetUp(wan))
	for _, a := range ours {
		p.becomes(a, Local)
	}
	for _, a := range ours {
		if !p.answered(a) {
			t.Errorf("after the link was down %s is not answered", a)
		}
	}
	// What the kernel did not keep of others was not ours to bring back, but for
	// what we were asked for ourselves.
	p.must(p.wan.AddAddress(netip.MustParsePrefix("2001:db8::1/64")))

	p.must(p.table.RemoveProxy(0, pool4))
	p.must(p.table.RemoveProxy(0, pool6))
	p.must(p.wan.AddAddress(netip.MustParsePrefix("2001:db8::101/128")))
	expect("removed", false)
	if err := p.table.RemoveProxy(0, pool6); err == nil {
		t.Error("a prefix can be removed twice")
	}
	p.must(p.table.AddProxy(0, pool4))
	p.must(p.table.AddProxy(0, pool6))
	p.must(p.table.Close())
	if after := p.state(); !slices.Equal(before, after) {
		t.Errorf("left behind:\n%s\nbefore:\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
	}
	if err := p.table.AddProxy(0, pool4); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestProxyGoesWithItsLink(t *testing.T) {
	p := newPair(t)
	p.must(p.table.AddProxy(0, netip.MustParsePrefix("192.0.2.0/24")))
	p.must(p.table.AddProxy(0, netip.MustParsePrefix("2001:db8::100/120")))
	wan, err := p.enl.LinkByIndex(p.wan.Index)
	p.must(err)
	p.must(p.enl.LinkDel(wan))
	p.must(p.table.Close())
}

func TestProxyRefuses(t *testing.T) {
	p := newPair(t)
	for _, tt := range []struct {
		port   int
		prefix netip.Prefix
		want   string
	}{
		{1, netip.MustParsePrefix("10.0.0.64/28"), "no such port: 1, want 0 to 0"},
		{0, netip.Prefix{}, "no prefix of unicast addresses"},
		{0, netip.MustParsePrefix("10.0.0.65/28"), "no prefix of unicast addresses"},
		{0, netip.MustParsePrefix("224.0.0.0/28"), "no prefix of unicast addresses"},
		{0, netip.MustParsePrefix("::ffff:10.0.0.0/124"), "no prefix of unicast addresses"},
		{0, netip.MustParsePrefix("2001:db8::/64"), "more than 1024 IPv6 addresses"},
	} {
		if err := p.table.AddProxy(tt.port, tt.prefix); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: %v, want %q", tt.prefix, err, tt.want)
		}
	}
}

// What a process added that was killed, the next one finds and takes away; what
// others added it leaves alone.
func TestProxiesOfTheDead(t *testing.T) {
	p := newPair(t)
	p.must(p.wan.AddAddress(netip.MustParsePrefix("2001:db8::101/128")))
	p.becomes("2001:db8::101", Local)
	before := p.state()
	open := func() (x *Proxies) {
		p.must(p.engine.Do(func() (err error) { x, err = OpenProxies(); return err }))
		t.Cleanup(x.Close)
		return x
	}
	a, b := netip.MustParsePrefix("10.0.0.64/28"), netip.MustParsePrefix("2001:db8::100/126")
	p.must(open().Set(p.wan.Index, []netip.Prefix{a, b})) // and dies
	next := open()
	if have, err := next.marked(p.wan.Index); err != nil || len(have) != 1+3 {
		t.Errorf("of the dead there are %v, %v: want the pool and three addresses", have, err)
	}
	p.must(next.Set(p.wan.Index, []netip.Prefix{b}))
	if p.answered("10.0.0.64") || !p.answered("2001:db8::102") {
		t.Error("one of two prefixes is to be answered for")
	}
	p.must(next.Set(p.wan.Index, nil))
	if after := p.state(); !slices.Equal(before, after) {
		t.Errorf("left behind:\n%s\nbefore:\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
	}
	p.must(p.enl.RouteAdd(path(p.wan.Index, "192.0.2.0/24", "10.0.0.66")))
	for prefix, taken := range map[string]bool{"10.0.0.64/28": true, "10.0.0.80/28": false, "0.0.0.0/0": true} {
		if err := next.Taken(netip.MustParsePrefix(prefix)); (err != nil) != taken {
			t.Errorf("%s: %v, want an error: %v", prefix, err, taken)
		}
	}
	if err := next.Set(1<<20, []netip.Prefix{a}); !errors.Is(err, unix.ENODEV) {
		t.Errorf("a link that is not there: %v", err)
	}
}
