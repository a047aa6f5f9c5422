package route

import "slices"

// ranges maps every address to the value of the longest prefix that holds it.
// The prefixes, which nest, are laid out flat: a range begins wherever the value
// changes, and a lookup is a binary search for the range that an address is in.
// Immutable.
type ranges struct {
	starts []key // ascending; the first is zero
	values []int32
}

// none is the value where there is no prefix.
const none int32 = -1

// prefix is a prefix and its value; bits count from the top of 128.
type prefix struct {
	first key
	bits  int
	value int32
}

// newRanges lays prefixes out. Of those given twice the first counts.
func newRanges(prefixes []prefix) ranges {
	sorted := slices.Clone(prefixes)
	slices.SortStableFunc(sorted, func(a, b prefix) int {
		if c := a.first.compare(b.first); c != 0 {
			return c
		}
		return a.bits - b.bits
	})
	sorted = slices.CompactFunc(sorted, func(a, b prefix) bool { return a.first == b.first && a.bits == b.bits })

	var r ranges
	r.begin(key{}, none)
	var open []prefix // each within the one before
	leave := func() {
		end := open[len(open)-1].first.last(open[len(open)-1].bits)
		open = open[:len(open)-1]
		outer := none
		if len(open) > 0 {
			outer = open[len(open)-1].value
		}
		if next, ok := end.next(); ok {
			r.begin(next, outer)
		}
	}
	for _, p := range sorted {
		for len(open) > 0 && open[len(open)-1].first.last(open[len(open)-1].bits).less(p.first) {
			leave()
		}
		r.begin(p.first, p.value)
		open = append(open, p)
	}
	for len(open) > 0 {
		leave()
	}
	return r
}

// begin starts a range; starts come in ascending order.
func (r *ranges) begin(start key, value int32) {
	if n := len(r.starts); n > 0 && r.starts[n-1] == start {
		r.values[n-1] = value
	} else {
		r.starts, r.values = append(r.starts, start), append(r.values, value)
	}
	// Two ranges of one value are one.
	if n := len(r.values); n > 1 && r.values[n-1] == r.values[n-2] {
		r.starts, r.values = r.starts[:n-1], r.values[:n-1]
	}
}

// lookup returns the value of the longest prefix that holds k, or none.
func (r *ranges) lookup(k key) int32 {
	at, n := 0, len(r.starts)
	for n > 1 {
		half := n / 2
		if !k.less(r.starts[at+half]) {
			at += half
		}
		n -= half
	}
	return r.values[at]
}
