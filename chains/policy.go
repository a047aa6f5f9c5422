package chains

import "fmt"

// policies decides what becomes of packets that no rule claims, per port. The
// chains that take packets in there have their say; those that say nothing
// agree with the others, and with nobody's word it is pass.
//
// A port that forwards does so to the egress of the chains that asked for it.
// That port forwards back unless it was told otherwise: what is forwarded is
// ARP and the like, which needs its answers.
func (c *compilation) policies(specs []Spec) {
	said := make([]*Spec, len(c.plan.Ports)) // the chain that decided
	for i := range specs {
		s := &specs[i]
		if s.Unmatched == UnmatchedUnset {
			continue
		}
		for _, r := range c.rules[i] {
			for p := range c.plan.Ports {
				if r.Ports>>p&1 != 0 {
					c.policy(p, s, c.plan.Paths[r.Path].Egress, &said[p])
				}
			}
		}
	}
	for p, from := range c.reverse() {
		if said[p] == nil && from >= 0 {
			c.plan.Ports[p].Unmatched, c.plan.Ports[p].Forward = UnmatchedForward, from
		}
	}
}

// policy applies what s says about port p. The chain that said first is in
// *said.
func (c *compilation) policy(p int, s *Spec, egress int, said **Spec) {
	port := &c.plan.Ports[p]
	forward := -1
	if s.Unmatched == UnmatchedForward {
		forward = egress
	}
	switch {
	case forward == p:
		c.fail(s, "unmatched: forward would send packets of port %q back where they came from; use pass or drop", port.Name)
	case *said == nil:
		*said, port.Unmatched, port.Forward = s, s.Unmatched, forward
	case port.Unmatched != s.Unmatched || port.Forward != forward:
		c.fail(s, "unmatched: %s contradicts %s of chain %s on port %q; make them agree, or leave the field out in one",
			c.policyText(s.Unmatched, forward), c.policyText(port.Unmatched, port.Forward), title(*said), port.Name)
	}
}

func (c *compilation) policyText(u Unmatched, forward int) string {
	if u == UnmatchedForward {
		return fmt.Sprintf("forward to %q", c.plan.Ports[forward].Name)
	}
	return u.String()
}

// reverse returns for each port the one port that forwards to it; -1 when
// there is none or more than one.
func (c *compilation) reverse() []int {
	from := make([]int, len(c.plan.Ports))
	count := make([]int, len(from))
	for p, port := range c.plan.Ports {
		if port.Forward >= 0 {
			from[port.Forward] = p
			count[port.Forward]++
		}
	}
	for p := range from {
		if count[p] != 1 {
			from[p] = -1
		}
	}
	return from
}

// memoryModes decides for each port whether one tenant alone uses it. A port
// that nobody uses is exclusive.
func memoryModes(chains []Chain, ports int) []MemoryMode {
	modes := make([]MemoryMode, ports)
	for port := range modes {
		tenant := ""
		for i := range chains {
			c := &chains[i]
			if c.Ports>>port&1 == 0 {
				continue
			}
			if tenant != "" && tenant != c.Tenant {
				modes[port] = MemoryShared
			}
			tenant = c.Tenant
		}
	}
	return modes
}
