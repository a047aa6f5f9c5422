package nf

import (
	"errors"
	"strings"
	"testing"

	"github.com/bytecodealliance/wasmtime-go/v39"
)

func TestInspectCountsLoops(t *testing.T) {
	tests := []struct {
		name, body string
		flow       int
	}{
		{"none", "(block (br_table 0 0 (i32.const 0)))", 0},
		{"one", "(local i64 i64) (loop)", 1 * (3 + 1)},
		{"nested", "(loop (loop (block)))", 2 * (1 + 2)},
		{"among constants", "(drop (i32.const 0x03)) (drop (f64.const 3)) (drop (v128.const i32x4 3 3 3 3)) (loop)", 1 * (1 + 1)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			wasm, err := wasmtime.Wat2Wasm("(module (func (param i32) " + tt.body + "))")
			if err != nil {
				t.Fatal(err)
			}
			m, err := Inspect(wasm)
			if err != nil || m.Flow != tt.flow {
				t.Errorf("got %d, %v, want %d", m.Flow, err, tt.flow)
			}
		})
	}
}

func TestInspectLimitsLocals(t *testing.T) {
	for locals, ok := range map[int]bool{maxLocals: true, maxLocals + 1: false} {
		wasm, err := wasmtime.Wat2Wasm("(module (func (local " + strings.Repeat("i32 ", locals) + ")))")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Inspect(wasm); (err == nil) != ok || err != nil && !errors.Is(err, ErrLimit) {
			t.Errorf("%d locals: %v", locals, err)
		}
	}
}
