package nf

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// module returns the text of a module that passes, with more in it.
func moduleText(more string) string {
	return `(module (@custom "sfc.manifest" "{\"name\":\"m\",\"version\":\"1.0.0\",\"abi\":1}")
		(memory (export "memory") 4097 4097)
		(func (export "sfc_abi_v1"))
		(func (export "sfc_configure") (param i32 i32) (result i32) (i32.const 0))
		(func (export "sfc_process") (param i32))` + more + `)`
}

func inspect(tb testing.TB, text string) *Module {
	tb.Helper()
	m, err := Inspect(assemble(tb, text))
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// A module that is wrong in every way learns all of it at once, in the order
// of the checks, the same every time.
func TestCheckReportsAllInOrder(t *testing.T) {
	m := inspect(t, `(module
		(@custom "sfc.manifest" "{\"name\":\"Wrong\",\"version\":\"1\",\"abi\":1}")
		(import "env" "abort" (func))
		(import "sfc" "lg" (func))
		(import "sfc" "log" (func (param i64)))
		(import "env" "g" (global i32))
		(memory 1 70000 shared)
		(global $__stack_pointer (mut i32) (i32.const 0x02000000))
		(table 1 funcref)
		(func (export "sfc_tick"))
		(func (export "sfc_prcess") (param i32))
		(data (i32.const 0) "x"))`)
	err := Check(m, Limits{})
	want := []struct {
		kind error
		text string
	}{
		{ErrABI, "no export sfc_abi_v1"},
		{ErrManifest, `name "Wrong"`},
		{ErrManifest, `version "1"`},
		{ErrImport, `unknown import "env.abort"`},
		{ErrImport, `unknown import "sfc.lg": did you mean "sfc.log"?`},
		{ErrImport, `import "sfc.log" of type (i64) -> (): its type is (i32, i32, i32) -> ()`},
		{ErrImport, `imported global "env.g"`},
		{ErrExport, `missing export "sfc_configure"`},
		{ErrExport, `missing export "sfc_process"`},
		{ErrExport, `export "sfc_tick" of type () -> (): its type is (i64) -> ()`},
		{ErrExport, `unknown export "sfc_prcess": did you mean "sfc_process"?`},
		{ErrExport, `missing export "memory"`},
		{ErrMemory, "shared memory"},
		{ErrMemory, "memory of 1 pages is too small"},
		{ErrLimit, "may grow to 70000 pages"},
		{ErrData, "data segment 0 inside the window: 1 bytes at 0x0"},
		{ErrStack, "stack inside the window: starts at 0x2000000"},
		{ErrLimit, "table 0 without a maximum"},
	}
	got := Refusals(err)
	if len(got) != len(want) {
		t.Fatalf("%d errors, want %d:\n%v", len(got), len(want), err)
	}
	for i, w := range want {
		if !errors.Is(got[i], w.kind) || !strings.Contains(got[i].Error(), w.text) {
			t.Errorf("error %d is %q (%v), want %q of kind %q", i, got[i], errors.Is(got[i], w.kind), w.text, w.kind)
		}
	}
	for range 20 {
		if again := Check(m, Limits{}); again.Error() != err.Error() {
			t.Fatalf("got %v, then %v", err, again)
		}
	}
}

func TestCheckLimits(t *testing.T) {
	for _, tt := range []struct {
		name, more, want string
		limits           Limits
	}{
		{"module", ``, "bytes of module: at most 100 are allowed", Limits{ModuleBytes: 100}},
		{"functions", ``, "3 functions: at most 2 are allowed", Limits{Functions: 2}},
		{"function", `(func ` + strings.Repeat(`(drop (i32.const 1000000))`, 100) + `)`, "bytes in one function: at most 300 are allowed", Limits{FunctionBytes: 300}},
		{"tables together", `(table 6 6 funcref) (table 2 5 funcref)`, "11 table elements: at most 10 are allowed", Limits{TableElements: 10}},
		{"memory", ``, "memory over the limit: starts with 4097 pages: at most 4096 pages", Limits{PrivateBytes: PageBytes - 1}},
		{"stack", `(global $__stack_pointer (mut i32) (i32.const 65537))`, "stack of 65537 bytes: at most 65536 are allowed: link with -z stack-size=65536", Limits{StackBytes: PageBytes}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := inspect(t, moduleText(tt.more))
			if err := Check(m, Limits{}); err != nil {
				t.Errorf("refused with the defaults: %v", err)
			}
			wantRefusal(t, Check(m, tt.limits), ErrLimit, tt.want)
		})
	}
}

