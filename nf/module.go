package nf

import (
	"fmt"
	"strings"
)

// PageBytes is the size in bytes of one page of linear memory.
const PageBytes = 64 << 10

// ValType is the type of a Wasm value, as the binary format codes it.
type ValType byte

// The value types a module may use.
const (
	I32       ValType = 0x7f
	I64       ValType = 0x7e
	F32       ValType = 0x7d
	F64       ValType = 0x7c
	V128      ValType = 0x7b
	FuncRef   ValType = 0x70
	ExternRef ValType = 0x6f
)

var valTypeNames = map[ValType]string{
	I32: "i32", I64: "i64", F32: "f32", F64: "f64", V128: "v128", FuncRef: "funcref", ExternRef: "externref",
}

func (v ValType) String() string {
	if s, ok := valTypeNames[v]; ok {
		return s
	}
	return fmt.Sprintf("0x%02x", byte(v))
}

// FuncType is the type of a function.
type FuncType struct {
	Params, Results []ValType
}

// String returns the type as "(i32, i32) -> (i32)".
func (t FuncType) String() string {
	list := func(vs []ValType) string {
		names := make([]string, len(vs))
		for i, v := range vs {
			names[i] = v.String()
		}
		return "(" + strings.Join(names, ", ") + ")"
	}
	return list(t.Params) + " -> " + list(t.Results)
}

// Equal reports whether both types are the same.
func (t FuncType) Equal(u FuncType) bool {
	return string(valBytes(t.Params)) == string(valBytes(u.Params)) &&
		string(valBytes(t.Results)) == string(valBytes(u.Results))
}

func valBytes(vs []ValType) []byte {
	b := make([]byte, len(vs))
	for i, v := range vs {
		b[i] = byte(v)
	}
	return b
}

// Kind is what an import or export is, as the binary format codes it.
type Kind byte

// The kinds of imports and exports.
const (
	KindFunc Kind = iota
	KindTable
	KindMemory
	KindGlobal
)

func (k Kind) String() string {
	switch k {
	case KindFunc:
		return "function"
	case KindTable:
		return "table"
	case KindMemory:
		return "memory"
	case KindGlobal:
		return "global"
	}
	return fmt.Sprintf("kind %d", byte(k))
}

// Range is the limits of a table in elements or of a memory in pages.
type Range struct {
	Min, Max uint64 // Max is 0 unless HasMax
	HasMax   bool
}

// Import is one thing a module wants from the host.
type Import struct {
	Module, Name string
	Kind         Kind
	Func         FuncType // of a function
}

// Export is one thing a module offers.
type Export struct {
	Name  string
	Kind  Kind
	Index uint32   // in the index space of its kind, imports first
	Func  FuncType // of a function
}

// Memory is a linear memory the module defines.
type Memory struct {
	Pages  Range
	Shared bool // of the threads proposal
	Is64   bool // of the memory64 proposal
}

// Const is what an initial value expression says. Known is false when it is
// not a single constant instruction: then the value depends on another global.
type Const struct {
	Known bool
	Value uint64 // of an i32 zero-extended
}

// Global is a global the module defines.
type Global struct {
	Type    ValType
	Mutable bool
	Init    Const // Known only for i32 and i64
}

// DataSegment is one piece of initialised memory.
type DataSegment struct {
	Passive bool // copied by memory.init only
	Memory  uint32
	Offset  Const // guest address, of an active segment
	Len     int   // bytes
}

// CustomSection is a section that the specification leaves to tools.
type CustomSection struct {
	Name string
	Len  int // bytes, without the name
}

// Module is what [Inspect] found in a module. The slices of what a module
// defines leave out what it imports; index spaces count imports first.
type Module struct {
	Size      int // bytes
	Types     []FuncType
	Imports   []Import
	Functions int // defined
	Tables    []Range
	Memories  []Memory
	Globals   []Global
	Exports   []Export
	// Start says that function StartFunc runs at instantiation, before any
	// export: the instantiation needs the same deadline as a call.
	Start     bool
	StartFunc uint32
	Elements  int // element segments
	Data      []DataSegment
	Custom    []CustomSection
	// Manifest is a copy of the first manifest section, nil if there is none.
	Manifest []byte
	// CodeBytes is the length of all function bodies, LargestBody of the
	// longest.
	CodeBytes, LargestBody int
	// Flow tells how long the functions may take to compile: of each, loops *
	// (locals + loops), summed. The compiler turns locals into values and
	// joins each of them at the head of each loop, so that 14 KB of nested
	// loops can take minutes.
	Flow int

	imported     [4]int   // number of imports of each kind
	funcTypes    []uint32 // type index of every function, imports first
	stackPointer int      // index of the global named __stack_pointer, or -1
}

// export returns the export of that name.
func (m *Module) export(name string) (Export, bool) {
	for _, e := range m.Exports {
		if e.Name == name {
			return e, true
		}
	}
	return Export{}, false
}

// StackPointer returns the address at which the module's stack starts (it
// grows down). ok is false when the module keeps no stack in memory.
//
// It is the global that the name section calls __stack_pointer or, in a
// stripped module, the first global if that is a mutable i32: the linker of
// LLVM (clang, Rust, Zig, TinyGo) puts it there.
func (m *Module) StackPointer() (addr uint32, ok bool) {
	i := 0
	if m.stackPointer >= 0 {
		i = m.stackPointer - m.imported[KindGlobal]
	}
	if i < 0 || i >= len(m.Globals) {
		return 0, false
	}
	g := m.Globals[i]
	if g.Type != I32 || !g.Mutable || !g.Init.Known {
		return 0, false
	}
	return uint32(g.Init.Value), true
}

// StackTop returns the end of the memory that m's stack uses below
// [WindowStart], a multiple of [PageBytes]; 0 when its stack lies elsewhere or
// does not exist. [0, StackTop) needs memory of its own, the rest below the
// window is never used by an honest module.
func StackTop(m *Module) uint32 {
	sp, ok := m.StackPointer()
	if !ok || sp > WindowStart {
		return 0
	}
	return (sp + PageBytes - 1) &^ (PageBytes - 1)
}
