// Package ports looks after the interfaces of a host that chains are to use:
// which there are, what they can, whether the host can do without them, and
// when they come and go.
//
// Interfaces are those of the network namespace of the calling thread.
package ports

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sfc/dataplane/ethtool"
)

// Errors of this package.
var (
	// ErrNoInterface: no interface has the name or the PCI address.
	ErrNoInterface = errors.New("no such interface")
	// ErrManagement: the host is reached through the interface.
	ErrManagement = errors.New("the host is reached through this interface")
	// ErrUnfit: chains cannot use the interface.
	ErrUnfit = errors.New("interface is unfit for a port")
)

// Interface is an interface and what it can.
type Interface struct {
	Name    string
	Index   int
	Type    string // as ip -details link names it: device, veth, vlan, bridge ...
	Driver  string
	PCI     string // address; "" for virtual interfaces
	Address string // hardware address
	MTU     int
	// Up: somebody wants it up. Carrier: it has a link.
	Up, Carrier bool
	Master      string // bridge or bond it belongs to
	VLAN        int    // id; 0 for interfaces that are no VLAN
	Parent      string // of a VLAN: the interface it lies on
	// Queues that receive, and the most that the driver allows.
	Queues, MaxQueues int
	XDP               XDP
	// Offloads that are on and change frames before XDP sees them: attaching
	// turns them off, detaching on again.
	Offloads []string
	// Fixed are such offloads that the driver does not let be changed.
	Fixed []string
	// Program is the id of the XDP program that is there already; 0: none.
	Program uint32
	// Addresses are those of the host on it, link-local ones left out.
	Addresses []netip.Prefix
}

// Find returns the interface with this name or PCI address (0000:00:05.0, or
// 00:05.0 in domain 0).
func Find(ref string) (*Interface, error) {
	if addr, ok := pciAddress(ref); ok {
		return findPCI(addr)
	}
	l, err := netlink.LinkByName(ref)
	if missing := (netlink.LinkNotFoundError{}); errors.As(err, &missing) {
		return nil, fmt.Errorf("%w: %q; there are %s", ErrNoInterface, ref, names())
	}
	if err != nil {
		return nil, fmt.Errorf("look up interface %q: %w", ref, err)
	}
	return describe(l)
}

// List returns all interfaces, by index.
func List() ([]*Interface, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	var out []*Interface
	for _, l := range links {
		i, err := describe(l)
		if errors.Is(err, unix.ENODEV) {
			continue // it went meanwhile
		}
		if err != nil {
			return nil, err
		}
		out = append(out, i)
	}
	slices.SortFunc(out, func(a, b *Interface) int { return a.Index - b.Index })
	return out, nil
}

// names lists interfaces for an error.
func names() string {
	links, err := netlink.LinkList()
	if err != nil || len(links) == 0 {
		return "none"
	}
	var list []string
	for _, l := range links {
		list = append(list, l.Attrs().Name)
	}
	return strings.Join(list, ", ")
}

// pciAddress returns a PCI address in the kernel's form.
func pciAddress(ref string) (addr string, ok bool) {
	var domain, bus, slot, fn uint
	full := ref
	if strings.Count(ref, ":") == 1 {
		full = "0000:" + ref
	}
	n, err := fmt.Sscanf(full, "%04x:%02x:%02x.%1x", &domain, &bus, &slot, &fn)
	if err != nil || n != 4 {
		return "", false
	}
	addr = fmt.Sprintf("%04x:%02x:%02x.%x", domain, bus, slot, fn)
	return addr, strings.EqualFold(addr, full)
}

func findPCI(addr string) (*Interface, error) {
	list, err := List()
	if err != nil {
		return nil, err
	}
	var have []string
	for _, i := range list {
		if i.PCI == addr {
			return i, nil
		}
		if i.PCI != "" {
			have = append(have, i.PCI+" ("+i.Name+")")
		}
	}
	if have == nil {
		have = []string{"none"}
	}
	return nil, fmt.Errorf("%w: no interface at PCI address %s; there are %s", ErrNoInterface, addr, strings.Join(have, ", "))
}

// describe asks for all that is to be known of an interface.
func describe(l netlink.Link) (*Interface, error) {
	a := l.Attrs()
	i := &Interface{
		Name: a.Name, Index: a.Index, Type: l.Type(), Address: a.HardwareAddr.String(), MTU: a.MTU,
		Up: a.RawFlags&unix.IFF_UP != 0, Carrier: a.RawFlags&unix.IFF_LOWER_UP != 0,
	}
	if v, ok := l.(*netlink.Vlan); ok {
		i.VLAN = v.VlanId
	}
	if a.ParentIndex > 0 && i.VLAN > 0 {
		i.Parent = nameOf(a.ParentIndex)
	}
	if a.MasterIndex > 0 {
		i.Master = nameOf(a.MasterIndex)
	}
	if a.Xdp != nil && a.Xdp.Attached {
		i.Program = a.Xdp.ProgId
	}
	if err := i.askDriver(); err != nil {
		return nil, err
	}
	if err := i.askXDP(); err != nil {
		return nil, err
	}
	addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("addresses of %s: %w", i.Name, err)
	}
	for _, ad := range addrs {
		ip, ok := netip.AddrFromSlice(ad.IP)
		if ones, _ := ad.Mask.Size(); ok && !ip.Unmap().IsLinkLocalUnicast() {
			i.Addresses = append(i.Addresses, netip.PrefixFrom(ip.Unmap(), ones))
		}
	}
	return i, nil
}

// nameOf returns the name of an interface, or its index where it has gone.
func nameOf(index int) string {
	l, err := netlink.LinkByIndex(index)
	if err != nil {
		return fmt.Sprintf("interface %d", index)
	}
	return l.Attrs().Name
}

// askDriver asks what ethtool knows.
func (i *Interface) askDriver() (err error) {
	c, err := ethtool.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	d, err := c.Driver(i.Name)
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	i.Driver = d.Name
	if addr, ok := pciAddress(d.Bus); ok {
		i.PCI = addr
	}
	ch, err := c.Channels(i.Name)
	if err != nil {
		return err
	}
	i.Queues, i.MaxQueues = max(ch.Receive(), 1), max(ch.MaxRX+ch.MaxCombined, ch.Receive(), 1)
	features, err := c.Features(i.Name)
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	for _, name := range ethtool.Altering {
		switch f := features[name]; {
		case f.On && f.Fixed:
			i.Fixed = append(i.Fixed, name)
		case f.On:
			i.Offloads = append(i.Offloads, name)
		}
	}
	return nil
}
