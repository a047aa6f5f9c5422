package ports

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sfc/dataplane/packet"
)

// Fit returns why chains cannot use the interface, nil when they can.
func (i *Interface) Fit() error {
	switch {
	case i.Type == "loopback" || i.Name == "lo":
		return fmt.Errorf("%w: %s is the loopback", ErrUnfit, i.Name)
	case i.Master != "":
		return fmt.Errorf("%w: %s belongs to %s, which would miss its frames: take it out first (ip link set %s nomaster)", ErrUnfit, i.Name, i.Master, i.Name)
	case i.MTU > packet.MaxFrame-14:
		return fmt.Errorf("%w: %s has an MTU of %d, frames of at most %d bytes are taken: lower it (ip link set %s mtu %d)",
			ErrUnfit, i.Name, i.MTU, packet.MaxFrame, i.Name, packet.MaxFrame-14)
	}
	return nil
}

// Management returns why the host may be out of reach without the interface,
// nil when it is not. What no chain claims still goes to the host's own stack,
// so this is a warning of a chain that claims too much: it is to be overruled by
// hand only.
func Management(i *Interface) error {
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	here, elsewhere := defaultRoutes(routes, i.Index)
	if here && !elsewhere {
		return fmt.Errorf("%w: %s has the only default route: use another interface for ports, or force it", ErrManagement, i.Name)
	}
	if len(i.Addresses) == 0 {
		return nil
	}
	others, err := List()
	if err != nil {
		return err
	}
	for _, o := range others {
		if o.Index != i.Index && o.Type != "loopback" && o.Name != "lo" && o.Up && len(o.Addresses) > 0 {
			return nil
		}
	}
	var addrs []string
	for _, a := range i.Addresses {
		addrs = append(addrs, a.Addr().String())
	}
	return fmt.Errorf("%w: %s has the host's only addresses (%s): use another interface for ports, or force it", ErrManagement, i.Name, strings.Join(addrs, ", "))
}

// defaultRoutes says whether there is a default route through an interface, and
// whether there is one through any other.
func defaultRoutes(routes []netlink.Route, index int) (here, elsewhere bool) {
	for _, r := range routes {
		if r.Dst != nil {
			if ones, _ := r.Dst.Mask.Size(); ones != 0 {
				continue
			}
		}
		if r.Type != unix.RTN_UNICAST {
			continue
		}
		links := []int{r.LinkIndex}
		for _, hop := range r.MultiPath {
			links = append(links, hop.LinkIndex)
		}
		here = here || slices.Contains(links, index)
		elsewhere = elsewhere || slices.ContainsFunc(links, func(l int) bool { return l != 0 && l != index })
	}
	return here, elsewhere
}
