package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// AddAddress gives the link an address, which is usable at once: IPv6
// addresses are not probed for duplicates, as there are none between two ends.
// The link needs VethOptions.Stack.
func (l *Link) AddAddress(prefix netip.Prefix) error {
	h, err := l.NS.handle()
	if err != nil {
		return err
	}
	nl, err := h.LinkByIndex(l.Index)
	if err != nil {
		return fmt.Errorf("add address %s to %s: %w", prefix, l.Name, err)
	}
	ip := prefix.Addr()
	addr := &netlink.Addr{IPNet: &net.IPNet{
		IP: ip.AsSlice(), Mask: net.CIDRMask(prefix.Bits(), ip.BitLen()),
	}}
	if ip.Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	if err := h.AddrAdd(nl, addr); err != nil {
		return fmt.Errorf("add address %s to %s: %w", prefix, l.Name, err)
	}
	return nil
}

// enableIPv6 takes back for this link what a namespace made by New forbids for
// all. It runs inside the link's namespace.
func (l *Link) enableIPv6() error {
	path := "/proc/sys/net/ipv6/conf/" + l.Name + "/disable_ipv6"
	// Absent when the kernel was booted without IPv6.
	if err := os.WriteFile(path, []byte("0"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("enable IPv6: %w", err)
	}
	return nil
}
