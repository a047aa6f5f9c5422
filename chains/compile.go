package chains

import (
	"errors"
	"fmt"
	"slices"

	"sfc/dataplane/classify"
	"sfc/nf"
)

// NoPort stands for an index that no port has, in a list of ports where some
// come and go.
const NoPort = ""

// Compile resolves specs to a plan for a data plane with the given ports. It
// is pure: equal arguments give equal plans, and paths keep the order of the
// specs.
//
// With mods, every function's module must be in it and accept the function's
// configuration; nil leaves both unchecked. The error joins everything found.
func Compile(specs []Spec, ports []string, mods ModuleSet) (*Plan, error) {
	c := &compilation{portIndex: map[string]int{}}
	c.ports(ports)
	titles := map[string]bool{}
	for i := range specs {
		s := &specs[i]
		if t := title(s); titles[t] {
			c.fail(s, "is given twice; rename one")
		} else {
			titles[t] = true
		}
		c.spec(s, mods)
	}
	if len(c.errs) == 0 {
		c.order(specs)
		c.policies(specs)
	}
	if len(c.errs) > 0 {
		return nil, errors.Join(c.errs...)
	}
	for i, m := range memoryModes(c.plan.Chains, len(ports)) {
		c.plan.Ports[i].Memory = m
	}
	return &c.plan, nil
}

// compilation is the state of one call of Compile.
type compilation struct {
	plan      Plan
	portNames []string
	portIndex map[string]int
	allPorts  uint64   // a bit for each that there is
	rules     [][]rule // of each chain: its matches, then those of the return
	errs      []error
}

// rule is a rule of the classifier and the match it comes from.
type rule struct {
	classify.Rule
	from matchName
}

// matchName tells a match of a chain as users do.
type matchName struct {
	index int
	back  bool
}

func (m matchName) String() string {
	if m.back {
		return fmt.Sprintf("return match %d", m.index)
	}
	return fmt.Sprintf("match %d", m.index)
}

// ingress returns the ports that rules take packets in from, a bit each.
func ingress(rules []rule) (ports uint64) {
	for _, r := range rules {
		ports |= r.Ports
	}
	return ports
}

func title(s *Spec) string { return s.Tenant + "/" + s.Name }

func (c *compilation) fail(s *Spec, format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf("chain %s: "+format, append([]any{title(s)}, args...)...))
}

func (c *compilation) ports(names []string) {
	if len(names) == 0 || len(names) > classify.MaxPorts {
		c.errs = append(c.errs, fmt.Errorf("%d ports: want 1 to %d", len(names), classify.MaxPorts))
		return
	}
	for i, name := range names {
		if name != NoPort {
			if _, twice := c.portIndex[name]; twice {
				c.errs = append(c.errs, fmt.Errorf("port %q is given twice; rename one", name))
			}
			c.portIndex[name] = i
			c.allPorts |= 1 << i
			c.portNames = append(c.portNames, name)
		}
		c.plan.Ports = append(c.plan.Ports, Port{Name: name, Unmatched: UnmatchedPass, Forward: -1})
	}
}

// spec makes the path and the rules of one spec.
func (c *compilation) spec(s *Spec, mods ModuleSet) {
	if err := s.Validate(); err != nil {
		c.errs = append(c.errs, err)
		return
	}
	chain := Chain{Index: uint16(len(c.plan.Chains)), Name: s.Name, Tenant: s.Tenant, Budget: s.Budget}
	path := Path{Index: uint16(len(c.plan.Paths)), Chain: chain.Index}
	for i, f := range s.Functions {
		chain.Functions = append(chain.Functions, Hop{Name: f.Name, Module: f.Module, Config: f.Config, Fault: f.Fault})
		path.Order = append(path.Order, i)
		c.module(s, f, mods, &chain)
	}
	egress, ok := c.portIndex[s.Egress]
	if !ok {
		c.fail(s, "egress %q is no port; %s", s.Egress, suggest(s.Egress, c.portNames))
		return
	}
	path.Egress = egress
	rules := c.match(s, egress, path.Index)
	chain.Ports = 1<<egress | ingress(rules)
	c.plan.Paths = append(c.plan.Paths, path)
	if s.Return != nil {
		back, own := c.returnPath(s, path, rules)
		rules = append(rules, own...)
		chain.Ports |= 1<<back.Egress | ingress(own)
		c.plan.Paths = append(c.plan.Paths, back)
	}
	chain.Addresses = c.addresses(s)
	c.plan.Chains = append(c.plan.Chains, chain)
	c.rules = append(c.rules, rules)
	c.directions(s, &chain, ingress(rules), mods)
}

// module checks a function's module and configuration, and notes in chain what
// the module wants of it.
func (c *compilation) module(s *Spec, f FunctionSpec, mods ModuleSet, chain *Chain) {
	if mods == nil {
		return
	}
	m := mods[f.Module]
	if m == nil {
		c.fail(s, "function %s: module %s is not there; build or upload it", f.Name, f.Module)
		return
	}
	if slices.Contains(m.Manifest.Capabilities, nf.CapabilityBind) {
		chain.Binds = true
	}
	state := m.Manifest.FlowState(f.Config)
	if state > 0 {
		chain.Flows = s.Flows
	}
	if most := (nf.DataStart - nf.SlotsStart) / max(state, 1); s.Flows > most {
		c.fail(s, "function %s keeps %d bytes per flow, so %d flows do not fit its window; set spec.flows to at most %d", f.Name, state, s.Flows, most)
	}
	for _, err := range nf.Refusals(m.Manifest.CheckConfig(f.Config)) {
		c.fail(s, "function %s: %w", f.Name, err)
	}
}

// matches returns the spec's matches, or the one that an empty list stands for.
func (s *Spec) matches() []Match {
	if len(s.Match) == 0 {
		return []Match{MatchAll()}
	}
	return s.Match
}

// rule makes the classifier's rule for a match on the given ports.
func (m *Match) rule(path uint16, ports uint64) classify.Rule {
	return classify.Rule{
		Path: path, Ports: ports, VLAN: m.VLAN, Family: m.Family, Src: m.Src, Dst: m.Dst,
		Proto: m.Protocol, SrcPorts: m.SrcPorts, DstPorts: m.DstPorts,
	}
}

// match makes the rules of a chain. A match that names no port means every
// port but the egress: a chain does not take in again what it sent out, nor
// sends packets back where they came from, unless its spec says so.
func (c *compilation) match(s *Spec, egress int, path uint16) (rules []rule) {
	for i, m := range s.matches() {
		mask := c.allPorts &^ (1 << egress)
		if m.Port != "" {
			p, ok := c.portIndex[m.Port]
			if !ok {
				c.fail(s, "match %d: %q is no port; %s", i, m.Port, suggest(m.Port, c.portNames))
				continue
			}
			mask = 1 << p
		}
		if mask == 0 {
			c.fail(s, "match %d: the egress %q is the only port; name it as the match's port to send packets back where they came from", i, s.Egress)
			continue
		}
		rules = append(rules, rule{m.rule(path, mask), matchName{i, false}})
	}
	return rules
}
