package nf

import "encoding/binary"

// Interruptible rewrites a module that passed [Check] so that a deadline can
// stop it between any two long instructions. A runtime looks at its deadline
// where functions and loops begin, but one memory.fill over the window takes
// tens of milliseconds, and a function body has room for twenty thousand of
// them in a row.
//
// memory.fill and memory.copy become calls of functions, added at the end, that
// work in pieces of [pieceBytes]. After the other instructions that may take
// long an empty loop is put. What the module computes stays the same, indices
// too; only the byte offsets in the messages of traps move. A module without
// such instructions is returned as it is.
func Interruptible(wasm []byte) ([]byte, error) {
	m, err := Inspect(wasm)
	if err != nil {
		return nil, err
	}
	first := uint32(len(m.funcTypes)) // index of the first function added
	w := &rewriter{fill: first, copy: first + 1}
	out := append([]byte(nil), wasm[:8]...)
	r := reader{buf: wasm, pos: 8}
	for r.remaining() > 0 {
		id := r.byte()
		s := r.sub(int(r.u32()))
		var body []byte
		switch id {
		case secType:
			body = appendVec(&s, append([]byte{0x60, 3, byte(I32), byte(I32), byte(I32)}, 0))
		case secFunction:
			typ := binary.AppendUvarint(nil, uint64(len(m.Types)))
			body = appendVec(&s, typ, typ)
		case secCode:
			body = w.code(&s)
		default:
			body = s.bytes(s.remaining())
		}
		if s.err != nil {
			return nil, s.err
		}
		out = binary.AppendUvarint(append(out, id), uint64(len(body)))
		out = append(out, body...)
	}
	if r.err != nil {
		return nil, r.err
	}
	if !w.changed {
		return wasm, nil
	}
	return out, nil
}

// appendVec returns the vector in s with elements added at its end.
func appendVec(s *reader, elements ...[]byte) []byte {
	n := s.u32()
	out := binary.AppendUvarint(nil, uint64(n)+uint64(len(elements)))
	out = append(out, s.bytes(s.remaining())...)
	for _, e := range elements {
		out = append(out, e...)
	}
	return out
}

// rewriter rewrites the code section.
type rewriter struct {
	fill, copy uint32 // indices of the functions added
	changed    bool
}

func (w *rewriter) code(s *reader) []byte {
	n := s.u32()
	out := binary.AppendUvarint(nil, uint64(n)+2)
	for i := uint32(0); i < n && s.err == nil; i++ {
		b := s.sub(int(s.u32()))
		body := w.body(&b)
		if b.err != nil {
			s.err = b.err
		}
		out = binary.AppendUvarint(out, uint64(len(body)))
		out = append(out, body...)
	}
	for _, body := range [][]byte{fillBody(), copyBody()} {
		out = binary.AppendUvarint(out, uint64(len(body)))
		out = append(out, body...)
	}
	return out
}

// body returns a function body with its long instructions replaced.
func (w *rewriter) body(s *reader) []byte {
	emptyLoop := []byte{opLoop, noValues, opEnd}
	out := make([]byte, 0, s.remaining())
	start := s.pos
	s.readLocals()
	for s.err == nil {
		out = append(out, s.buf[start:s.pos]...)
		if s.remaining() == 0 {
			break
		}
		start = s.pos
		switch op, sub := s.instruction(); {
		case op == opMisc && sub == opMemoryFill:
			out = binary.AppendUvarint(append(out, opCall), uint64(w.fill))
			start = s.pos
		case op == opMisc && sub == opMemoryCopy:
			out = binary.AppendUvarint(append(out, opCall), uint64(w.copy))
			start = s.pos
		case op == opMemoryGrow, op == opMisc && sub >= opMemoryInit && sub <= opTableFill:
			out = append(append(out, s.buf[start:s.pos]...), emptyLoop...)
			start = s.pos
		default:
			continue
		}
		w.changed = true
	}
	return out
}

// pieceBytes is how much memory.fill and memory.copy do between two looks at
// the deadline: some 10 us when the kernel must find pages for it. Its LEB128
// form is the same signed and unsigned.
const pieceBytes = 64 << 10

// Instructions of the functions added.
const (
	noValues     = 0x40 // block type
	opLocal      = 0x20 // local.get
	opSet        = 0x21 // local.set
	opI64GtU     = 0x56
	opI32LeU     = 0x4d
	opI32LtU     = 0x49
	opI64Shl     = 0x86
	opI64ExtendU = 0xad
)

// outside pushes whether address at + length n (locals) is above the memory.
func outside(at, n byte) []byte {
	return []byte{
		opLocal, at, opI64ExtendU, opLocal, n, opI64ExtendU, opI64Add,
		opMemorySize, 0, opI64ExtendU, opI64Const, 16, opI64Shl, opI64GtU,
	}
}

// piece pushes pieceBytes.
func piece() []byte { return binary.AppendUvarint([]byte{opI32Const}, pieceBytes) }

// advance adds pieceBytes to a local, or takes them from it.
func advance(local, op byte) []byte {
	return join([]byte{opLocal, local}, piece(), []byte{op, opSet, local})
}

func join(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// inPieces is a body that does step again and again while more than a piece is
// left, and last in the end: also when an operand is outside the memory, for
// then the instruction itself must trap, having written nothing.
func inPieces(check, step, last []byte) []byte {
	const d, n = 0, 2
	return join(
		[]byte{0, opBlock, noValues, opLoop, noValues, opLocal, n}, piece(), []byte{opI32LeU, opBrIf, 1},
		outside(d, n), []byte{opBrIf, 1}, check,
		step, advance(n, opI32Sub),
		[]byte{opBr, 0, opEnd, opEnd}, last, []byte{opEnd},
	)
}

// fillBody is memory.fill: address, value, length.
func fillBody() []byte {
	const d, value, n = 0, 1, 2
	return inPieces(nil,
		join([]byte{opLocal, d, opLocal, value}, piece(), []byte{opMisc, opMemoryFill, 0}, advance(d, opI32Add)),
		[]byte{opLocal, d, opLocal, value, opLocal, n, opMisc, opMemoryFill, 0})
}

// copyBody is memory.copy: destination, source, length. The two may overlap:
// down from the end when the destination is above the source.
func copyBody() []byte {
	const d, src, n = 0, 1, 2
	fromEnd := func(local byte) []byte {
		return join([]byte{opLocal, local, opLocal, n, opI32Add}, piece(), []byte{opI32Sub})
	}
	doCopy := []byte{opMisc, opMemoryCopy, 0, 0}
	return inPieces(join(outside(src, n), []byte{opBrIf, 1}),
		join([]byte{opLocal, src, opLocal, d, opI32LtU, opIf, noValues},
			fromEnd(d), fromEnd(src), piece(), doCopy,
			[]byte{opElse, opLocal, d, opLocal, src}, piece(), doCopy,
			advance(d, opI32Add), advance(src, opI32Add),
			[]byte{opEnd}),
		join([]byte{opLocal, d, opLocal, src, opLocal, n}, doCopy))
}
