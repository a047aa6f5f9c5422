package route

import (
	"cmp"
	"fmt"
	"net"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// read reads the kernel's tables and publishes the picture if it differs from
// the one before. With reopen it does so too if questions are open: in a new
// generation workers ask them again.
func (t *Table) read(reopen bool) error {
	t.reads.Add(1)
	links := t.links()
	s := &snapshot{ports: make([]portRoutes, len(links))}
	if len(links) > 0 {
		s.of = &links[0]
	}
	for i, ifindex := range links {
		if ifindex == 0 {
			continue
		}
		if err := t.readLink(&s.ports[i], ifindex); err != nil {
			return err
		}
	}
	if err := t.readRoutes(s, links); err != nil {
		return err
	}
	neighbours, err := t.nl.NeighList(0, unix.AF_UNSPEC)
	if err != nil {
		return fmt.Errorf("read neighbours: %w", err)
	}
	for i, ifindex := range links {
		s.ports[i].neighbours = neighboursOf(neighbours, ifindex)
	}
	t.restoreProxies(s)
	old := t.current.Load()
	if old != nil && s.of == old.of && s.equal(old) && !(reopen && t.open(s)) {
		return nil
	}
	s.generation = 1
	if old != nil {
		s.generation = max(old.generation+1, 1) // 0 is no generation
	}
	t.current.Store(s)
	return nil
}

// open reports whether the kernel was asked for a neighbour that it still has
// not found or confirmed.
func (t *Table) open(s *snapshot) bool {
	for q := range t.known {
		if q.port >= len(s.ports) {
			continue
		}
		if n := s.ports[q.port].neighbour(q.addr); n == nil || n.stale {
			return true
		}
	}
	return false
}

// readLink reads a port's address and whether it is up. A link that is gone is
// down: it may come again only with another index.
func (t *Table) readLink(p *portRoutes, ifindex int) error {
	l, err := t.nl.LinkByIndex(ifindex)
	gone := isGone(err)
	switch {
	case gone && t.current.Load() != nil:
		return nil
	case gone:
		return fmt.Errorf("%w: no interface has the index %d in this namespace", ErrNoPort, ifindex)
	case err != nil:
		return fmt.Errorf("read link %d: %w", ifindex, err)
	}
	a := l.Attrs()
	if len(a.HardwareAddr) != len(p.mac) {
		if t.current.Load() != nil {
			return nil // SetPort's: down, for the sake of the other ports
		}
		return fmt.Errorf("link %s has no Ethernet address: only Ethernet ports can be routed", a.Name)
	}
	copy(p.mac[:], a.HardwareAddr)
	p.up = a.Flags&net.FlagUp != 0 && a.RawFlags&unix.IFF_LOWER_UP != 0
	return nil
}

// metricRoute is a prefix's route before it is known whether a better one is
// there.
type metricRoute struct {
	prefix
	metric int
}

// readRoutes reads the main table and the addresses in the local one.
func (t *Table) readRoutes(s *snapshot, links []int) error {
	lists := make([][]metricRoute, len(s.ports))
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := t.nl.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return fmt.Errorf("read routes: %w", err)
		}
		for i := range routes {
			first, bits, ok := prefixOf(routes[i].Dst, family)
			if !ok {
				continue
			}
			for k := range s.ports {
				if links[k] == 0 {
					continue
				}
				p := &s.ports[k]
				metric := routes[i].Priority
				r := route{first: int32(len(p.hops))}
				switch kind := routes[i].Type; {
				case routes[i].Table == unix.RT_TABLE_LOCAL && kind == unix.RTN_LOCAL:
					r.kind, metric = routeLocal, -1 // the local table is asked first
				case routes[i].Table != unix.RT_TABLE_MAIN:
					continue
				case kind == unix.RTN_BLACKHOLE || kind == unix.RTN_UNREACHABLE || kind == unix.RTN_PROHIBIT:
					r.kind = routeReject
				case kind == unix.RTN_UNICAST:
					hops := hopsBy(&routes[i], links[k])
					if len(hops) == 0 {
						continue
					}
					p.hops = append(p.hops, hops...)
					r.n = int32(len(hops))
				default:
					continue
				}
				lists[k] = append(lists[k], metricRoute{prefix{first, bits, int32(len(p.routes))}, metric})
				p.routes = append(p.routes, r)
			}
		}
	}
	for k := range lists {
		s.ports[k].ranges = layOut(lists[k])
	}
	return nil
}

// layOut makes ranges of routes: of several to one prefix the one of the least
// metric counts. The default route of IPv6 is none for IPv4.
func layOut(list []metricRoute) ranges {
	slices.SortStableFunc(list, func(a, b metricRoute) int { return cmp.Compare(a.metric, b.metric) })
	prefixes := make([]prefix, 0, len(list)+1)
	for _, r := range list {
		prefixes = append(prefixes, r.prefix)
	}
	return newRanges(append(prefixes, prefix{key{0, mapped}, 96, none}))
}

// prefixOf returns where a route's prefix begins and its bits of 128.
func prefixOf(dst *net.IPNet, family int) (first key, bits int, ok bool) {
	if family == netlink.FAMILY_V4 {
		first, bits = key{0, mapped}, 96
	}
	if dst == nil {
		return first, bits, true
	}
	if first, ok = keyOfIP(dst.IP); !ok {
		return key{}, 0, false
	}
	ones, _ := dst.Mask.Size()
	return first, bits + ones, true
}

// hopsBy returns the next hops of a route that leave by an interface.
func hopsBy(r *netlink.Route, ifindex int) (hops []hop) {
	const gone = unix.RTNH_F_DEAD | unix.RTNH_F_LINKDOWN
	add := func(link, flags int, gw net.IP, via netlink.Destination) {
		if link != ifindex || flags&gone != 0 {
			return
		}
		if v, ok := via.(*netlink.Via); ok { // IPv4 by an IPv6 gateway (RFC 5549)
			gw = v.Addr
		}
		k, ok := keyOfIP(gw)
		hops = append(hops, hop{direct: !ok, gateway: k})
	}
	if len(r.MultiPath) == 0 {
		add(r.LinkIndex, r.Flags, r.Gw, r.Via)
	}
	for _, n := range r.MultiPath {
		add(n.LinkIndex, n.Flags, n.Gw, n.Via)
	}
	return hops
}

// neighboursOf returns the neighbours on an interface that can be used, in
// order.
func neighboursOf(list []netlink.Neigh, ifindex int) (out []neighbour) {
	const unusable = netlink.NUD_INCOMPLETE | netlink.NUD_FAILED
	for i := range list {
		n := &list[i]
		addr, ok := keyOfIP(n.IP)
		ip := n.Family == unix.AF_INET || n.Family == unix.AF_INET6
		if n.LinkIndex != ifindex || !ip || !ok || n.State&unusable != 0 || n.State == netlink.NUD_NONE {
			continue
		}
		e := neighbour{addr: addr, stale: n.State&netlink.NUD_STALE != 0}
		if copy(e.mac[:], n.HardwareAddr) == len(e.mac) {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b neighbour) int { return a.addr.compare(b.addr) })
	return out
}
