package nf

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Most elements that [Inspect] reads of each kind, far above what real modules
// have. They keep the Module's memory within a small multiple of the input.
const (
	maxTypes    = 20_000
	maxImports  = 1_000
	maxFuncs    = 1_000_000
	maxTables   = 100
	maxMemories = 100
	maxGlobals  = 20_000
	maxExports  = 5_000
	maxData     = 100_000
	maxElements = 100_000
	maxCustom   = 1_000
	maxLocals   = 5_000  // of one function; see Module.Flow
	maxLabels   = 65_536 // of one br_table
)

// Section ids of the binary format.
const (
	secCustom = iota
	secType
	secImport
	secFunction
	secTable
	secMemory
	secGlobal
	secExport
	secStart
	secElement
	secCode
	secData
	secDataCount
)

// sectionOrder gives each section's place; the specification fixes it.
var sectionOrder = [...]int{
	secType: 1, secImport: 2, secFunction: 3, secTable: 4, secMemory: 5, secGlobal: 6,
	secExport: 7, secStart: 8, secElement: 9, secDataCount: 10, secCode: 11, secData: 12,
}

// Inspect reads the structure of a core WebAssembly module and steps over its
// instructions. The result shares no memory with wasm.
//
// It is not a validator: a module that passes must still be compiled by a
// runtime that validates it. What a valid module says about itself, Inspect
// reports exactly. Errors wrap [ErrNotWasm], [ErrMalformed] or [ErrLimit].
func Inspect(wasm []byte) (*Module, error) {
	if err := checkHeader(wasm); err != nil {
		return nil, err
	}
	m := &Module{Size: len(wasm), stackPointer: -1}
	r := reader{buf: wasm, pos: 8}
	last, bodies := 0, 0
	for r.remaining() > 0 {
		start := r.pos
		id := r.byte()
		s := r.sub(int(r.u32()))
		if r.err != nil {
			return nil, r.err
		}
		if id != secCustom {
			if int(id) >= len(sectionOrder) {
				return nil, fmt.Errorf("%w: byte %d: section %d is of a proposal the engine does not run", ErrMalformed, start, id)
			}
			if sectionOrder[id] <= last {
				return nil, fmt.Errorf("%w: byte %d: section %d out of order", ErrMalformed, start, id)
			}
			last = sectionOrder[id]
		}
		if id == secCode {
			bodies = m.readCode(&s)
		} else {
			m.readSection(id, &s)
		}
		if s.err == nil && s.remaining() > 0 && id != secCustom && id != secElement {
			s.fail("section %d has %d bytes too many", id, s.remaining())
		}
		if s.err != nil {
			return nil, s.err
		}
	}
	if bodies != m.Functions {
		return nil, fmt.Errorf("%w: %d functions declared, %d bodies", ErrMalformed, m.Functions, bodies)
	}
	return m, nil
}

// checkHeader tells a core module from what people upload in its place.
func checkHeader(wasm []byte) error {
	refuse := func(what, cure string) error { return &Refusal{ErrNotWasm, what, cure} }
	const core, component = 0x1, 0x1_000d
	switch text := bytes.TrimLeft(wasm[:min(len(wasm), 64)], " \t\r\n"); {
	case len(wasm) == 0:
		return refuse("the module is empty", "give a .wasm file")
	case bytes.HasPrefix(text, []byte("(")) || bytes.HasPrefix(text, []byte(";;")):
		return refuse("the module is in WebAssembly's text format", "assemble it first, e.g. wat2wasm")
	case bytes.HasPrefix(wasm, []byte("\x7fELF")):
		return refuse("the module is a native ELF file", "compile with --target=wasm32")
	case len(wasm) < 8 || !bytes.HasPrefix(wasm, []byte("\x00asm")):
		return refuse(fmt.Sprintf("not a WebAssembly module: starts with %q", wasm[:min(len(wasm), 8)]),
			`the format starts with "\x00asm\x01\x00\x00\x00"; give a .wasm file`)
	}
	switch v := binary.LittleEndian.Uint32(wasm[4:]); v {
	case core:
		return nil
	case component:
		return refuse("the module is a WebAssembly component", "give a core module: wasm32-unknown-unknown, without wasm-tools component new")
	default:
		return refuse(fmt.Sprintf("WebAssembly binary version %#x", v), "version 1 is known")
	}
}

func (m *Module) readSection(id byte, s *reader) {
	switch id {
	case secCustom:
		m.readCustom(s)
	case secType:
		m.readTypes(s)
	case secImport:
		m.readImports(s)
	case secFunction:
		n := s.count("functions", 1, maxFuncs)
		m.Functions = n
		for i := 0; i < n && s.err == nil; i++ {
			m.addFunc(s)
		}
	case secTable:
		n := s.count("tables", 3, maxTables)
		for i := 0; i < n && s.err == nil; i++ {
			m.Tables = append(m.Tables, readTable(s))
		}
	case secMemory:
		n := s.count("memories", 2, maxMemories)
		for i := 0; i < n && s.err == nil; i++ {
			m.Memories = append(m.Memories, readMemory(s))
		}
	case secGlobal:
		n := s.count("globals", 4, maxGlobals)
		for i := 0; i < n && s.err == nil; i++ {
			g := readGlobalType(s)
			g.Init = readConst(s)
			m.Globals = append(m.Globals, g)
		}
	case secExport:
		m.readExports(s)
	case secStart:
		m.Start, m.StartFunc = true, s.u32()
		if int(m.StartFunc) >= len(m.funcTypes) {
			s.fail("start function %d does not exist", m.StartFunc)
		}
	case secElement:
		m.Elements = s.count("element segments", 4, maxElements)
	case secDataCount:
		s.u32()
	case secData:
		m.readData(s)
	}
}

// errNoType is the message for a type index without a type.
const errNoType = "type %d does not exist"

// addFunc reads the type index of the next function.
func (m *Module) addFunc(s *reader) FuncType {
	t := s.u32()
	if s.err == nil && int(t) >= len(m.Types) {
		s.fail(errNoType, t)
	}
	if s.err != nil {
		return FuncType{}
	}
	m.funcTypes = append(m.funcTypes, t)
	return m.Types[t]
}

// readCode reads the function bodies and returns how many there are.
func (m *Module) readCode(s *reader) int {
	n := s.count("function bodies", 2, maxFuncs)
	for i := 0; i < n && s.err == nil; i++ {
		body := int(s.u32())
		b := s.sub(body)
		if k := m.imported[KindFunc] + i; s.err == nil && k < len(m.funcTypes) {
			m.readBody(&b, len(m.Types[m.funcTypes[k]].Params))
			s.err = b.err
		}
		m.CodeBytes += body
		m.LargestBody = max(m.LargestBody, body)
	}
	return n
}
