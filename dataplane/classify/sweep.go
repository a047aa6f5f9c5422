package classify

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
)

// span is the interval of values that a rule matches, both ends included.
type span struct {
	rule   int
	lo, hi Addr6
}

// full is the interval of every value of any dimension.
func full(rule int) span {
	return span{rule, Addr6{}, Addr6{math.MaxUint64, math.MaxUint64}}
}

// interval is a run of values that all match the same rules.
type interval struct {
	start Addr6
	class uint16
}

// sweep cuts the values into intervals, in ascending order from 0. No two spans
// may be of one rule.
func (c *compiler) sweep(spans []span) []interval {
	type event struct {
		at   Addr6
		rule int
	}
	events := make([]event, 0, 2*len(spans)) // each toggles its rule
	for _, s := range spans {
		events = append(events, event{s.lo, s.rule})
		if end := s.hi.next(); end != (Addr6{}) {
			events = append(events, event{end, s.rule})
		}
	}
	slices.SortFunc(events, func(a, b event) int {
		return cmp.Or(cmp.Compare(a.at.Hi, b.at.Hi), cmp.Compare(a.at.Lo, b.at.Lo))
	})
	vector := make([]uint64, c.words)
	var out []interval
	for start, i := (Addr6{}), 0; ; start = events[i].at {
		for ; i < len(events) && events[i].at == start; i++ {
			vector[events[i].rule/64] ^= 1 << (events[i].rule % 64)
		}
		class := c.intern(vector)
		if n := len(out); n == 0 || out[n-1].class != class {
			out = append(out, interval{start, class})
		}
		if i == len(events) {
			return out
		}
	}
}

// next returns the address after a, 0 after the last.
func (a Addr6) next() Addr6 {
	lo, carry := bits.Add64(a.Lo, 1, 0)
	return Addr6{a.Hi + carry, lo}
}

// spread writes the intervals out as one class per value.
func spread(intervals []interval, table []uint16) {
	for i, iv := range intervals {
		end := len(table)
		if i+1 < len(intervals) {
			end = int(intervals[i+1].start.Lo)
		}
		for v := int(iv.start.Lo); v < end; v++ {
			table[v] = iv.class
		}
	}
}
