package chains

import (
	"errors"
	"fmt"
	"slices"

	"sfc/dataplane/classify"
	"sfc/nf"
)

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
	rules     [][]classify.Rule // of each path, in the spec's order
	errs      []error
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
		if _, twice := c.portIndex[name]; twice {
			c.errs = append(c.errs, fmt.Errorf("port %q is given twice; rename one", name))
		}
		c.portIndex[name] = i
		c.plan.Ports = append(c.plan.Ports, Port{Name: name, Unmatched: UnmatchedPass, Forward: -1})
	}
	c.portNames = names
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
		if c.module(s, f, mods) > 0 {
			chain.Flows = s.Flows
		}
	}
	egress, ok := c.portIndex[s.Egress]
	if !ok {
		c.fail(s, "egress %q is no port; %s", s.Egress, suggest(s.Egress, c.portNames))
		return
	}
	path.Egress = egress
	rules := c.match(s, egress, path.Index)
	chain.Ports = 1 << egress
	for _, r := range rules {
		chain.Ports |= r.Ports
	}
	c.plan.Chains = append(c.plan.Chains, chain)
	c.plan.Paths = append(c.plan.Paths, path)
	c.rules = append(c.rules, rules)
}

// module checks a function's module and configuration and returns the bytes of
// state it keeps per flow.
func (c *compilation) module(s *Spec, f FunctionSpec, mods ModuleSet) (state int) {
	if mods == nil {
		return 0
	}
	m := mods[f.Module]
	if m == nil {
		c.fail(s, "function %s: module %s is not there; build or upload it", f.Name, f.Module)
		return 0
	}
	state = m.Manifest.FlowState(f.Config)
	if most := (nf.DataStart - nf.SlotsStart) / max(state, 1); s.Flows > most {
		c.fail(s, "function %s keeps %d bytes per flow, so %d flows do not fit its window; set spec.flows to at most %d", f.Name, state, s.Flows, most)
	}
	for _, err := range nf.Refusals(m.Manifest.CheckConfig(f.Config)) {
		c.fail(s, "function %s: %w", f.Name, err)
	}
	return state
}

// match makes the rules of a chain. A match that names no port means every
// port but the egress: a chain does not take in again what it sent out, nor
// sends packets back where they came from, unless its spec says so.
func (c *compilation) match(s *Spec, egress int, path uint16) (rules []classify.Rule) {
	matches := s.Match
	if len(matches) == 0 {
		matches = []Match{MatchAll()}
	}
	for i, m := range matches {
		mask := (uint64(1)<<len(c.portNames) - 1) &^ (1 << egress)
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
		rules = append(rules, classify.Rule{
			Path: path, Ports: mask, VLAN: m.VLAN, Family: m.Family, Src: m.Src, Dst: m.Dst,
			Proto: m.Protocol, SrcPorts: m.SrcPorts, DstPorts: m.DstPorts,
		})
	}
	return rules
}

// maxConflicts bounds how many overlaps are reported.
const maxConflicts = 20

// order puts all rules in order of precedence: priority, then the order of the
// specs and of the matches in them. Where that order would decide between two
// chains of equal priority, the specs are refused: nobody asked for it.
func (c *compilation) order(specs []Spec) {
	byPriority := make([]int, len(specs))
	total := 0
	for i := range specs {
		byPriority[i] = i
		total += len(c.rules[i])
	}
	if total > classify.MaxRules {
		c.errs = append(c.errs, fmt.Errorf("chains have %d match rules together; use at most %d", total, classify.MaxRules))
		return
	}
	slices.SortStableFunc(byPriority, func(a, b int) int { return specs[b].Priority - specs[a].Priority })
	conflicts := 0
	for k, i := range byPriority {
		for _, j := range byPriority[:k] {
			if specs[i].Priority != specs[j].Priority || conflicts == maxConflicts {
				continue
			}
			if a, b, found := overlap(c.rules[j], c.rules[i]); found {
				conflicts++
				c.fail(&specs[i], "match %d claims packets that match %d of chain %s claims too, at the same priority %d; give the chain that shall have them a higher priority",
					b, a, title(&specs[j]), specs[i].Priority)
			}
		}
		c.plan.Rules = append(c.plan.Rules, c.rules[i]...)
	}
}

// overlap returns the first pair of rules that one packet can match.
func overlap(as, bs []classify.Rule) (a, b int, found bool) {
	for a := range as {
		for b := range bs {
			if classify.Overlap(as[a], bs[b]) {
				return a, b, true
			}
		}
	}
	return 0, 0, false
}
