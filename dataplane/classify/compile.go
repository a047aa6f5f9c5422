package classify

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
)

// Compile builds the table of rules in order of precedence: the first match
// wins. At worst, MaxRules rules that differ in every field, it takes some 80 ms
// (2-core AMD EPYC VM, BenchmarkCompile) and 30 MB; ordinary rules far less.
func Compile(rules []Rule) (*Table, error) {
	if len(rules) > MaxRules {
		return nil, fmt.Errorf("%w: %d, at most %d fit one table", ErrTooManyRules, len(rules), MaxRules)
	}
	for i := range rules {
		if err := rules[i].validate(); err != nil {
			return nil, fmt.Errorf("rule %d: %w", i, err)
		}
	}
	c := compiler{rules: rules, words: (len(rules) + 63) / 64, classes: map[string]uint16{}}
	t := &Table{Rules: len(rules), Words: c.words, Path: make([]uint16, len(rules))}
	for i := range rules {
		t.Path[i] = rules[i].Path
	}
	t.SrcPort = c.ports(func(r *Rule) PortRange { return r.SrcPorts })
	t.DstPort = c.ports(func(r *Rule) PortRange { return r.DstPorts })
	t.VLAN = c.values(1<<12, func(r *Rule) int { return r.VLAN })
	t.Proto = c.values(1<<8, func(r *Rule) int { return r.Proto })
	t.Ingress = c.ingress()
	src := func(r *Rule) netip.Prefix { return r.Src }
	dst := func(r *Rule) netip.Prefix { return r.Dst }
	// The source dimension also says which rules are for this family at all.
	never := func(*Rule) bool { return false }
	t.Src4 = search4(c.addresses(src, 4, func(r *Rule) bool { return !r.allows(4) }))
	t.Dst4 = search4(c.addresses(dst, 4, never))
	t.Src6 = search6(c.addresses(src, 6, func(r *Rule) bool { return !r.allows(6) }))
	t.Dst6 = search6(c.addresses(dst, 6, never))
	t.Vectors = c.vectors
	return t, nil
}

// A class number fits 16 bits: at worst every interval of the six dimensions of
// ranges has its own vector, and every value of the others.
const _ = uint16(6*(2*MaxRules+1) + 4096 + 256 + MaxPorts)

// compiler collects the distinct vectors of all dimensions.
type compiler struct {
	rules   []Rule
	words   int
	vectors []uint64
	classes map[string]uint16 // class of a vector, by its bytes
	key     []byte
}

// intern returns the class of a vector.
func (c *compiler) intern(vector []uint64) uint16 {
	c.key = c.key[:0]
	for _, w := range vector {
		c.key = binary.LittleEndian.AppendUint64(c.key, w)
	}
	if class, ok := c.classes[string(c.key)]; ok {
		return class
	}
	class := uint16(len(c.classes))
	c.classes[string(c.key)] = class
	var summary uint64
	for i, w := range vector {
		if w != 0 {
			summary |= 1 << i
		}
	}
	c.vectors = append(append(c.vectors, summary), vector...)
	return class
}

// values compiles a dimension where a rule names one of n values, or with -1
// all. It returns nil when no rule names one.
func (c *compiler) values(n int, field func(*Rule) int) []uint16 {
	spans, used := make([]span, 0, len(c.rules)), false
	for i := range c.rules {
		s := full(i)
		if v := field(&c.rules[i]); v >= 0 {
			s.lo.Lo, s.hi, used = uint64(v), Addr6{0, uint64(v)}, true
		}
		spans = append(spans, s)
	}
	if !used {
		return nil
	}
	table := make([]uint16, n)
	spread(c.sweep(spans), table)
	return table
}

// ports compiles a dimension of port ranges, see Table.SrcPort.
func (c *compiler) ports(field func(*Rule) PortRange) []uint16 {
	spans, used := make([]span, 0, len(c.rules)), false
	portless := make([]uint64, c.words)
	for i := range c.rules {
		s := full(i)
		if r := field(&c.rules[i]); r.Any() {
			portless[i/64] |= 1 << (i % 64)
		} else {
			s.lo.Lo, s.hi, used = uint64(r.Lo), Addr6{0, uint64(r.Hi)}, true
		}
		spans = append(spans, s)
	}
	if !used {
		return nil
	}
	table := make([]uint16, NoPort+1)
	spread(c.sweep(spans), table)
	table[NoPort] = c.intern(portless)
	return table
}

// ingress compiles the dimension of ingress ports.
func (c *compiler) ingress() []uint16 {
	if !slices.ContainsFunc(c.rules, func(r Rule) bool { return r.Ports != 0 }) {
		return nil
	}
	table := make([]uint16, MaxPorts)
	vector := make([]uint64, c.words)
	for p := range table {
		clear(vector)
		for i := range c.rules {
			if ports := c.rules[i].Ports; ports == 0 || ports>>p&1 != 0 {
				vector[i/64] |= 1 << (i % 64)
			}
		}
		table[p] = c.intern(vector)
	}
	return table
}

// addresses compiles a dimension of addresses of one family without the rules
// to be excluded. It returns nil when it would tell nothing apart.
func (c *compiler) addresses(field func(*Rule) netip.Prefix, family uint8, exclude func(*Rule) bool) []interval {
	spans, used := make([]span, 0, len(c.rules)), false
	for i := range c.rules {
		r := &c.rules[i]
		if exclude(r) {
			used = true
			continue
		}
		s := full(i)
		if p := field(r); p.IsValid() && prefixFamily(p) == family {
			s.lo, s.hi = bounds(p)
			used = true
		}
		spans = append(spans, s)
	}
	if !used {
		return nil
	}
	return c.sweep(spans)
}
