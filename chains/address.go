package chains

import "net/netip"

// MaxAddresses is the most entries of spec.addresses.
const MaxAddresses = 64

// Address is addresses that a chain stands for on the link of a port.
type Address struct {
	Port string
	// Prefix is masked.
	Prefix netip.Prefix
}

// PortAddress is an [Address] whose port is an index.
type PortAddress struct {
	Port   int
	Prefix netip.Prefix
}

// addresses reads spec.addresses.
func (d *decoder) addresses(v *value, path string) (list []Address) {
	d.list(v, path, MaxAddresses, func(v *value, path string) {
		var a Address
		var family uint8
		d.object(v, path, []field{
			{"port", required, func(v *value, path string) { a.Port = d.port(v, path) }},
			{"prefix", required, func(v *value, path string) { a.Prefix = d.prefix(v, path, &family) }},
		})
		list = append(list, a)
	})
	return list
}

// addresses resolves what a chain stands for. An address has one chain on a
// link: two would both have to answer for it.
func (c *compilation) addresses(s *Spec) (list []PortAddress) {
	for i, a := range s.Addresses {
		port, ok := c.portIndex[a.Port]
		if !ok {
			c.fail(s, "address %d: %q is no port; %s", i, a.Port, suggest(a.Port, c.portNames))
			continue
		}
		for k := range c.plan.Chains {
			other := &c.plan.Chains[k]
			for _, b := range other.Addresses {
				if b.Port == port && b.Prefix.Overlaps(a.Prefix) {
					c.fail(s, "address %d: %v on port %q overlaps %v of chain %s; give each its own", i, a.Prefix, a.Port, b.Prefix, other.Title())
				}
			}
		}
		list = append(list, PortAddress{port, a.Prefix})
	}
	return list
}
