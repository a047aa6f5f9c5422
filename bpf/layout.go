package bpf

import (
	"encoding/binary"

	"sfc/dataplane/classify"
)

// none marks a dimension that no rule looks at: TBL_NONE in steer_consts.h.
const none = ^uint32(0)

// layout is a classifier's table the way the program reads it.
type layout struct {
	// tables is the value of map tables, vectors that of map vectors, one
	// element of vectorBytes per class.
	tables, vectors []byte
	vectorBytes     int
	// The offsets of each dimension in tables, the constants tbl_*.
	words                  uint32
	claim, sport, dport    uint32
	vlan, proto            uint32
	src4, dst4, src6, dst6 uint32
	src4Steps, dst4Steps   uint32
	src6Steps, dst6Steps   uint32
	ingress                []uint16 // class of each port; nil: none
}

// newLayout lays a table out; claim is what a rule of a path gives a frame. t may
// be nil: no rules.
func newLayout(t *classify.Table, claim func(path uint16) uint32) *layout {
	if t == nil {
		t = &classify.Table{}
	}
	l := &layout{words: uint32(t.Words), ingress: t.Ingress}
	// One entry per bit of the vectors: the verifier does not know that no
	// vector has a bit without a rule.
	l.claim = uint32(len(l.tables))
	l.tables = append(l.tables, make([]byte, t.Words*64*4)...)
	for i, path := range t.Path {
		binary.LittleEndian.PutUint32(l.tables[4*i:], claim(path))
	}
	l.sport = l.classes(t.SrcPort)
	l.dport = l.classes(t.DstPort)
	l.vlan = l.classes(t.VLAN)
	l.proto = l.classes(t.Proto)
	l.src4, l.src4Steps = l.search4(&t.Src4)
	l.dst4, l.dst4Steps = l.search4(&t.Dst4)
	l.src6, l.src6Steps = l.search6(&t.Src6)
	l.dst6, l.dst6Steps = l.search6(&t.Dst6)
	l.align()
	// The kernel refuses empty maps.
	if len(l.tables) == 0 {
		l.tables = make([]byte, 8)
	}
	l.vectorBytes = 8 * (1 + t.Words)
	for _, w := range t.Vectors {
		l.vectors = binary.LittleEndian.AppendUint64(l.vectors, w)
	}
	if len(l.vectors) == 0 {
		l.vectors = make([]byte, l.vectorBytes)
	}
	return l
}

// align fills tables up to a multiple of 8 bytes.
func (l *layout) align() {
	for len(l.tables)%8 != 0 {
		l.tables = append(l.tables, 0)
	}
}

// classes appends a direct table and returns its offset.
func (l *layout) classes(table []uint16) uint32 {
	if table == nil {
		return none
	}
	l.align()
	at := uint32(len(l.tables))
	for _, c := range table {
		l.tables = binary.LittleEndian.AppendUint16(l.tables, c)
	}
	return at
}

// search4 appends bounds and classes; steps is the logarithm of their number.
func (l *layout) search4(s *classify.Search4) (at, steps uint32) {
	if s.Class == nil {
		return none, 0
	}
	l.align()
	at = uint32(len(l.tables))
	for _, b := range s.Bounds {
		l.tables = binary.LittleEndian.AppendUint32(l.tables, b)
	}
	return at, l.searchClasses(s.Class)
}

// search6 is search4 for IPv6.
func (l *layout) search6(s *classify.Search6) (at, steps uint32) {
	if s.Class == nil {
		return none, 0
	}
	l.align()
	at = uint32(len(l.tables))
	for _, b := range s.Bounds {
		l.tables = binary.LittleEndian.AppendUint64(l.tables, b.Hi)
		l.tables = binary.LittleEndian.AppendUint64(l.tables, b.Lo)
	}
	return at, l.searchClasses(s.Class)
}

// searchClasses appends the classes right behind the bounds.
func (l *layout) searchClasses(class []uint16) (steps uint32) {
	for _, c := range class {
		l.tables = binary.LittleEndian.AppendUint16(l.tables, c)
	}
	for 1<<steps < len(class) {
		steps++
	}
	return steps
}
