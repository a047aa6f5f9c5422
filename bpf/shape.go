package bpf

import (
	"fmt"
	"math/bits"

	"sfc/dataplane/classify"
)

// shape is how much room programs have for a table: which dimensions they look
// at, and how large each may be. It is folded into the programs when they are
// loaded, which takes tens of milliseconds; a table that fits into the shape of
// the one before takes its place without that. It is plain data, since who
// adopts the programs must know it.
type shape struct {
	// Words are those of a rule vector, Classes how many vectors there are.
	Words, Classes uint32
	// Steps is the logarithm of the classes of each address dimension, -1 for
	// one that is not looked at: src4, dst4, src6, dst6.
	Steps [4]int
	// The other dimensions that are looked at.
	SrcPort, DstPort, VLAN, Proto, Ingress bool
}

// shapeOf returns the least shape that a table fits into.
func shapeOf(t *classify.Table) (s shape) {
	s.Words = uint32(t.Words)
	s.Classes = uint32(len(t.Vectors) / (1 + t.Words))
	for i, n := range [4]int{len(t.Src4.Class), len(t.Dst4.Class), len(t.Src6.Class), len(t.Dst6.Class)} {
		s.Steps[i] = bits.Len(uint(n)) - 1
	}
	s.SrcPort, s.DstPort, s.VLAN = t.SrcPort != nil, t.DstPort != nil, t.VLAN != nil
	s.Proto, s.Ingress = t.Proto != nil, t.Ingress != nil
	return s
}

// dimensions returns how many dimensions are looked at.
func (s *shape) dimensions() (n int) {
	for _, steps := range s.Steps {
		if steps >= 0 {
			n++
		}
	}
	for _, used := range []bool{s.SrcPort, s.DstPort, s.VLAN, s.Proto, s.Ingress} {
		if used {
			n++
		}
	}
	return n
}

// union returns a shape that has room for what either has room for. One class
// more is for dimensions that a table does not look at.
func (s shape) union(o shape) shape {
	s.Words, s.Classes = max(s.Words, o.Words), max(s.Classes, o.Classes)
	for i := range s.Steps {
		s.Steps[i] = max(s.Steps[i], o.Steps[i])
	}
	s.SrcPort, s.DstPort, s.VLAN = s.SrcPort || o.SrcPort, s.DstPort || o.DstPort, s.VLAN || o.VLAN
	s.Proto, s.Ingress = s.Proto || o.Proto, s.Ingress || o.Ingress
	return s
}

// fits says whether a table of shape o, with so many rules, can be laid out in
// shape s.
func (s shape) fits(o shape, rules int) bool {
	if s.Words == 0 {
		return rules == 0
	}
	if s.dimensions() == 0 {
		return rules > 0 && o.dimensions() == 0 && o.Words <= s.Words
	}
	o.Classes++
	return s.union(o) == s
}

// spacious returns a shape with room for about twice of what s holds, so that
// tables can grow for a while.
func (s shape) spacious() shape {
	s.Words = min(uint32(1)<<bits.Len32(s.Words), classify.MaxRules/64)
	s.Classes = 1 << bits.Len32(s.Classes+1)
	for i, steps := range s.Steps {
		if steps >= 0 {
			s.Steps[i] = min(max(steps+1, minSteps), maxSteps)
		}
	}
	s.Proto = true // so that there is a dimension
	return s
}

const (
	// minSteps and maxSteps are those of an address dimension in a spacious
	// shape: MAX_STEPS in steer_consts.h.
	minSteps, maxSteps = 6, 14
	// startClasses is how many classes the first shape of dynamic steering has
	// room for.
	startClasses = 256
)

// startShape is what dynamic steering begins with: a few chains fit, of any kind
// but for source ports and VLANs.
var startShape = shape{
	Words: 2, Classes: startClasses, Steps: [4]int{minSteps, minSteps, minSteps, minSteps},
	DstPort: true, Proto: true, Ingress: true,
}

// validate returns what is wrong with a shape, which may come from another
// process.
func (s *shape) validate() error {
	ok := s.Words <= classify.MaxRules/64 && s.Classes <= 1<<16
	for _, steps := range s.Steps {
		ok = ok && steps >= -1 && steps <= maxSteps
	}
	if !ok {
		return fmt.Errorf("%w: shape %+v", ErrDescription, *s)
	}
	return nil
}

// checkTable returns what is wrong with a table, which may come from another
// process; package classify makes none of these.
func checkTable(t *classify.Table) error {
	bad := func(what string, n int) error {
		return fmt.Errorf("%w: table of %d rules: %s of %d entries", ErrConfig, t.Rules, what, n)
	}
	if t.Rules < 0 || t.Rules > classify.MaxRules || t.Words != (t.Rules+63)/64 || len(t.Path) != t.Rules {
		return bad("paths", len(t.Path))
	}
	if n := len(t.Vectors); n%(1+t.Words) != 0 || n/(1+t.Words) > 1<<16 {
		return bad("vectors", n)
	}
	for _, d := range []struct {
		name  string
		table []uint16
		want  int
	}{
		{"source ports", t.SrcPort, classify.NoPort + 1}, {"destination ports", t.DstPort, classify.NoPort + 1},
		{"VLANs", t.VLAN, 4096}, {"protocols", t.Proto, 256}, {"ingress ports", t.Ingress, classify.MaxPorts},
	} {
		if d.table != nil && len(d.table) != d.want {
			return bad(d.name, len(d.table))
		}
	}
	for _, n := range [4][2]int{
		{len(t.Src4.Class), len(t.Src4.Bounds)}, {len(t.Dst4.Class), len(t.Dst4.Bounds)},
		{len(t.Src6.Class), len(t.Src6.Bounds)}, {len(t.Dst6.Class), len(t.Dst6.Bounds)},
	} {
		if n[0] != 0 && (n[0]&(n[0]-1) != 0 || n[1] != n[0]-1 || n[0] > 1<<maxSteps) {
			return bad("addresses", n[0])
		}
	}
	return nil
}
