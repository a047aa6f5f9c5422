package route

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Neighbour is an address on a link.
type Neighbour struct {
	Ifindex int
	Addr    netip.Addr
}

// Use tells the kernel that neighbours are being used: it creates the entry of
// one that has none, and sends ARP or neighbour solicitations as for a packet of
// its own (NTF_USE of neighbour messages, net/core/neighbour.c). The error is
// for those that it refused. It needs CAP_NET_ADMIN.
func (x *Proxies) Use(list []Neighbour) error { return use(x.nl, list) }

func use(nl *netlink.Handle, list []Neighbour) error {
	var errs []error
	for _, n := range list {
		family := netlink.FAMILY_V6
		if n.Addr.Is4() {
			family = netlink.FAMILY_V4
		}
		err := nl.NeighSet(&netlink.Neigh{LinkIndex: n.Ifindex, Family: family, Flags: netlink.NTF_USE, IP: n.Addr.AsSlice()})
		if err != nil {
			errs = append(errs, fmt.Errorf("use neighbour %v on link %d: %w", n.Addr, n.Ifindex, err))
		}
	}
	return errors.Join(errs...)
}

// reach returns whom questions are about, without those of ports that are gone.
func (t *Table) reach(list []question) (out []Neighbour) {
	links := t.links()
	for _, q := range list {
		if q.port < len(links) && links[q.port] > 0 {
			out = append(out, Neighbour{links[q.port], q.addr.addr()})
		}
	}
	return out
}

// refusals counts what an error of Use tells.
func refusals(err error) uint64 {
	if err == nil {
		return 0
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return uint64(len(joined.Unwrap()))
	}
	return 1
}

// isGone says whether a link was not found.
func isGone(err error) bool {
	return errors.Is(err, unix.ENODEV) || errors.As(err, &netlink.LinkNotFoundError{})
}
