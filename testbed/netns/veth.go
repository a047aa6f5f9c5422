package netns

import (
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sfc/dataplane/ethtool"
)

// VethOptions configure a pair of links. The zero value selects the defaults.
type VethOptions struct {
	// MTU in bytes, of both ends. A frame may be MTU + 14 bytes long, plus 4
	// with a VLAN tag. Native XDP on veth needs at most 3,506 (Linux 6.18,
	// 4 KiB pages). Default 1500.
	MTU int
	// Queues is the number of receive and of transmit queues of each end.
	// Default 1.
	Queues int
	// MACA and MACB are the addresses of the ends. Default
	// 02:00:00:00:00:0a and 02:00:00:00:00:0b, the same in every run.
	MACA, MACB net.HardwareAddr
	// Stack leaves the kernel's stack at work on both ends: ARP, multicast and
	// IPv6 are on, as between two real hosts. Default: the links are silent.
	Stack bool
}

func (o VethOptions) withDefaults() VethOptions {
	if o.MTU == 0 {
		o.MTU = 1500
	}
	if o.Queues == 0 {
		o.Queues = 1
	}
	if o.MACA == nil {
		o.MACA = net.HardwareAddr{2, 0, 0, 0, 0, 0x0a}
	}
	if o.MACB == nil {
		o.MACB = net.HardwareAddr{2, 0, 0, 0, 0, 0x0b}
	}
	return o
}

func (o VethOptions) validate() error {
	if o.MTU < 68 || o.MTU > 65535 {
		return fmt.Errorf("veth MTU %d: want 68 to 65535", o.MTU)
	}
	if o.Queues < 1 || o.Queues > 256 {
		return fmt.Errorf("veth queues %d: want 1 to 256", o.Queues)
	}
	for _, mac := range []net.HardwareAddr{o.MACA, o.MACB} {
		if len(mac) != 6 || mac[0]&1 != 0 {
			return fmt.Errorf("veth MAC address %q: want 6 bytes, unicast", mac)
		}
	}
	return nil
}

// Link is one end of a pair.
type Link struct {
	NS    *NS
	Name  string
	Index int // interface index, unique within NS only
	MAC   net.HardwareAddr
	MTU   int // bytes, without the Ethernet header
}

// Veth makes a pair of links, one end in each namespace (which may be the
// same), and sets both up. The links carry frames as they are and nothing
// else: segmentation, receive merging, checksum and VLAN offloads are off, so
// that each frame sent is one frame received with its bytes unchanged; ARP,
// multicast and IPv6 are off, so that the kernel adds no frame of its own,
// unless VethOptions.Stack asks for them.
//
// Closing either namespace removes the pair.
func Veth(a *NS, nameA string, b *NS, nameB string, opts VethOptions) (la, lb *Link, err error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, nil, err
	}
	ha, err := a.handle()
	if err != nil {
		return nil, nil, err
	}
	fdB, err := b.dup()
	if err != nil {
		return nil, nil, err
	}
	defer unix.Close(fdB)

	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = nameA, opts.MTU, opts.MACA
	attrs.NumRxQueues, attrs.NumTxQueues = opts.Queues, opts.Queues
	attrs.Index = firstIndex + int(pairs.Add(1))
	pair := &netlink.Veth{
		LinkAttrs:        attrs,
		PeerName:         nameB,
		PeerNamespace:    netlink.NsFd(fdB),
		PeerHardwareAddr: opts.MACB,
	}
	if err := ha.LinkAdd(pair); err != nil {
		return nil, nil, fmt.Errorf("make veth %s - %s: %w", nameA, nameB, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ha.LinkDel(pair))
		}
	}()
	la = &Link{NS: a, Name: nameA, MAC: opts.MACA, MTU: opts.MTU}
	lb = &Link{NS: b, Name: nameB, MAC: opts.MACB, MTU: opts.MTU}
	for _, l := range []*Link{la, lb} {
		if err := l.setUp(opts.Stack); err != nil {
			return nil, nil, fmt.Errorf("set up veth %s: %w", l.Name, err)
		}
	}
	if err := errors.Join(la.waitCarrier(), lb.waitCarrier()); err != nil {
		return nil, nil, err
	}
	return la, lb, nil
}

// One end of each pair gets an interface index of its own, firstIndex plus the
// number of pairs made so far. In fresh namespaces the kernel would give both
// ends the same index, take the pair for an ordinary interface
// (linkwatch_urgent_event compares the two), and let it wait up to a second
// before it may send.
const firstIndex = 1000

var pairs atomic.Int32

// setUp silences one end, unless the kernel's stack shall use it, and sets it
// up.
func (l *Link) setUp(stack bool) error {
	h, err := l.NS.handle()
	if err != nil {
		return err
	}
	nl, err := h.LinkByName(l.Name)
	if err != nil {
		return err
	}
	l.Index = nl.Attrs().Index
	if err := l.NS.Do(l.disableOffloads); err != nil {
		return err
	}
	if stack {
		if err := l.NS.Do(l.enableIPv6); err != nil {
			return err
		}
		return h.LinkSetUp(nl)
	}
	if err := h.LinkSetARPOff(nl); err != nil {
		return fmt.Errorf("disable ARP: %w", err)
	}
	if err := h.LinkSetMulticastOff(nl); err != nil {
		return fmt.Errorf("disable multicast: %w", err)
	}
	return h.LinkSetUp(nl)
}

// waitCarrier returns when the link runs: the kernel notes that both ends are
// up on a work queue, some time after the call that set the second one up.
func (l *Link) waitCarrier() error {
	return l.NS.Do(func() error {
		for end := time.Now().Add(carrierWait); ; time.Sleep(time.Millisecond) {
			nic, err := net.InterfaceByIndex(l.Index)
			if err != nil {
				return fmt.Errorf("check veth %s: %w", l.Name, err)
			}
			if nic.Flags&net.FlagRunning != 0 {
				return nil
			}
			if time.Now().After(end) {
				return fmt.Errorf("veth %s does not run %v after both ends were set up", l.Name, carrierWait)
			}
		}
	})
}

// carrierWait is how long a fresh pair may take to run.
const carrierWait = 5 * time.Second

// Stats returns the driver's counters of the link, as ethtool -S shows them.
func (l *Link) Stats() (stats map[string]uint64, err error) {
	err = l.NS.Do(func() error {
		c, err := ethtool.Open()
		if err != nil {
			return err
		}
		defer c.Close()
		stats, err = c.Stats(l.Name)
		return err
	})
	return stats, err
}

// Counters returns the kernel's counters of the link.
func (l *Link) Counters() (netlink.LinkStatistics, error) {
	h, err := l.NS.handle()
	if err != nil {
		return netlink.LinkStatistics{}, err
	}
	nl, err := h.LinkByIndex(l.Index)
	if err != nil {
		return netlink.LinkStatistics{}, fmt.Errorf("read counters of %s: %w", l.Name, err)
	}
	if nl.Attrs().Statistics == nil {
		return netlink.LinkStatistics{}, fmt.Errorf("read counters of %s: the kernel sent none", l.Name)
	}
	return *nl.Attrs().Statistics, nil
}
