package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sfc/testbed/netns"
)

// network is the hosts, and the links between them and the engine.
type network struct {
	mode                   Mode
	client, engine, server *netns.NS
	in, out                *netns.Link // in the engine's namespace
	far                    [2]*netns.Link
	stubs                  []*netns.Stub
}

// hostLink is the name of a host's interface.
const hostLink = "eth0"

// macs are the hardware addresses of the links' ends, the same in every lab:
// client, in, out, server. The example chain edge.yaml sends to the server's.
var macs = [4]net.HardwareAddr{
	{2, 0, 0, 0, 0, 0x01}, {2, 0, 0, 0, 0, 0x0a}, {2, 0, 0, 0, 0, 0x02}, {2, 0, 0, 0, 0, 0x03},
}

func openNetwork(mode Mode) (_ *network, err error) {
	n := &network{mode: mode}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	for _, ns := range []**netns.NS{&n.client, &n.engine, &n.server} {
		if *ns, err = netns.New(); err != nil {
			return nil, err
		}
	}
	for _, ns := range []*netns.NS{n.client, n.engine, n.server} {
		if err := ns.Do(setUpHost); err != nil {
			return nil, err
		}
	}
	if err := n.links(); err != nil {
		return nil, err
	}
	if mode == Routed {
		err = n.route()
	} else {
		err = n.engine.Do(func() error { return silence(portNames) })
	}
	if err != nil {
		return nil, err
	}
	for i, host := range []Host{HostClient, HostServer} {
		for _, a := range addresses[mode][host] {
			if err := n.far[i].AddAddress(a); err != nil {
				return nil, fmt.Errorf("%s: %w", host, err)
			}
		}
		for _, gateway := range n.gateways(i) {
			if err := n.far[i].NS.Do(func() error { return defaultRoute(n.far[i].Index, gateway) }); err != nil {
				return nil, fmt.Errorf("%s: %w", host, err)
			}
		}
	}
	return n, nil
}

// links makes the two pairs. The hosts' ends poll a receive ring of their own,
// as real interfaces do: a redirect in the kernel needs that.
func (n *network) links() (err error) {
	opts := netns.VethOptions{Stack: true, MACA: macs[0], MACB: macs[1]}
	if n.far[portIn], n.in, err = netns.Veth(n.client, hostLink, n.engine, portNames[portIn], opts); err != nil {
		return err
	}
	opts.MACA, opts.MACB = macs[2], macs[3]
	if n.out, n.far[portOut], err = netns.Veth(n.engine, portNames[portOut], n.server, hostLink, opts); err != nil {
		return err
	}
	for _, l := range n.far {
		stub, err := l.EnableNAPI()
		if err != nil {
			return err
		}
		n.stubs = append(n.stubs, stub)
	}
	return nil
}

// gateways returns the engine's addresses on a port; none where it is no router.
func (n *network) gateways(port int) (list []netip.Addr) {
	all := addresses[n.mode][HostEngine]
	for _, a := range all[min(2*port, len(all)):min(2*port+2, len(all))] {
		list = append(list, a.Addr())
	}
	return list
}

// route makes a router of the engine's kernel.
func (n *network) route() error {
	err := n.engine.Do(func() error {
		for _, v := range []struct{ name, value string }{
			{"ipv4/ip_forward", "1"},
			{"ipv6/conf/all/forwarding", "1"},
			// What chains pass to the kernel comes in on another device than
			// the port, and what they translate leaves with other addresses.
			{"ipv4/conf/all/rp_filter", "0"},
			{"ipv4/conf/default/rp_filter", "0"},
			{"ipv4/conf/all/send_redirects", "0"},
			// That device is made later.
			{"ipv6/conf/default/disable_ipv6", "0"},
		} {
			if err := sysctl(v.name, v.value); err != nil {
				return err
			}
		}
		return nil
	})
	for i, a := range addresses[n.mode][HostEngine] {
		if err != nil {
			break
		}
		err = []*netns.Link{n.in, n.out}[i/2].AddAddress(a)
	}
	if err != nil {
		return fmt.Errorf("engine: %w", err)
	}
	return nil
}

// defaultRoute has everything go to a gateway. It runs inside.
func defaultRoute(ifindex int, gateway netip.Addr) error {
	bits := gateway.BitLen()
	all := &net.IPNet{IP: make(net.IP, bits/8), Mask: net.CIDRMask(0, bits)}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: ifindex, Dst: all, Gw: gateway.AsSlice()}); err != nil {
		return fmt.Errorf("default route by %v: %w", gateway, err)
	}
	return nil
}

