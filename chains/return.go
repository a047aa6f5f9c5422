package chains

import (
	"fmt"
	"slices"
)

// The words of spec.return.
const (
	returnNone     = "none"
	returnMirrored = "mirrored"
)

// way reads spec.return: a word, or an object for a way back that differs from
// the mirrored one. The chain's functions have been read.
func (d *decoder) way(v *value, path string, s *Spec) *Return {
	if v.kind != kindObject {
		words := []string{returnNone, returnMirrored}
		if v.kind != kindString {
			d.report(v, path, "is "+kindNames[v.kind], "write none, mirrored or an object with functions, match and egress")
			return nil
		}
		if words[d.oneOf(v, path, words)] == returnMirrored {
			return s.Mirror()
		}
		return nil
	}
	r := s.Mirror()
	d.object(v, path, []field{
		{"functions", optional, func(v *value, path string) { r.Functions = d.passed(v, path, s) }},
		{"match", optional, func(v *value, path string) {
			d.list(v, path, MaxMatches, func(v *value, path string) { r.Match = append(r.Match, d.match(v, path)) })
		}},
		{"egress", optional, func(v *value, path string) { r.Egress = d.port(v, path) }},
	})
	return r
}

// passed reads the names of functions of the chain.
func (d *decoder) passed(v *value, path string, s *Spec) (names []string) {
	known := s.functionNames()
	d.list(v, path, MaxFunctions, func(v *value, path string) {
		name, ok := d.text(v, path)
		switch {
		case !ok:
			return
		case !slices.Contains(known, name):
			d.report(v, path, fmt.Sprintf("%s is not a function of the chain", quote(name)), suggest(name, known))
		case slices.Contains(names, name):
			d.report(v, path, fmt.Sprintf("function %q is passed twice", name), "name it once")
		}
		names = append(names, name)
	})
	return names
}

func (s *Spec) functionNames() []string {
	names := make([]string, len(s.Functions))
	for i, f := range s.Functions {
		names[i] = f.Name
	}
	return names
}

// returnPath makes the path back of a chain and its rules; path is the way
// forward with its rules.
func (c *compilation) returnPath(s *Spec, forward Path, rules []rule) (Path, []rule) {
	back := Path{Index: forward.Index + 1, Chain: forward.Chain, Return: true}
	for _, name := range s.Return.Functions {
		back.Order = append(back.Order, slices.Index(s.functionNames(), name))
	}
	egress, ok := c.returnEgress(s, rules)
	if !ok {
		return back, nil
	}
	back.Egress = egress
	matches := s.Return.Match
	if len(matches) == 0 {
		for _, m := range s.matches() {
			matches = append(matches, m.Mirrored(s.Egress))
		}
	}
	var own []rule
	for i, m := range matches {
		in := forward.Egress
		if m.Port != "" {
			if in, ok = c.portIndex[m.Port]; !ok {
				c.fail(s, "return match %d: %q is no port; %s", i, m.Port, suggest(m.Port, c.portNames))
				continue
			}
		}
		own = append(own, rule{m.rule(back.Index, 1<<in), matchName{i, true}})
	}
	return back, own
}

// returnEgress returns the port that packets of the way back leave on: the one
// where the chain takes packets in.
func (c *compilation) returnEgress(s *Spec, rules []rule) (port int, ok bool) {
	if name := s.Return.Egress; name != "" {
		if port, ok = c.portIndex[name]; !ok {
			c.fail(s, "return egress %q is no port; %s", name, suggest(name, c.portNames))
		}
		return port, ok
	}
	var in []string
	for i := range c.plan.Ports {
		if ingress(rules)>>i&1 != 0 {
			port, in = i, append(in, c.plan.Ports[i].Name)
		}
	}
	if len(in) > 1 {
		c.fail(s, "return: the chain takes packets in from %q, so the way out is not clear; name it as spec.return.egress", in)
	}
	return port, len(in) == 1
}
