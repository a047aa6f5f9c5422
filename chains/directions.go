package chains

import (
	"fmt"
	"slices"
)

// directions warns of functions that will not see what they need. It is no
// error: both directions of a flow may come in on one port, as they do in a
// capture, and the engine cannot know that they will not.
func (c *compilation) directions(s *Spec, chain *Chain, in uint64, mods ModuleSet) {
	warn := func(format string, args ...any) {
		c.plan.Warnings = append(c.plan.Warnings, fmt.Sprintf("chain %s: "+format, append([]any{chain.Title()}, args...)...))
	}
	for _, f := range s.Functions {
		m := mods[f.Module]
		switch {
		case m == nil || !m.Manifest.BothDirections || m.Manifest.FlowState(f.Config) == 0:
		case s.Return != nil:
			if !slices.Contains(s.Return.Functions, f.Name) {
				warn("function %s needs both directions of a flow, but is not on the way back; add it to return.functions", f.Name)
			}
		case in>>c.portIndex[s.Egress]&1 == 0:
			warn("function %s needs both directions of a flow, but nothing comes in on the egress %q; add return: mirrored", f.Name, s.Egress)
		}
	}
	if s.Return == nil || len(s.Return.Match) > 0 || !chain.Binds {
		return
	}
	for i, m := range s.matches() {
		if m.Src.IsValid() || m.Dst.IsValid() {
			warn("the way back mirrors the addresses of match %d, which functions of the chain may translate; if they do, say in return.match which addresses the answers bear", i)
		}
	}
}
