package bpf

import (
	"encoding/binary"
	"math"

	"sfc/dataplane/classify"
)

// none marks a dimension that no rule looks at: TBL_NONE in steer_consts.h.
const none = ^uint32(0)

// layout says where a table of some shape has what: the constants tbl_*. Offsets
// are in bytes into a value of map tables.
type layout struct {
	shape
	size                   uint32 // of a value of map tables
	claim, sport, dport    uint32
	vlan, proto, ingress   uint32
	src4, dst4, src6, dst6 uint32
}

// bytes of a bound of an address dimension.
const bound4, bound6 = 4, 16

// layoutOf lays a shape out.
func layoutOf(s shape) *layout {
	l := &layout{shape: s}
	next := func(used bool, bytes int) uint32 {
		if !used {
			return none
		}
		at := l.size
		l.size += uint32(bytes+7) &^ 7
		return at
	}
	search := func(steps, bound int) uint32 {
		return next(steps >= 0, (1<<max(steps, 0)-1)*bound+(1<<max(steps, 0))*2)
	}
	// One entry per bit of the vectors: the verifier does not know that no
	// vector has a bit without a rule.
	l.claim = next(true, int(s.Words)*64*4)
	l.sport = next(s.SrcPort, 2*(classify.NoPort+1))
	l.dport = next(s.DstPort, 2*(classify.NoPort+1))
	l.vlan = next(s.VLAN, 2*4096)
	l.proto = next(s.Proto, 2*256)
	l.ingress = next(s.Ingress, 2*classify.MaxPorts)
	l.src4, l.dst4 = search(s.Steps[0], bound4), search(s.Steps[1], bound4)
	l.src6, l.dst6 = search(s.Steps[2], bound6), search(s.Steps[3], bound6)
	l.size = max(l.size, 8) // the kernel refuses empty maps
	return l
}

// vectorBytes is the length of a rule vector.
func (l *layout) vectorBytes() int { return 8 * (1 + int(l.Words)) }

// classes is how many vectors each table has.
func (l *layout) classes() int { return max(int(l.Classes), 1) }

// fill lays a table out that fits the shape: the value of map tables, and the
// elements of map vectors for all classes. claim is what a rule of a path gives
// a frame.
func (l *layout) fill(t *classify.Table, claim func(path uint16) uint32) (tables, vectors []byte) {
	tables = make([]byte, l.size)
	for i, path := range t.Path {
		binary.LittleEndian.PutUint32(tables[int(l.claim)+4*i:], claim(path))
	}
	vectors = make([]byte, l.classes()*l.vectorBytes())
	given := len(t.Vectors) / (1 + t.Words)
	for c := range given {
		for w, word := range t.Vectors[c*(1+t.Words):][:1+t.Words] {
			binary.LittleEndian.PutUint64(vectors[c*l.vectorBytes()+8*w:], word)
		}
	}
	any := uint16(given) // the class that every rule agrees with
	if given < l.classes() {
		l.putAny(vectors[given*l.vectorBytes():], t.Rules)
	}
	direct := func(at uint32, table []uint16, n int) {
		if at == none {
			return
		}
		for i := range n {
			class := any
			if table != nil {
				class = table[i]
			}
			binary.LittleEndian.PutUint16(tables[int(at)+2*i:], class)
		}
	}
	direct(l.sport, t.SrcPort, classify.NoPort+1)
	direct(l.dport, t.DstPort, classify.NoPort+1)
	direct(l.vlan, t.VLAN, 4096)
	direct(l.proto, t.Proto, 256)
	direct(l.ingress, t.Ingress, classify.MaxPorts)
	search4 := func(at uint32, steps int, s *classify.Search4) {
		if at == none {
			return
		}
		for i := range 1<<steps - 1 {
			b := uint32(math.MaxUint32)
			if i < len(s.Bounds) {
				b = s.Bounds[i]
			}
			binary.LittleEndian.PutUint32(tables[int(at)+bound4*i:], b)
		}
		direct(at+bound4*(1<<steps-1), stretch(s.Class, steps), 1<<steps)
	}
	search4(l.src4, l.Steps[0], &t.Src4)
	search4(l.dst4, l.Steps[1], &t.Dst4)
	search6 := func(at uint32, steps int, s *classify.Search6) {
		if at == none {
			return
		}
		for i := range 1<<steps - 1 {
			b := classify.Addr6{Hi: math.MaxUint64, Lo: math.MaxUint64}
			if i < len(s.Bounds) {
				b = s.Bounds[i]
			}
			binary.LittleEndian.PutUint64(tables[int(at)+bound6*i:], b.Hi)
			binary.LittleEndian.PutUint64(tables[int(at)+bound6*i+8:], b.Lo)
		}
		direct(at+bound6*(1<<steps-1), stretch(s.Class, steps), 1<<steps)
	}
	search6(l.src6, l.Steps[2], &t.Src6)
	search6(l.dst6, l.Steps[3], &t.Dst6)
	return tables, vectors
}

// stretch repeats the last class of a search up to 2^steps classes, as bounds
// past the highest address lead there. nil stays nil.
func stretch(class []uint16, steps int) []uint16 {
	if class == nil || len(class) == 1<<steps {
		return class
	}
	out := make([]uint16, 1<<steps)
	n := copy(out, class)
	for i := n; i < len(out); i++ {
		out[i] = class[n-1]
	}
	return out
}

// putAny writes the vector of all rules.
func (l *layout) putAny(v []byte, rules int) {
	var summary uint64
	for w := 0; w*64 < rules; w++ {
		word := ^uint64(0)
		if left := rules - w*64; left < 64 {
			word = 1<<left - 1
		}
		summary |= 1 << w
		binary.LittleEndian.PutUint64(v[8*(1+w):], word)
	}
	binary.LittleEndian.PutUint64(v, summary)
}
