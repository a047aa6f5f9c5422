package route

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// maxProxyAddresses is the most addresses of an IPv6 prefix given to AddProxy.
const maxProxyAddresses = 1024

// proxy is a prefix whose addresses the kernel answers for.
type proxy struct {
	port    int
	prefix  netip.Prefix
	entries []proxyEntry
}

// proxyEntry is a local route (IPv4) or an address (IPv6).
type proxyEntry struct {
	prefix netip.Prefix
	// own says that it was not there before.
	own bool
}

// AddProxy makes the kernel answer ARP and neighbour solicitations for all
// addresses of a prefix that come in on a port, as it does for the port's own:
// for the pools of address translation and the addresses of load balancers.
// Packets to these addresses that nobody else takes become the kernel's, which
// refuses them. What was there before stays when the proxy is removed.
//
// IPv4 prefixes become one local route, of any size; the kernel then answers on
// other links of the namespace too, as it does for every local address unless
// arp_ignore is set. An IPv6 prefix becomes one deprecated address for each of
// its addresses, at most 1024, as there is no neighbour proxy for prefixes; the
// host never picks these for packets of its own. Both go with the link when it
// is removed, and come again when it was down.
func (t *Table) AddProxy(port int, prefix netip.Prefix) error {
	ifindex, err := t.port(port)
	if err != nil {
		return fmt.Errorf("answer for %v: %w", prefix, err)
	}
	if !prefix.IsValid() || prefix != prefix.Masked() || prefix.Addr().Is4In6() || prefix.Addr().IsMulticast() || prefix.Addr().Zone() != "" {
		return fmt.Errorf("answer for %v: no prefix of unicast addresses; write it as 192.0.2.0/28", prefix)
	}
	p := proxy{port: port, prefix: prefix}
	if prefix.Addr().Is4() {
		p.entries = []proxyEntry{{prefix: prefix}}
	} else {
		if prefix.Bits() < 128-10 {
			return fmt.Errorf("answer for %v: more than %d IPv6 addresses; use a longer prefix, or let the neighbours have a route to it by this host", prefix, maxProxyAddresses)
		}
		for a := prefix.Addr(); a.IsValid() && prefix.Contains(a); a = a.Next() {
			p.entries = append(p.entries, proxyEntry{prefix: netip.PrefixFrom(a, 128)})
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return fmt.Errorf("answer for %v: %w", prefix, ErrClosed)
	case slices.ContainsFunc(t.proxies, func(o proxy) bool { return o.port == port && o.prefix == prefix }):
		return fmt.Errorf("answer for %v on port %d: is done already", prefix, port)
	}
	for i := range p.entries {
		e := &p.entries[i]
		switch err := t.addEntry(ifindex, e.prefix); {
		case err == nil:
			e.own = true
		case !errors.Is(err, unix.EEXIST):
			return errors.Join(fmt.Errorf("answer for %v: add %v: %w", prefix, e.prefix, err), t.remove(p))
		}
	}
	t.proxies = append(t.proxies, p)
	return nil
}

// RemoveProxy takes back what AddProxy did.
func (t *Table) RemoveProxy(port int, prefix netip.Prefix) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, p := range t.proxies {
		if p.port == port && p.prefix == prefix {
			t.proxies = slices.Delete(t.proxies, i, i+1)
			return t.remove(p)
		}
	}
	return fmt.Errorf("no longer answer for %v on port %d: nobody asked to", prefix, port)
}

// removeProxies removes all.
func (t *Table) removeProxies() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	for _, p := range t.proxies {
		errs = append(errs, t.remove(p))
	}
	t.proxies = nil
	return errors.Join(errs...)
}

// restoreProxies adds again what the kernel removed when a link went down.
func (t *Table) restoreProxies(old, now *snapshot) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.proxies {
		if old.ports[p.port].up || !now.ports[p.port].up {
			continue
		}
		for _, e := range p.entries {
			if !e.own {
				continue
			}
			// What is there still is as good as added; what cannot be added
			// is counted, and missing.
			if err := t.addEntry(t.ports[p.port], e.prefix); err != nil && !errors.Is(err, unix.EEXIST) {
				t.failed.Add(1)
			}
		}
	}
}

func (t *Table) remove(p proxy) error {
	var errs []error
	for _, e := range p.entries {
		if !e.own {
			continue
		}
		err := t.removeEntry(t.ports[p.port], e.prefix)
		// It may have gone with its link.
		if err != nil && !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.EADDRNOTAVAIL) {
			errs = append(errs, fmt.Errorf("no longer answer for %v: %w", e.prefix, err))
		}
	}
	return errors.Join(errs...)
}

func (t *Table) addEntry(ifindex int, prefix netip.Prefix) error {
	if prefix.Addr().Is4() {
		return t.nl.RouteAdd(localRoute(ifindex, prefix))
	}
	return t.nl.AddrAdd(nil, deprecatedAddress(ifindex, prefix))
}

func (t *Table) removeEntry(ifindex int, prefix netip.Prefix) error {
	if prefix.Addr().Is4() {
		return t.nl.RouteDel(localRoute(ifindex, prefix))
	}
	return t.nl.AddrDel(nil, deprecatedAddress(ifindex, prefix))
}

// localRoute says that the addresses of a prefix are the host's own, without
// giving them to a link.
func localRoute(ifindex int, prefix netip.Prefix) *netlink.Route {
	return &netlink.Route{
		LinkIndex: ifindex, Dst: ipNet(prefix), Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL,
		Scope: netlink.SCOPE_HOST, Protocol: unix.RTPROT_STATIC,
	}
}

// deprecatedAddress is an address that is answered for but not used as a source
// (RFC 4862, section 5.5.4). No duplicate is looked for, so it works at once.
func deprecatedAddress(ifindex int, prefix netip.Prefix) *netlink.Addr {
	const forever = 1<<32 - 1
	return &netlink.Addr{
		IPNet: ipNet(prefix), LinkIndex: ifindex, Flags: unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE, ValidLft: forever,
	}
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
