package route

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// maxProxyAddresses is the most addresses of an IPv6 prefix that is answered
// for.
const maxProxyAddresses = 1024

// routeProtocol marks the routes of this package (rtm_protocol of rtnetlink(7);
// numbers from 5 on are free for use, and /etc/iproute2/rt_protos does not have
// this one).
const routeProtocol = 115

// Proxies makes the kernel answer ARP and neighbour solicitations for addresses
// on links of a namespace, as it does for the links' own: for the pools of
// address translation and the addresses of load balancers. Packets to these
// addresses that nobody else takes become the kernel's, which refuses them.
//
// What it adds bears a mark, so whoever comes later finds it, also when the
// process that added it was killed: entries belong to the link, not to a
// process.
type Proxies struct{ nl *netlink.Handle }

// OpenProxies opens them for the namespace of the calling thread.
func OpenProxies() (*Proxies, error) {
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	return &Proxies{nl}, nil
}

// Close leaves everything as it is.
func (x *Proxies) Close() { x.nl.Close() }

// CheckProxy says why a prefix cannot be answered for.
func CheckProxy(prefix netip.Prefix) error {
	a := prefix.Addr()
	switch {
	case !prefix.IsValid() || prefix != prefix.Masked() || a.Is4In6() || a.IsMulticast() || a.Zone() != "":
		return fmt.Errorf("answer for %v: no prefix of unicast addresses; write it as 192.0.2.0/28", prefix)
	case a.Is6() && prefix.Bits() < 128-10:
		return fmt.Errorf("answer for %v: more than %d IPv6 addresses; use a longer prefix, or let the neighbours have a route to it by this host", prefix, maxProxyAddresses)
	}
	return nil
}

// Set makes the kernel answer for exactly these prefixes on a link, besides what
// it answers for anyway. What somebody else put there stays, and is not put
// there again. Each prefix passes [CheckProxy]. After an error, what could be
// done is done.
//
// IPv4 prefixes become one local route, of any size; the kernel then answers on
// other links of the namespace too, as it does for every local address unless
// arp_ignore is set. An IPv6 prefix becomes one deprecated address for each of
// its addresses, at most 1024, as there is no neighbour proxy for prefixes; the
// host never picks these for packets of its own. Both go with the link when it
// is removed, and when it goes down: then Set is due again.
func (x *Proxies) Set(ifindex int, want []netip.Prefix) error {
	have, err := x.marked(ifindex)
	if err != nil {
		return fmt.Errorf("answer for addresses on link %d: %w", ifindex, err)
	}
	var errs []error
	for _, prefix := range want {
		if prefix.Addr().Is4() {
			errs = append(errs, x.put(ifindex, prefix, have))
			continue
		}
		for a := prefix.Addr(); a.IsValid() && prefix.Contains(a); a = a.Next() {
			if err := x.put(ifindex, netip.PrefixFrom(a, 128), have); err != nil {
				errs = append(errs, err)
				break // the others fail for the same reason
			}
		}
	}
	for prefix, stale := range have {
		if stale {
			errs = append(errs, x.remove(ifindex, prefix))
		}
	}
	return errors.Join(errs...)
}

// put adds an entry unless it is there, and notes that it is wanted.
func (x *Proxies) put(ifindex int, prefix netip.Prefix, have map[netip.Prefix]bool) error {
	if _, there := have[prefix]; there {
		have[prefix] = false
		return nil
	}
	var err error
	if prefix.Addr().Is4() {
		err = x.nl.RouteAdd(localRoute(ifindex, prefix))
	} else {
		err = x.nl.AddrAdd(nil, deprecatedAddress(ifindex, prefix))
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("answer for %v: %w", prefix, err)
	}
	have[prefix] = false
	return nil
}

func (x *Proxies) remove(ifindex int, prefix netip.Prefix) error {
	var err error
	if prefix.Addr().Is4() {
		err = x.nl.RouteDel(localRoute(ifindex, prefix))
	} else {
		err = x.nl.AddrDel(nil, deprecatedAddress(ifindex, prefix))
	}
	// It may have gone with its link.
	if err != nil && !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("no longer answer for %v: %w", prefix, err)
	}
	return nil
}

// marked returns what this package put on a link, each with true.
func (x *Proxies) marked(ifindex int) (map[netip.Prefix]bool, error) {
	have := map[netip.Prefix]bool{}
	routes, err := x.nl.RouteListFiltered(netlink.FAMILY_V4,
		&netlink.Route{LinkIndex: ifindex, Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL, Protocol: routeProtocol},
		netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE|netlink.RT_FILTER_TYPE|netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return nil, err
	}
	for i := range routes {
		if p, ok := prefixFrom(routes[i].Dst); ok {
			have[p] = true
		}
	}
	link, err := x.nl.LinkByIndex(ifindex)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, unix.ENODEV
	}
	if err != nil {
		return nil, err
	}
	addresses, err := x.nl.AddrList(link, netlink.FAMILY_V6)
	if err != nil {
		return nil, err
	}
	for i := range addresses {
		if p, ok := prefixFrom(addresses[i].IPNet); ok && isDeprecated(&addresses[i]) {
			have[p] = true
		}
	}
	return have, nil
}

// Taken says why a prefix must not be answered for: it has the address of a
// router by which this namespace reaches others, which would be lost.
func (x *Proxies) Taken(prefix netip.Prefix) error {
	routes, err := x.nl.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("read routes: %w", err)
	}
	for i := range routes {
		gateways := []net.IP{routes[i].Gw}
		for _, hop := range routes[i].MultiPath {
			gateways = append(gateways, hop.Gw)
		}
		for _, gw := range gateways {
			if a, ok := netip.AddrFromSlice(gw); ok && prefix.Contains(a.Unmap()) {
				return fmt.Errorf("answer for %v: %v is a router of this host's; use a prefix without it", prefix, a.Unmap())
			}
		}
	}
	return nil
}

// localRoute says that the addresses of a prefix are the host's own, without
// giving them to a link.
func localRoute(ifindex int, prefix netip.Prefix) *netlink.Route {
	return &netlink.Route{
		LinkIndex: ifindex, Dst: ipNet(prefix), Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL,
		Scope: netlink.SCOPE_HOST, Protocol: routeProtocol,
	}
}

// deprecatedAddress is an address that is answered for but not used as a source
// (RFC 4862, section 5.5.4). No duplicate is looked for, so it works at once.
func deprecatedAddress(ifindex int, prefix netip.Prefix) *netlink.Addr {
	return &netlink.Addr{
		IPNet: ipNet(prefix), LinkIndex: ifindex, Flags: addressFlags, ValidLft: forEver,
	}
}

const (
	addressFlags = unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE
	forEver      = 1<<32 - 1
)

// isDeprecated says whether an address is one of deprecatedAddress: nobody else
// makes any that are all of this at once.
func isDeprecated(a *netlink.Addr) bool {
	ones, _ := a.Mask.Size()
	return ones == 128 && a.Flags&addressFlags == addressFlags && a.PreferedLft == 0 && a.Flags&unix.IFA_F_DEPRECATED != 0
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func prefixFrom(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), ones), ok
}
