package wasm

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/bytecodealliance/wasmtime-go/v39"

	"sfc/nf"
)

// longInstructions has everything that nf.Interruptible rewrites.
const longInstructions = `(module
  (memory (export "memory") 6)
  (table 4 10 funcref)
  (data "passive")
  (elem func 0)
  (func $init (export "init") (param i32 i32 i32) (memory.init 0 (local.get 0) (local.get 1) (local.get 2)))
  (func (export "fill") (param i32 i32 i32) (memory.fill (local.get 0) (local.get 1) (local.get 2)))
  (func (export "copy") (param i32 i32 i32)
    (local $unused i64)
    (block (loop
      (memory.copy (local.get 0) (local.get 1) (local.get 2))
      (br 1))))
  (func (export "grow") (param i32 i32 i32) (drop (memory.grow (i32.const 1))) (drop (memory.grow (i32.const 9999999))))
  (func (export "tables") (param i32 i32 i32)
    (table.fill (i32.const 0) (ref.null func) (i32.const 4))
    (table.init 0 (i32.const 0) (i32.const 0) (i32.const 1))
    (table.copy (i32.const 1) (i32.const 0) (i32.const 1))
    (drop (table.grow (ref.null func) (i32.const 1)))
    (unreachable)
    (memory.fill)))`

// runner calls a module's exports through Wasmtime's own API.
type runner struct {
	store *wasmtime.Store
	inst  *wasmtime.Instance
	mem   *wasmtime.Memory
}

func newRunner(t *testing.T, wasm []byte) *runner {
	t.Helper()
	r := &runner{store: wasmtime.NewStore(wasmtime.NewEngine())}
	m, err := wasmtime.NewModule(r.store.Engine, wasm)
	if err != nil {
		t.Fatal(err)
	}
	if r.inst, err = wasmtime.NewInstance(r.store, m, nil); err != nil {
		t.Fatal(err)
	}
	r.mem = r.inst.GetExport(r.store, "memory").Memory()
	return r
}

func (r *runner) call(name string, a, b, c uint32) (trapped bool) {
	_, err := r.inst.GetExport(r.store, name).Func().Call(r.store, int32(a), int32(b), int32(c))
	return err != nil
}

// A rewritten module computes what it did before, and traps where it did.
func TestInterruptibleKeepsMeaning(t *testing.T) {
	wasm, err := wasmtime.Wat2Wasm(longInstructions)
	if err != nil {
		t.Fatal(err)
	}
	rewritten, err := nf.Interruptible(wasm)
	if err != nil || bytes.Equal(wasm, rewritten) {
		t.Fatalf("not rewritten: %v", err)
	}
	before, after := newRunner(t, wasm), newRunner(t, rewritten)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	address := func() uint32 {
		switch rng.IntN(8) {
		case 0:
			return rng.Uint32() // mostly outside
		case 1:
			return uint32(before.mem.DataSize(before.store)) - rng.Uint32N(4)
		case 2:
			return rng.Uint32N(4) << 16
		}
		return rng.Uint32N(6 << 16)
	}
	noise := before.mem.UnsafeData(before.store)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	copy(after.mem.UnsafeData(after.store), noise)
	traps := 0
	for range 3000 {
		name := []string{"fill", "copy", "copy", "copy", "init", "grow", "tables"}[rng.IntN(7)]
		if name == "grow" && rng.IntN(100) > 0 {
			continue
		}
		a, b, n := address(), address(), address()
		if rng.IntN(2) == 0 {
			n = rng.Uint32N(3 << 16)
		}
		x, y := before.call(name, a, b, n), after.call(name, a, b, n)
		if x != y {
			t.Fatalf("%s(%#x, %#x, %#x): trapped %t, rewritten %t", name, a, b, n, x, y)
		}
		if !bytes.Equal(before.mem.UnsafeData(before.store), after.mem.UnsafeData(after.store)) {
			t.Fatalf("%s(%#x, %#x, %#x): memories differ", name, a, b, n)
		}
		if x {
			traps++
		}
	}
	if traps == 0 || traps > 2800 {
		t.Errorf("%d of 3000 calls trapped", traps)
	}
}

// Modules that have nothing to rewrite stay as they are; all others still
// validate.
func TestInterruptibleIsValid(t *testing.T) {
	rt := openRuntime(t)
	same, changed := 0, 0
	check := func(name string, wasm []byte) {
		out, err := nf.Interruptible(wasm)
		if err != nil {
			return // refused by the checks before
		}
		if bytes.Equal(wasm, out) {
			same++
			return
		}
		changed++
		if wasmtime.ModuleValidate(rt.compiler, wasm) == nil {
			if err := wasmtime.ModuleValidate(rt.compiler, out); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	files, _ := filepath.Glob("testdata/*/*.wat")
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if wasm, err := wasmtime.Wat2Wasm(string(text)); err == nil {
			check(path, wasm)
		}
	}
	files, _ = filepath.Glob("../catalog/*/*.wasm")
	for _, path := range files {
		wasm, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		check(path, wasm)
	}
	if same < 40 || changed < 4 {
		t.Errorf("%d modules unchanged, %d rewritten", same, changed)
	}
}
