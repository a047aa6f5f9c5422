package agent

import (
	"net/netip"
	"slices"

	"sfc/ctrl/plane"
)

// reasonAddress is the reason of a chain that stands for addresses which nobody
// answers for.
const reasonAddress = "AddressRefused"

// answered is what the kernel answers for on a port, as it was told last.
type answered struct {
	prefixes []netip.Prefix // sorted
	done     bool           // there was no error
}

// answer has the kernel answer for the addresses of the chains that run, on the
// ports that are routed and open. On others the hosts of the link answer, or
// nobody. The caller holds changing.
func (d *Dataplane) answer() {
	refused := map[string]string{}
	for i, p := range d.ports {
		if p == nil || p.link == nil || !p.want.Routed {
			continue
		}
		want, titles := d.addressesOn(i)
		if p.answered.done && slices.Equal(p.answered.prefixes, want) && !d.missing(i, want) {
			for k, why := range p.refused {
				refused[titles[k]] = why
			}
			continue
		}
		p.refused = map[int]string{}
		list, err := d.opts.Kernel.Answer(i, want)
		p.answered = answered{want, err == nil}
		for k := range want {
			switch {
			case k < len(list) && list[k] != nil:
				p.refused[k] = list[k].Error()
			case err != nil:
				p.refused[k] = err.Error()
			default:
				continue
			}
			refused[titles[k]] = p.refused[k]
		}
		if err != nil && len(want) == 0 {
			d.events.ofPlane(reasonAddress, levelWarning, "port "+p.want.Name+": "+err.Error())
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.chains {
		if why := refused[c.title]; why != c.unanswered {
			if c.unanswered = why; why != "" {
				d.events.ofChain(&c.want, "plane", reasonAddress, levelWarning, why)
			}
		}
	}
}

// addressesOn returns the addresses that chains stand for on a port, sorted, and
// whose each is. No two chains have the same.
func (d *Dataplane) addressesOn(port int) (list []netip.Prefix, titles []string) {
	owners := map[netip.Prefix]string{}
	for _, c := range d.chains {
		if c.run == nil {
			continue
		}
		for _, a := range c.run.part.Chain.Addresses {
			if a.Port == port {
				owners[a.Prefix] = c.title
				list = append(list, a.Prefix)
			}
		}
	}
	slices.SortFunc(list, netip.Prefix.Compare)
	list = slices.Compact(list)
	for _, p := range list {
		titles = append(titles, owners[p])
	}
	return list, titles
}

// missing says whether the kernel forgot some of what it was told, as it does
// when a link goes down. What it refused it never had.
func (d *Dataplane) missing(port int, list []netip.Prefix) bool {
	for k, prefix := range list {
		if d.ports[port].refused[k] == "" && d.routes.Missing(port, prefix) {
			return true
		}
	}
	return false
}

// follow gives workers the routes of a port that is opened.
func (d *Dataplane) follow(i int, want *plane.Port, ifindex int) error {
	if !want.Routed {
		return nil
	}
	return d.routes.SetPort(i, ifindex)
}

// unfollow forgets the routes of a port that nobody uses any more.
func (d *Dataplane) unfollow(i int, was *plane.Port) error {
	if !was.Routed {
		return nil
	}
	return d.routes.SetPort(i, 0)
}