// silence keeps the engine's own kernel from saying anything on its ports.
func silence(ports []string) error {
	for _, p := range ports {
		if err := sysctl("ipv6/conf/"+p+"/disable_ipv6", "1"); err != nil {
			return err
		}
		l, err := netlink.LinkByName(p)
		if err != nil {
			return fmt.Errorf("find port %s: %w", p, err)
		}
		if err := netlink.LinkSetARPOff(l); err != nil {
			return fmt.Errorf("disable ARP on port %s: %w", p, err)
		}
	}
	return nil
}

// setUpHost makes a host of a namespace without links. It runs inside.
func setUpHost() error {
	for _, v := range []struct{ name, value string }{
		{"ipv6/conf/lo/disable_ipv6", "0"},
		// Addresses are usable at once, as there is nobody to dispute them, and
		// nobody is asked for a router that is not there.
		{"ipv6/conf/default/accept_dad", "0"},
		{"ipv6/conf/default/dad_transmits", "0"},
		{"ipv6/conf/default/router_solicitations", "0"},
		// Every probe of traceroute is answered, not one a second.
		{"ipv4/icmp_ratelimit", "0"},
		{"ipv6/icmp/ratelimit", "0"},
		// Everybody may ping, as on most systems.
		{"ipv4/ping_group_range", "0 2147483647"},
	} {
		if err := sysctl(v.name, v.value); err != nil {
			return err
		}
	}
	return nil
}

// sysctl writes a file of /proc/sys/net. One that is not there needs no value:
// the kernel has no such thing.
func sysctl(name, value string) error {
	if err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("set net/%s to %s: %w", name, value, err)
	}
	return nil
}

// meetTimeout is how long hosts may take to find each other's hardware
// addresses.
const meetTimeout = 5 * time.Second

// meet returns when everybody has found the hardware addresses of those next to
// him: frames flow both ways. It sends nothing that a chain would see.
func (n *network) meet() error {
	near := [2]*netns.Link{n.in, n.out}
	for i, host := range []Host{HostClient, HostServer} {
		if n.mode == Inline {
			peer := []Host{HostServer, HostClient}[i]
			if err := find(n.far[i], host, peer, plain(addresses[n.mode][peer])); err != nil {
				return err
			}
			continue
		}
		err := errors.Join(
			find(n.far[i], host, HostEngine, n.gateways(i)),
			find(near[i], HostEngine, host, plain(addresses[n.mode][host])))
		if err != nil {
			return err
		}
	}
	return nil
}

func plain(prefixes []netip.Prefix) (list []netip.Addr) {
	for _, p := range prefixes {
		list = append(list, p.Addr())
	}
	return list
}

// find has a host resolve the addresses of another on its link.
func find(l *netns.Link, host, other Host, list []netip.Addr) error {
	for _, a := range list {
		if err := l.NS.Do(func() error { return resolve(l.Index, a) }); err != nil {
			return fmt.Errorf("the %s cannot reach the %s: %w", host, other, err)
		}
	}
	return nil
}

// resolve has the kernel ask for the hardware address of a neighbour and waits
// for the answer. It runs inside the namespace.
func resolve(ifindex int, to netip.Addr) error {
	family := unix.AF_INET
	if to.Is6() {
		family = unix.AF_INET6
	}
	// NTF_USE is what a packet to that address would set off.
	ask := &netlink.Neigh{LinkIndex: ifindex, Family: family, IP: to.AsSlice(), State: unix.NUD_NONE, Flags: unix.NTF_USE}
	for end := time.Now().Add(meetTimeout); ; time.Sleep(5 * time.Millisecond) {
		list, err := netlink.NeighList(ifindex, family)
		if err != nil {
			return fmt.Errorf("list neighbours: %w", err)
		}
		asked := false
		for _, have := range list {
			if a, ok := netip.AddrFromSlice(have.IP); !ok || a.Unmap() != to {
				continue
			}
			if have.State&(unix.NUD_REACHABLE|unix.NUD_STALE|unix.NUD_DELAY|unix.NUD_PROBE) != 0 {
				return nil
			}
			asked = have.State&unix.NUD_INCOMPLETE != 0
		}
		if time.Now().After(end) {
			return fmt.Errorf("%v does not answer within %v", to, meetTimeout)
		}
		if !asked {
			if err := netlink.NeighSet(ask); err != nil {
				return fmt.Errorf("ask for %v: %w", to, err)
			}
		}
	}
}

func (n *network) close() error {
	var errs []error
	for _, s := range n.stubs {
		errs = append(errs, s.Close())
	}
	for _, ns := range []*netns.NS{n.client, n.engine, n.server} {
		if ns != nil {
			errs = append(errs, ns.Close())
		}
	}
	return errors.Join(errs...)
}
