package chains

import (
	"errors"
	"fmt"
	"slices"

	"sfc/dataplane/classify"
)

// Part is a chain compiled on its own, for a data plane whose chains come and
// go. It knows nothing of the other chains, so what is wrong with one is nobody
// else's concern; whether two of them go together, [Part.Conflict] says.
type Part struct {
	// Chain has index 0: where it stands among others is not its own business.
	Chain Chain
	// Paths are the way forward and, behind it, the way back if the chain has
	// one. Their indices are 0 and 1.
	Paths []Path
	// Priority is the spec's.
	Priority int
	// Unmatched is what the spec says of packets that no chain claims, and
	// Ingress the ports that it says it of: those where the chain takes packets
	// in, a bit each.
	Unmatched Unmatched
	Ingress   uint64
	// Warnings are as in [Plan].
	Warnings []string

	rules []rule
}

// CompilePart resolves one spec for a data plane with the given ports, of
// which some may be [NoPort]. Everything else is as with [Compile].
func CompilePart(s *Spec, ports []string, mods ModuleSet) (*Part, error) {
	c := &compilation{portIndex: map[string]int{}}
	c.ports(ports)
	if len(c.errs) == 0 {
		c.spec(s, mods)
	}
	if len(c.errs) == 0 {
		c.directionsApart(s, c.rules[0])
	}
	if len(c.errs) > 0 {
		return nil, errors.Join(c.errs...)
	}
	return &Part{
		Chain: c.plan.Chains[0], Paths: c.plan.Paths, Priority: s.Priority,
		Unmatched: s.Unmatched, Ingress: ingress(c.rules[0]), Warnings: c.plan.Warnings, rules: c.rules[0],
	}, nil
}

// WithFunctionsOf returns the part with the functions of another one, whose
// paths pass them in the same order: what is steered to a chain changes sooner
// than the versions of its functions.
func (p *Part) WithFunctionsOf(o *Part) *Part {
	q := *p
	q.Chain.Functions = o.Chain.Functions
	return &q
}

// Rules is how many rules of the classifier the chain needs.
func (p *Part) Rules() int { return len(p.rules) }

// Conflict says why two chains cannot both run: they claim the same packets at
// the same priority, or stand for the same address on one link. The error is
// worded for the owner of p; it names what o claims only to o's own tenant. Nil
// when they go together.
func (p *Part) Conflict(o *Part) error {
	other := "another tenant's chain"
	same := p.Chain.Tenant == o.Chain.Tenant
	if same {
		other = "chain " + o.Chain.Name
	}
	if p.Priority == o.Priority && p.Ingress&o.Ingress != 0 {
		if a, b, found := overlap(o.rules, p.rules); found {
			if same {
				other = fmt.Sprintf("%v of %s", a, other)
			}
			return fmt.Errorf("%v claims packets that %s claims too, at the same priority %d; give the chain that shall have them a higher priority", b, other, p.Priority)
		}
	}
	for i, a := range p.Chain.Addresses {
		for _, b := range o.Chain.Addresses {
			if a.Port == b.Port && a.Prefix.Overlaps(b.Prefix) {
				return fmt.Errorf("address %d: %v overlaps addresses of %s; give each its own", i, a.Prefix, other)
			}
		}
	}
	return nil
}

// Placed is a part with the indices that its paths have in a data plane.
type Placed struct {
	*Part
	// Paths are by the index of the part's own.
	Paths [2]uint16
}

// RulesOf returns the classifier's rules of chains that do not conflict, in
// order of precedence. It keeps parts in the order given, but for priority.
func RulesOf(parts []Placed) []classify.Rule {
	sorted := slices.Clone(parts)
	slices.SortStableFunc(sorted, func(a, b Placed) int { return b.Priority - a.Priority })
	total := 0
	for _, p := range sorted {
		total += len(p.rules)
	}
	out := make([]classify.Rule, 0, total)
	for _, p := range sorted {
		for _, r := range p.rules {
			r.Path = p.Paths[r.Path]
			out = append(out, r.Rule)
		}
	}
	return out
}
