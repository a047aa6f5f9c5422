package classify

import (
	"encoding/binary"
	"math"
	"math/bits"
	"net/netip"
)

// Search4 maps an IPv4 address (host byte order) to a class.
type Search4 struct {
	// Bounds are the first addresses of all intervals but the first, which
	// starts at 0: ascending, filled up with the highest address to 2^k-1
	// entries so that a search takes k steps without a bounds check.
	Bounds []uint32
	// Class has the 2^k classes of the intervals.
	Class []uint16
}

// Addr6 is an IPv6 address as two halves in host byte order.
type Addr6 struct{ Hi, Lo uint64 }

// Less reports whether a is the lower address.
func (a Addr6) Less(b Addr6) bool { return a.Hi < b.Hi || a.Hi == b.Hi && a.Lo < b.Lo }

// Search6 is [Search4] for IPv6.
type Search6 struct {
	Bounds []Addr6
	Class  []uint16
}

// class returns the class of an address.
func (s *Search4) class(a uint32) uint16 {
	pos := 0
	for step := len(s.Class) / 2; step > 0; step /= 2 {
		if s.Bounds[pos+step-1] <= a {
			pos += step
		}
	}
	return s.Class[pos]
}

// class returns the class of an address.
func (s *Search6) class(a Addr6) uint16 {
	pos := 0
	for step := len(s.Class) / 2; step > 0; step /= 2 {
		if !a.Less(s.Bounds[pos+step-1]) {
			pos += step
		}
	}
	return s.Class[pos]
}

// bounds returns the first and the last address of a prefix; IPv4 lies in the
// low 32 bits.
func bounds(p netip.Prefix) (lo, hi Addr6) {
	p = p.Masked()
	if p.Addr().Is4() {
		b := p.Addr().As4()
		first := binary.BigEndian.Uint32(b[:])
		last := uint64(first) | (1<<(32-p.Bits()) - 1)
		return Addr6{0, uint64(first)}, Addr6{0, last}
	}
	b := p.Addr().As16()
	lo = addr6(&b)
	hi = lo
	if n := p.Bits(); n < 64 {
		hi.Hi |= math.MaxUint64 >> n
		hi.Lo = math.MaxUint64
	} else if n < 128 {
		hi.Lo |= math.MaxUint64 >> (n - 64)
	}
	return lo, hi
}

// addr4 returns an IPv4 address in host byte order.
func addr4(b *[16]byte) uint32 { return binary.BigEndian.Uint32(b[:4]) }

// addr6 returns an IPv6 address in host byte order.
func addr6(b *[16]byte) Addr6 {
	return Addr6{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// searchSize returns the least power of two that holds n intervals.
func searchSize(n int) int { return 1 << bits.Len(uint(n-1)) }

// search4 lays intervals out for a search. IPv4 intervals that start behind the
// last address are left out.
func search4(in []interval) (s Search4) {
	if len(in) == 0 {
		return s
	}
	for len(in) > 1 && in[len(in)-1].start.Lo > math.MaxUint32 {
		in = in[:len(in)-1]
	}
	s.Class = make([]uint16, searchSize(len(in)))
	s.Bounds = make([]uint32, len(s.Class)-1)
	for i := range s.Class {
		iv := in[min(i, len(in)-1)]
		s.Class[i] = iv.class
		if i == 0 {
			continue
		}
		s.Bounds[i-1] = math.MaxUint32
		if i < len(in) {
			s.Bounds[i-1] = uint32(iv.start.Lo)
		}
	}
	return s
}

// search6 is search4 for IPv6.
func search6(in []interval) (s Search6) {
	if len(in) == 0 {
		return s
	}
	s.Class = make([]uint16, searchSize(len(in)))
	s.Bounds = make([]Addr6, len(s.Class)-1)
	for i := range s.Class {
		iv := in[min(i, len(in)-1)]
		s.Class[i] = iv.class
		if i == 0 {
			continue
		}
		s.Bounds[i-1] = Addr6{math.MaxUint64, math.MaxUint64}
		if i < len(in) {
			s.Bounds[i-1] = iv.start
		}
	}
	return s
}
