package nf

import "fmt"

// Instructions that [reader.instruction] and its callers tell apart (core
// specification, chapter 5.4).
const (
	opBlock        = 0x02
	opLoop         = 0x03
	opIf           = 0x04
	opElse         = 0x05
	opBr           = 0x0c
	opBrIf         = 0x0d
	opBrTable      = 0x0e
	opCall         = 0x10
	opCallIndirect = 0x11
	opSelectTyped  = 0x1c
	opLocalGet     = 0x20 // and local.set, local.tee, global.get, global.set, table.get, table.set
	opTableSet     = 0x26
	opLoadFirst    = 0x28
	opStoreLast    = 0x3e
	opMemorySize   = 0x3f
	opMemoryGrow   = 0x40
	opNumericFirst = 0x45
	opNumericLast  = 0xc4
	opRefIsNull    = 0xd1
	opMisc         = 0xfc

	// after opMisc
	opMemoryInit = 8
	opMemoryCopy = 10
	opMemoryFill = 11
	opTableInit  = 12
	opTableCopy  = 14
	opTableGrow  = 15
	opTableFill  = 17
)

// instruction reads one instruction. For prefixed ones op is the prefix and
// sub what follows it, else sub is 0.
func (s *reader) instruction() (op byte, sub uint32) {
	op = s.byte()
	switch {
	case op <= 0x01 || op == opElse || op == opEnd || op == 0x0f || op == 0x1a || op == 0x1b || op == opRefIsNull:
	case op >= opNumericFirst && op <= opNumericLast:
	case op >= opBlock && op <= opIf:
		s.sleb(33) // a value type, none, or a type index
	case op == opBr || op == opBrIf || op == opCall || op >= opLocalGet && op <= opTableSet || op == opRefFunc:
		s.u32()
	case op == opBrTable:
		for n := s.count("labels", 1, maxLabels); n >= 0 && s.err == nil; n-- {
			s.u32()
		}
	case op == opCallIndirect:
		s.u32()
		s.u32()
	case op == opSelectTyped:
		s.bytes(s.count("types", 1, 1))
	case op >= opLoadFirst && op <= opStoreLast:
		s.memarg()
	case op == opMemorySize || op == opMemoryGrow:
		s.u32()
	case op == opI32Const:
		s.sleb(32)
	case op == opI64Const:
		s.sleb(64)
	case op == opF32Const:
		s.bytes(4)
	case op == opF64Const:
		s.bytes(8)
	case op == opRefNull:
		s.sleb(33)
	case op == opMisc:
		sub = s.misc()
	case op == opSIMD:
		sub = s.simd()
	default:
		s.fail("instruction %#x is of a proposal the engine does not run", op)
	}
	return op, sub
}

// memarg reads alignment and offset of a load or store. Bit 6 of the alignment
// announces a memory index.
func (s *reader) memarg() {
	if s.u32()&(1<<6) != 0 {
		s.u32()
	}
	s.uleb(64)
}

// misc reads the rest of an instruction that starts with opMisc.
func (s *reader) misc() uint32 {
	sub := s.u32()
	switch {
	case sub < opMemoryInit: // saturating conversions
	case sub == opMemoryInit || sub == opMemoryCopy || sub == opTableInit || sub == opTableCopy:
		s.u32()
		s.u32()
	case sub <= opTableFill:
		s.u32()
	default:
		s.fail("instruction 0xfc %d is of a proposal the engine does not run", sub)
	}
	return sub
}

// simd reads the rest of an instruction that starts with opSIMD.
func (s *reader) simd() uint32 {
	sub := s.u32()
	switch {
	case sub <= 11 || sub == 92 || sub == 93: // loads, store, loads with zeros
		s.memarg()
	case sub == opV128Const || sub == 13: // constant, shuffle
		s.bytes(16)
	case sub >= 21 && sub <= 34: // lanes out and in
		s.byte()
	case sub >= 84 && sub <= 91: // loads and stores of a lane
		s.memarg()
		s.byte()
	case sub <= 255:
	default:
		s.fail("instruction 0xfd %d is of a proposal the engine does not run", sub)
	}
	return sub
}

// readLocals reads a body's declarations and returns the number of locals.
func (s *reader) readLocals() int {
	total := 0
	n := s.count("groups of locals", 2, maxLocals)
	for i := 0; i < n && s.err == nil; i++ {
		if total += int(s.u32()); s.err == nil && total > maxLocals {
			s.err = &Refusal{ErrLimit, fmt.Sprintf("function with %d locals", total), fmt.Sprintf("at most %d are read", maxLocals)}
		}
		s.byte()
	}
	return total
}

// readBody reads a function body and adds what its loops cost the compiler, see
// [Module.Flow].
func (m *Module) readBody(s *reader, params int) {
	locals, loops := params+s.readLocals(), 0
	for s.remaining() > 0 {
		if op, _ := s.instruction(); op == opLoop {
			loops++
		}
	}
	m.Flow += loops * (locals + loops)
}
