package wasm

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// wasmtimeHeaders is the folder of the headers that come with the static
// library.
func wasmtimeHeaders(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/bytecodealliance/wasmtime-go/v39").Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "build", "include")
}

// compileC runs the C compiler over source, with the given arguments.
func compileC(t *testing.T, source string, args ...string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "abi.c")
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	args = append(args, "-std=gnu11", "-Werror", "-I"+wasmtimeHeaders(t), "-I"+here, file)
	if out, err := exec.Command("cc", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// Every function that wasmtime_abi.h declares has the type that Wasmtime's own
// headers give it: a second declaration of another type does not compile.
func TestWasmtimeDeclarations(t *testing.T) {
	compileC(t, "#include <wasmtime.h>\n#include \"wasmtime_abi.h\"\n", "-fsyntax-only")
}

// What both sides read in memory has one layout. Members have their own names
// here, so places are counted.
func TestWasmtimeLayouts(t *testing.T) {
	const body = `
#include <stddef.h>
#include <stdio.h>
#define SIZE(t) printf(#t " %zu\n", sizeof(t))
#define PLACE(t, m) printf(#t "." #m " %zu\n", offsetof(t, m))
int main(void)
{
	SIZE(wasm_byte_vec_t); PLACE(wasm_byte_vec_t, data);
	SIZE(wasm_valtype_vec_t); PLACE(wasm_valtype_vec_t, data);
	SIZE(wasmtime_func_t); SIZE(wasmtime_instance_t);
	SIZE(wasmtime_extern_t); PLACE(wasmtime_extern_t, of); PLACE(wasmtime_extern_t, of.func);
	SIZE(wasmtime_val_raw_t);
	SIZE(wasmtime_linear_memory_t); PLACE(wasmtime_linear_memory_t, get_memory);
	PLACE(wasmtime_linear_memory_t, grow_memory); PLACE(wasmtime_linear_memory_t, finalizer);
	SIZE(wasmtime_memory_creator_t); PLACE(wasmtime_memory_creator_t, new_memory);
	SIZE(wasmtime_update_deadline_kind_t);
	printf("%d %d %d %d %d\n", WASM_I32, WASM_I64, WASMTIME_EXTERN_FUNC, WASMTIME_EXTERN_MEMORY, WASMTIME_UPDATE_DEADLINE_CONTINUE);
}
`
	print := func(header string) string {
		program := filepath.Join(t.TempDir(), "abi")
		compileC(t, "#include "+header+body, "-o", program)
		out, err := exec.Command(program).Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	if theirs, ours := print("<wasmtime.h>"), print(`"wasmtime_abi.h"`); theirs != ours {
		t.Errorf("wasmtime.h says\n%swasmtime_abi.h says\n%s", theirs, ours)
	}
}
