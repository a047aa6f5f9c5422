package xsk

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"

	"golang.org/x/sys/unix"

	"sfc/dataplane/ethtool"
)

// NIC holds the settings of an interface that AF_XDP needs otherwise, and what
// they were.
type NIC struct {
	name    string
	conn    *ethtool.Conn
	promisc int // packet socket that holds promiscuous mode
	off     []string
	closed  bool
}

// PrepareNIC turns off the offloads that change frames before XDP sees them
// and sets promiscuous mode, on an interface of the calling thread's network
// namespace, until Close. What the driver does not let be changed stays. Call
// it after the XDP program is attached: some drivers turn GRO on with it.
//
// Promiscuous mode ends with the process, however that ends; offloads are put
// back by Close alone.
func PrepareNIC(name string) (_ *NIC, err error) {
	n := &NIC{name: name, promisc: -1}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("prepare interface %s: %w", name, err), n.Close())
		}
	}()
	link, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	if n.conn, err = ethtool.Open(); err != nil {
		return nil, err
	}
	// Protocol 0: the socket receives nothing.
	n.promisc, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	mreq := &unix.PacketMreq{Ifindex: int32(link.Index), Type: unix.PACKET_MR_PROMISC}
	if err := unix.SetsockoptPacketMreq(n.promisc, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, mreq); err != nil {
		return nil, fmt.Errorf("set promiscuous mode: %w", err)
	}
	before, err := n.conn.Features(name)
	if err != nil {
		return nil, err
	}
	change := map[string]bool{}
	for _, f := range ethtool.Altering {
		if before[f].On && !before[f].Fixed {
			change[f] = false
		}
	}
	n.off = slices.Sorted(maps.Keys(change)) // put back also when what follows fails
	if err := n.conn.SetFeatures(name, change); err != nil {
		return nil, err
	}
	after, err := n.conn.Features(name)
	if err != nil {
		return nil, err
	}
	// A driver may keep one on, and turn off others that depend on one.
	n.off = n.off[:0]
	for f, was := range before {
		if was.On && !after[f].On {
			n.off = append(n.off, f)
		}
	}
	slices.Sort(n.off)
	return n, nil
}

// TurnedOff returns the names of the offloads that are off until Close, sorted.
func (n *NIC) TurnedOff() []string { return n.off }

// Close puts the settings back. An interface that is gone needs none. Closing
// again does nothing.
func (n *NIC) Close() error {
	if n.closed {
		return nil
	}
	n.closed = true
	var errs []error
	if len(n.off) > 0 {
		change := make(map[string]bool, len(n.off))
		for _, f := range n.off {
			change[f] = true
		}
		if err := n.conn.SetFeatures(n.name, change); err != nil && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("put back settings: %w; by hand: ethtool -K %s NAME on, for each of %q", err, n.name, n.off))
		}
	}
	if n.promisc >= 0 {
		errs = append(errs, unix.Close(n.promisc))
	}
	if n.conn != nil {
		errs = append(errs, n.conn.Close())
	}
	return errors.Join(errs...)
}