// The edges of the address map.
func TestCheckEdges(t *testing.T) {
	for _, ok := range []string{
		`(data (i32.const 0x10000000) "first byte")`,
		`(data (i32.const 0x1000fffe) "ok")`,
		`(data "passive")`,
		`(global $__stack_pointer (mut i32) (i32.const 0x10010000))`,
		`(global $__stack_pointer (mut i32) (i32.const 0x00100000))`,
		`(table 10000 10000 funcref)`,
		`(func $start) (start $start)`,
		`(func (export "sfc_tick") (param i64)) (func (export "sfc_request") (param i32 i32) (result i64) (i64.const 0)) (func (export "helper"))`,
	} {
		if err := Check(inspect(t, moduleText(ok)), Limits{}); err != nil {
			t.Errorf("%s: %v", ok, err)
		}
	}
	for _, tt := range []struct {
		more string
		kind error
		want string
	}{
		{`(data (i32.const 0x0fffffff) "x")`, ErrData, "inside the window: 1 bytes at 0xfffffff"},
		{`(data (i32.const 0x0fffffff) "")`, ErrData, "inside the window: 0 bytes"},
		{`(data (i32.const 0x1000ffff) "xx")`, ErrData, "past the memory: 2 bytes at 0x1000ffff"},
		{`(global $__stack_pointer (mut i32) (i32.const 0x10000000))`, ErrStack, "stack inside the window: starts at 0x10000000"},
		{`(global $__stack_pointer (mut i32) (i32.const 0x01000001))`, ErrStack, "stack inside the window"},
		{`(global $__stack_pointer (mut i32) (i32.const 0x00100001))`, ErrLimit, "stack of 1048577 bytes"},
		{`(func (export "sfc_slot_migrate") (param i32 i32 i32))`, ErrManifest, `export "sfc_slot_migrate" without flow_state_bytes: declare flow_state_bytes or drop the export`},
		{`(func (export "sfc_slot_migrate") (param i32 i32))`, ErrExport, `export "sfc_slot_migrate" of type (i32, i32) -> ()`},
		{`(func (export "sfc_flow_end") (param i64))`, ErrExport, `export "sfc_flow_end" of type (i64) -> ()`},
	} {
		wantRefusal(t, Check(inspect(t, moduleText(tt.more)), Limits{}), tt.kind, tt.want)
	}
}

// A module of thousands of faults does not fill the terminal.
func TestCheckShowsTheFirstOfMany(t *testing.T) {
	var imports, data strings.Builder
	for i := range 900 {
		fmt.Fprintf(&imports, `(import "env" "f%d" (func))`, i)
		fmt.Fprintf(&data, `(data (i32.const %d) "x")`, i)
	}
	text := strings.Replace(moduleText(data.String()), "(module", "(module"+imports.String(), 1)
	got := Refusals(Check(inspect(t, text), Limits{}))
	if len(got) != 24 || !strings.Contains(got[10].Error(), "env.f10") || !strings.Contains(got[11].Error(), "more of them follow") ||
		!strings.Contains(got[23].Error(), "bad data segment: more of them follow") {
		t.Errorf("%d errors: %v", len(got), errors.Join(got...))
	}
}

// Who binds must say so, and have flows to bind for.
func TestCheckBind(t *testing.T) {
	const imports = `
		(import "sfc" "flow_bind" (func (param i32 i32) (result i32)))
		(import "sfc" "claim" (func (param i32 i64 i64 i64) (result i32)))
		(import "sfc" "claim_find" (func (param i64 i64) (result i64)))`
	for _, tt := range []struct{ name, manifest, want string }{
		{"all there", `"capabilities":["flow_bind"],"flow_state_bytes":8`, ""},
		{"no capability", `"flow_state_bytes":8`, `import "sfc.flow_bind" without its capability: add "flow_bind"`},
		{"another capability", `"capabilities":["log"],"flow_state_bytes":8`, `import "sfc.claim_find" without its capability`},
		{"no flows", `"capabilities":["flow_bind"]`, `import "sfc.claim" without flow_state_bytes`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := inspect(t, strings.Replace(moduleText(""), "(module", "(module"+imports, 1))
			m.Manifest = []byte(`{"name":"nat","version":"1.0.0","abi":1,` + tt.manifest + `}`)
			err := Check(m, Limits{})
			if tt.want != "" {
				wantRefusal(t, err, ErrManifest, tt.want)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	m := inspect(t, strings.Replace(moduleText(""), "(module", `(module (import "sfc" "claim" (func (param i32 i32) (result i32)))`, 1))
	wantRefusal(t, Check(m, Limits{}), ErrImport, `import "sfc.claim" of type (i32, i32) -> (i32): its type is (i32, i64, i64, i64) -> (i32)`)
}
