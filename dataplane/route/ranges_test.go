package route

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

// longest is what ranges must agree with: a look at every prefix.
func longest(prefixes []prefix, k key) int32 {
	best, value := -1, none
	for _, p := range prefixes {
		if !k.less(p.first) && !p.first.last(p.bits).less(k) && p.bits > best {
			best, value = p.bits, p.value
		}
	}
	return value
}

func TestRangesAgreeWithAScan(t *testing.T) {
	// Few addresses at the edges, so that prefixes nest and touch.
	word := rapid.SampledFrom([]uint64{0, 1, 2, 3, 0x80, mapped, mapped | 1, 1 << 63, 1<<63 | 1, ^uint64(0) - 1, ^uint64(0)})
	rapid.Check(t, func(t *rapid.T) {
		var prefixes []prefix
		for i := range rapid.IntRange(0, 12).Draw(t, "prefixes") {
			bits := rapid.SampledFrom([]int{0, 1, 2, 63, 64, 65, 96, 97, 120, 126, 127, 128}).Draw(t, "bits")
			k := key{word.Draw(t, "hi"), word.Draw(t, "lo")}
			// Clear what is behind the prefix.
			all := key{}.last(bits)
			k.hi, k.lo = k.hi&^all.hi, k.lo&^all.lo
			prefixes = append(prefixes, prefix{k, bits, int32(i % 4)})
		}
		r := newRanges(prefixes)
		probe := func(k key) {
			if got, want := r.lookup(k), longest(prefixes, k); got != want {
				t.Fatalf("%v: %d, want %d of %v", k.addr(), got, want, prefixes)
			}
		}
		for _, p := range prefixes {
			probe(p.first)
			probe(p.first.last(p.bits))
			if n, ok := p.first.last(p.bits).next(); ok {
				probe(n)
			}
		}
		for range 20 {
			probe(key{word.Draw(t, "hi"), word.Draw(t, "lo")})
		}
	})
}

func TestRangesFirstOfTwoCounts(t *testing.T) {
	k := keyOf(netip.MustParseAddr("10.0.0.0"))
	r := newRanges([]prefix{{k, 104, 5}, {k, 104, 6}})
	if got := r.lookup(keyOf(netip.MustParseAddr("10.9.9.9"))); got != 5 {
		t.Errorf("value is %d", got)
	}
	empty := newRanges(nil)
	if got := empty.lookup(k); got != none {
		t.Errorf("without prefixes: %d", got)
	}
}

// The default route of IPv6 holds no IPv4 address, and the other way round.
func TestFamiliesAreApart(t *testing.T) {
	four, six := metricRoute{prefix{key{0, mapped}, 96, 4}, 0}, metricRoute{prefix{key{}, 0, 6}, 0}
	a4, a6 := keyOf(netip.MustParseAddr("10.0.0.1")), keyOf(netip.MustParseAddr("2001:db8::1"))
	for _, tt := range []struct {
		list         []metricRoute
		want4, want6 int32
	}{{nil, none, none}, {[]metricRoute{four}, 4, none}, {[]metricRoute{six}, none, 6}, {[]metricRoute{six, four}, 4, 6}} {
		r := layOut(tt.list)
		if got4, got6 := r.lookup(a4), r.lookup(a6); got4 != tt.want4 || got6 != tt.want6 {
			t.Errorf("%v: %d and %d, want %d and %d", tt.list, got4, got6, tt.want4, tt.want6)
		}
	}
	lesser := metricRoute{prefix{key{0, mapped}, 96, 7}, 50}
	if r := layOut([]metricRoute{{prefix{key{0, mapped}, 96, 8}, 100}, lesser}); r.lookup(a4) != 7 {
		t.Error("the route of the greater metric is taken")
	}
}
