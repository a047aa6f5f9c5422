package nf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/bytecodealliance/wasmtime-go/v39"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// assemble turns text into a module.
func assemble(tb testing.TB, text string) []byte {
	tb.Helper()
	wasm, err := wasmtime.Wat2Wasm(text)
	if err != nil {
		tb.Fatalf("%v in %s", err, text)
	}
	return wasm
}

func TestInspectReportsEverything(t *testing.T) {
	wasm := assemble(t, `(module
		(@custom "sfc.manifest" "{}")
		(import "sfc" "log" (func $log (param i32 i32 i32)))
		(import "env" "g" (global $g i32))
		(type $pair (func (param i64) (result i32 i32)))
		(func $start)
		(func $pair (type $pair) (i32.const 1) (i32.const 2))
		(func (export "simd") (param v128) (result v128)
			(i8x16.swizzle (local.get 0) (v128.const i32x4 1 2 3 4)))
		(table 2 7 funcref)
		(table 1 externref)
		(memory (export "memory") 5 9)
		(global (export "counter") (mut i32) (i32.const -1))
		(global i64 (i64.const -2))
		(global f64 (f64.const 1.5))
		(global v128 (v128.const i64x2 1 2))
		(global funcref (ref.func $start))
		(global externref (ref.null extern))
		(global i32 (global.get $g))
		(global i32 (i32.mul (i32.const 6) (i32.const 7)))
		(export "pair" (func $pair))
		(export "table" (table 1))
		(start $start)
		(elem (i32.const 0) $start $pair)
		(elem declare func $start)
		(data (i32.const 16) "abc")
		(data (global.get $g) "de")
		(data "passive"))`)
	m, err := Inspect(wasm)
	if err != nil {
		t.Fatal(err)
	}
	log := FuncType{Params: []ValType{I32, I32, I32}}
	pair := FuncType{Params: []ValType{I64}, Results: []ValType{I32, I32}}
	vec := FuncType{Params: []ValType{V128}, Results: []ValType{V128}}
	want := &Module{
		Size: len(wasm),
		Imports: []Import{
			{"sfc", "log", KindFunc, log},
			{"env", "g", KindGlobal, FuncType{}},
		},
		Functions: 3,
		Tables:    []Range{{2, 7, true}, {1, 0, false}},
		Memories:  []Memory{{Pages: Range{5, 9, true}}},
		Globals: []Global{
			{I32, true, Const{true, 0xffff_ffff}},
			{I64, false, Const{true, 0xffff_ffff_ffff_fffe}},
			{F64, false, Const{}}, {V128, false, Const{}}, {FuncRef, false, Const{}}, {ExternRef, false, Const{}},
			{I32, false, Const{}}, {I32, false, Const{}},
		},
		Exports: []Export{
			{"simd", KindFunc, 3, vec},
			{"memory", KindMemory, 0, FuncType{}},
			{"counter", KindGlobal, 1, FuncType{}},
			{"pair", KindFunc, 2, pair},
			{"table", KindTable, 1, FuncType{}},
		},
		Start: true, StartFunc: 1,
		Elements: 2,
		Data: []DataSegment{
			{Offset: Const{true, 16}, Len: 3},
			{Offset: Const{}, Len: 2},
			{Passive: true, Len: 7},
		},
		Manifest: []byte("{}"),
	}
	ignore := cmpopts.IgnoreFields(Module{}, "Types", "Custom", "CodeBytes", "LargestBody")
	if diff := cmp.Diff(want, m, ignore, cmpopts.IgnoreUnexported(Module{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if m.CodeBytes < m.LargestBody || m.LargestBody < 20 {
		t.Errorf("code of %d bytes, largest body %d", m.CodeBytes, m.LargestBody)
	}
	if len(m.Custom) == 0 || m.Custom[len(m.Custom)-1].Name != "name" && m.Custom[len(m.Custom)-1].Name != ManifestSection {
		t.Errorf("custom sections %v", m.Custom)
	}
}

func TestInspectRefuses(t *testing.T) {
	const head = "\x00asm\x01\x00\x00\x00"
	for _, tt := range []struct{ name, body, want string }{
		{"section past the end", "\x01\x05\x00", "5 bytes announced, 1 left"},
		{"section out of order", "\x03\x01\x00\x01\x01\x00", "section 1 out of order"},
		{"section twice", "\x01\x01\x00\x01\x01\x00", "section 1 out of order"},
		{"section unknown", "\x0e\x00", "section 14 is of a proposal"},
		{"tags", "\x0d\x01\x00", "section 13 is of a proposal"},
		{"section too long", "\x01\x02\x00\x00", "1 bytes too many"},
		{"count beyond the bytes", "\x01\x05\xff\xff\xff\xff\x0f", "4294967295 types announced, 0 bytes left"},
		{"number too long", "\x01\x06\x80\x80\x80\x80\x80\x00", "longer than 32 bits"},
		{"number too large", "\x01\x05\xff\xff\xff\xff\x1f", "longer than 32 bits"},
		{"garbage collection", "\x01\x04\x01\x5f\x00\x00", "type form 0x5f is of a proposal"},
		{"reference types", "\x01\x05\x01\x60\x01\x64\x00", "value type 0x64 is of a proposal"},
		{"no such type", "\x03\x02\x01\x00", "type 0 does not exist"},
		{"no such start", "\x08\x01\x00", "start function 0 does not exist"},
		{"no such export", "\x07\x05\x01\x01a\x02\x00", `export "a": memory 0 does not exist`},
		{"export of what", "\x07\x05\x01\x01a\x07\x00", `export "a" is of kind 7`},
		{"import of a tag", "\x02\x06\x01\x01a\x01b\x04", `import "a"."b" is of kind 4`},
		{"name not UTF-8", "\x07\x05\x01\x01\xff\x02\x00", "is not UTF-8"},
		{"page size", "\x05\x03\x01\x08\x00", "limits flags 0x8"},
		{"constant that runs", "\x06\x05\x01\x7f\x00\x10\x00", "instruction 0x10 in a constant expression"},
		{"constant without end", "\x06\x05\x01\x7f\x00\x41\x00", "cut short"},
		{"signed number too long", "\x06\x0a\x01\x7f\x00\x41\x80\x80\x80\x80\x80\x00", "longer than 32 bits"},
		{"signed number too large", "\x06\x09\x01\x7f\x00\x41\xff\xff\xff\xff\x1f", "longer than 32 bits"},
		{"data form", "\x0b\x03\x01\x07\x00", "data segment form 7"},
		{"bodies without functions", "\x0a\x04\x01\x02\x00\x0b", "0 functions declared, 1 bodies"},
		{"functions without bodies", "\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00", "1 functions declared, 0 bodies"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Inspect([]byte(head + tt.body))
			wantRefusal(t, err, ErrMalformed, tt.want)
		})
	}
	many := binary.AppendUvarint(nil, maxImports+1)
	many = append(many, bytes.Repeat([]byte{0, 0, 3, 0x7f, 0}, maxImports+1)...)
	section := append(binary.AppendUvarint([]byte(head+"\x02"), uint64(len(many))), many...)
	_, err := Inspect(section)
	wantRefusal(t, err, ErrLimit, "1001 imports: at most 1000 are read")
}

// A signed number is read as Wasm means it, at the edges of its width.
func TestSignedNumbers(t *testing.T) {
	for _, v := range []int64{0, 1, -1, 63, 64, -64, -65, 1<<31 - 1, -1 << 31} {
		m, err := Inspect(assemble(t, fmt.Sprintf("(module (global i32 (i32.const %d)) (global i64 (i64.const %d)))", v, v)))
		if err != nil {
			t.Fatal(err)
		}
		if got := int32(m.Globals[0].Init.Value); int64(got) != v {
			t.Errorf("i32 %d read as %d", v, got)
		}
		if got := int64(m.Globals[1].Init.Value); got != v {
			t.Errorf("i64 %d read as %d", v, got)
		}
	}
	for _, v := range []int64{1<<63 - 1, -1 << 63} {
		m, err := Inspect(assemble(t, fmt.Sprintf("(module (global i64 (i64.const %d)))", v)))
		if err != nil {
			t.Fatal(err)
		}
		if got := int64(m.Globals[0].Init.Value); got != v {
			t.Errorf("i64 %d read as %d", v, got)
		}
	}
}

// Modules made of as many entries as their bytes allow cost memory in
// proportion: nothing is allocated for what is only announced.
func TestInspectMemoryIsBounded(t *testing.T) {
	const n = 1 << 20
	fill := func(id byte, count uint64, entry string) []byte {
		body := binary.AppendUvarint(nil, count)
		body = append(body, strings.Repeat(entry, n/len(entry))...)
		return append(binary.AppendUvarint([]byte{0, 'a', 's', 'm', 1, 0, 0, 0, id}, uint64(len(body))), body...)
	}
	for _, tt := range []struct {
		name string
		wasm []byte
	}{
		{"types", fill(secType, maxTypes, "\x60\x00\x00")},
		{"wide types", fill(secType, n/1000, "\x60\xf4\x03"+strings.Repeat("\x7f", 500)+"\x00")},
		{"imports", fill(secImport, maxImports, "\x00\x00\x03\x7f\x00")},
		{"globals", fill(secGlobal, maxGlobals, "\x7f\x00\x41\x00\x0b")},
		{"data", fill(secData, maxData, "\x01\x00")},
		{"custom", append([]byte("\x00asm\x01\x00\x00\x00"), strings.Repeat("\x00\x01\x00", n/3)...)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, _ = Inspect(tt.wasm) // what it says does not matter here
			runtime.ReadMemStats(&after)
			if used := after.TotalAlloc - before.TotalAlloc; used > 24*n {
				t.Errorf("%d bytes allocated for %d", used, len(tt.wasm))
			}
		})
	}
}

func TestStackPointer(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		sp         uint32
		ok         bool
		top        uint32
	}{
		{"none", `(module)`, 0, false, 0},
		{"by name", `(module (global $a (mut i32) (i32.const 7)) (global $__stack_pointer (mut i32) (i32.const 65537)))`, 65537, true, 2 * PageBytes},
		{"first of a stripped module", `(module (global (mut i32) (i32.const 65536)))`, 65536, true, PageBytes},
		{"above the window", `(module (global $__stack_pointer (mut i32) (i32.const 0x10100000)))`, 0x1010_0000, true, 0},
		{"negative", `(module (global $__stack_pointer (mut i32) (i32.const -16)))`, 0xffff_fff0, true, 0},
		{"all below the window", `(module (global $__stack_pointer (mut i32) (i32.const 0x01000000)))`, WindowStart, true, WindowStart},
		{"constant", `(module (global i32 (i32.const 65536)))`, 0, false, 0},
		{"64 bits", `(module (global (mut i64) (i64.const 65536)))`, 0, false, 0},
		{"imported", `(module (import "env" "sp" (global $__stack_pointer (mut i32))) (global (mut i32) (i32.const 5)))`, 0, false, 0},
		{"behind an import", `(module (import "env" "g" (global i32)) (global $__stack_pointer (mut i32) (i32.const 96)))`, 96, true, PageBytes},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := Inspect(assemble(t, tt.text))
			if err != nil {
				t.Fatal(err)
			}
			sp, ok := m.StackPointer()
			if sp != tt.sp || ok != tt.ok || StackTop(m) != tt.top {
				t.Errorf("got %#x, %v, top %#x; want %#x, %v, top %#x", sp, ok, StackTop(m), tt.sp, tt.ok, tt.top)
			}
		})
	}
}

func TestAppendManifest(t *testing.T) {
	wasm := assemble(t, `(module (@custom "sfc.manifest" "one") (@custom "other" "kept") (@custom "sfc.manifest" "two") (func (export "f")))`)
	for _, manifest := range []string{"", "{}", strings.Repeat("m", 1000)} {
		got, err := AppendManifest(wasm, []byte(manifest))
		if err != nil {
			t.Fatal(err)
		}
		m, err := Inspect(got)
		if err != nil {
			t.Fatal(err)
		}
		names := map[string]int{}
		for _, s := range m.Custom {
			names[s.Name]++
		}
		if string(m.Manifest) != manifest || names[ManifestSection] != 1 || names["other"] != 1 || len(m.Exports) != 1 {
			t.Errorf("manifest %q, sections %v, exports %v", m.Manifest, names, m.Exports)
		}
	}
	if _, err := AppendManifest([]byte("\x00asm\x01\x00\x00\x00\x01\x09"), nil); err == nil {
		t.Error("a module cut short was taken")
	}
}
