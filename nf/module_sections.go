package nf

// readTypes reads the type section: function types only.
func (m *Module) readTypes(s *reader) {
	n := s.count("types", 3, maxTypes)
	for i := 0; i < n && s.err == nil; i++ {
		if form := s.byte(); s.err == nil && form != 0x60 {
			s.fail("type form %#x is of a proposal the engine does not run", form)
		}
		m.Types = append(m.Types, FuncType{readValTypes(s), readValTypes(s)})
	}
}

func readValTypes(s *reader) []ValType {
	n := s.count("values", 1, 1_000)
	if n == 0 {
		return nil
	}
	vs := make([]ValType, n)
	for i, b := range s.bytes(n) {
		vs[i] = ValType(b)
		if valTypeNames[vs[i]] == "" {
			s.fail("value type %#x is of a proposal the engine does not run", b)
		}
	}
	return vs
}

func (m *Module) readImports(s *reader) {
	n := s.count("imports", 4, maxImports)
	for i := 0; i < n && s.err == nil; i++ {
		im := Import{Module: s.name(), Name: s.name(), Kind: Kind(s.byte())}
		switch im.Kind {
		case KindFunc:
			im.Func = m.addFunc(s)
		case KindTable:
			readTableType(s)
		case KindMemory:
			readMemory(s)
		case KindGlobal:
			readGlobalType(s)
		default:
			s.fail("import %q.%q is of kind %d, of a proposal the engine does not run", im.Module, im.Name, im.Kind)
			return
		}
		m.imported[im.Kind]++
		m.Imports = append(m.Imports, im)
	}
}

func (m *Module) readExports(s *reader) {
	sizes := [...]int{
		KindFunc:   len(m.funcTypes),
		KindTable:  m.imported[KindTable] + len(m.Tables),
		KindMemory: m.imported[KindMemory] + len(m.Memories),
		KindGlobal: m.imported[KindGlobal] + len(m.Globals),
	}
	n := s.count("exports", 3, maxExports)
	for i := 0; i < n && s.err == nil; i++ {
		e := Export{Name: s.name(), Kind: Kind(s.byte()), Index: s.u32()}
		switch {
		case s.err != nil:
			return
		case int(e.Kind) >= len(sizes):
			s.fail("export %q is of kind %d, of a proposal the engine does not run", e.Name, e.Kind)
			return
		case int(e.Index) >= sizes[e.Kind]:
			s.fail("export %q: %v %d does not exist", e.Name, e.Kind, e.Index)
			return
		case e.Kind == KindFunc:
			e.Func = m.Types[m.funcTypes[e.Index]]
		}
		m.Exports = append(m.Exports, e)
	}
}

// readRange reads limits and returns their flags beside the maximum's.
func readRange(s *reader) (r Range, shared, is64 bool) {
	flags := s.byte()
	if flags > 7 {
		s.fail("limits flags %#x are of a proposal the engine does not run", flags)
		return
	}
	r.HasMax, shared, is64 = flags&1 != 0, flags&2 != 0, flags&4 != 0
	width := uint(32)
	if is64 {
		width = 64
	}
	r.Min = s.uleb(width)
	if r.HasMax {
		r.Max = s.uleb(width)
	}
	return r, shared, is64
}

func readMemory(s *reader) Memory {
	r, shared, is64 := readRange(s)
	return Memory{r, shared, is64}
}

func readTableType(s *reader) Range {
	if t := ValType(s.byte()); s.err == nil && t != FuncRef && t != ExternRef {
		s.fail("table of %v", t)
	}
	r, shared, is64 := readRange(s)
	if shared || is64 {
		s.fail("shared or 64-bit table")
	}
	return r
}

// readTable reads a table definition: a type, or 0x40 0x00, a type and the
// elements' initial value.
func readTable(s *reader) Range {
	if s.remaining() == 0 || s.buf[s.pos] != 0x40 {
		return readTableType(s)
	}
	s.byte()
	if b := s.byte(); b != 0 {
		s.fail("table form %#x", b)
	}
	r := readTableType(s)
	readConst(s)
	return r
}

func readGlobalType(s *reader) Global {
	g := Global{Type: ValType(s.byte())}
	if s.err == nil && valTypeNames[g.Type] == "" {
		s.fail("global of type %v, of a proposal the engine does not run", g.Type)
	}
	mut := s.byte()
	if mut > 1 {
		s.fail("mutability %d", mut)
	}
	g.Mutable = mut == 1
	return g
}

func (m *Module) readData(s *reader) {
	n := s.count("data segments", 2, maxData)
	for i := 0; i < n && s.err == nil; i++ {
		var d DataSegment
		switch form := s.u32(); form {
		case 0, 2:
			if form == 2 {
				d.Memory = s.u32()
			}
			d.Offset = readConst(s)
		case 1:
			d.Passive = true
		default:
			s.fail("data segment form %d", form)
		}
		d.Len = int(s.u32())
		s.bytes(d.Len)
		m.Data = append(m.Data, d)
	}
}

// Instructions of constant expressions (core specification 3.3.10 and the
// extended-const proposal).
const (
	opEnd       = 0x0b
	opGlobalGet = 0x23
	opI32Const  = 0x41
	opI64Const  = 0x42
	opF32Const  = 0x43
	opF64Const  = 0x44
	opI32Add    = 0x6a
	opI32Sub    = 0x6b
	opI32Mul    = 0x6c
	opI64Add    = 0x7c
	opI64Sub    = 0x7d
	opI64Mul    = 0x7e
	opRefNull   = 0xd0
	opRefFunc   = 0xd2
	opSIMD      = 0xfd
	opV128Const = 12 // after opSIMD
)

// readConst reads a constant expression up to its end.
func readConst(s *reader) Const {
	var last Const
	for n := 0; s.err == nil; n++ {
		var c Const
		switch op := s.byte(); op {
		case opEnd:
			if n != 1 {
				return Const{}
			}
			return last
		case opI32Const:
			c = Const{true, uint64(uint32(s.sleb(32)))}
		case opI64Const:
			c = Const{true, uint64(s.sleb(64))}
		case opF32Const:
			s.bytes(4)
		case opF64Const:
			s.bytes(8)
		case opGlobalGet, opRefFunc:
			s.u32()
		case opRefNull:
			s.byte()
		case opI32Add, opI32Sub, opI32Mul, opI64Add, opI64Sub, opI64Mul:
		case opSIMD:
			if sub := s.u32(); sub != opV128Const {
				s.fail("instruction 0xfd %d in a constant expression", sub)
			}
			s.bytes(16)
		default:
			s.fail("instruction %#x in a constant expression", op)
		}
		last = c
	}
	return Const{}
}
