package compile

import (
	"fmt"
	"strings"
	"testing"

	"github.com/bytecodealliance/wasmtime-go/v39"
)

// bomb returns a module of some hundred kilobytes that takes minutes to
// compile: nested loops, at each of which the compiler joins all locals.
func bomb(t *testing.T) []byte {
	t.Helper()
	const locals, loops = 5000, 4000
	var text strings.Builder
	text.WriteString(`(module
  (@custom "sfc.manifest" "{\"name\":\"bomb\",\"version\":\"1.0.0\",\"abi\":1}")
  (memory (export "memory") 4352 4352)
  (func (export "sfc_abi_v1"))
  (func (export "sfc_configure") (param i32 i32) (result i32) (i32.const 0))
  (func (export "sfc_process") (param i32) (local`)
	text.WriteString(strings.Repeat(" i32", locals))
	text.WriteString(")\n")
	for i := range loops {
		fmt.Fprintf(&text, "loop local.get 0 br_if 0 local.get 0 local.set %d\n", 1+i*6%locals)
	}
	text.WriteString(strings.Repeat("end ", loops))
	text.WriteString("))")
	b, err := wasmtime.Wat2Wasm(text.String())
	if err != nil {
		t.Fatal(err)
	}
	return b
}
