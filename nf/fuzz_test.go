package nf

import (
	"bytes"
	"errors"
	"testing"

	"github.com/bytecodealliance/wasmtime-go/v39"
)

// FuzzInspect holds the reader against the runtime that compiles what it lets
// through: whatever Wasmtime takes for valid, Inspect reads (or finds over a
// limit, or of a proposal the engine does not run), and both see the same
// imports and exports.
func FuzzInspect(f *testing.F) {
	for _, folder := range []string{"good", "hostile"} {
		for _, s := range samples(f, folder) {
			f.Add(s.wasm)
		}
	}
	config := wasmtime.NewConfig()
	config.SetWasmThreads(false)
	config.SetWasmMemory64(false)
	config.SetWasmTailCall(false)
	config.SetWasmFunctionReferences(false)
	config.SetWasmGC(false)
	config.SetWasmRelaxedSIMD(false)
	config.SetWasmMultiMemory(false)
	engine := wasmtime.NewEngineWithConfig(config)
	f.Fuzz(func(t *testing.T, wasm []byte) {
		m, err := Inspect(wasm)
		if err == nil {
			// What Check and StackTop say does not matter, that they
			// return does.
			_ = Check(m, Limits{})
			_ = StackTop(m)
			checkAppend(t, wasm, m)
		}
		if wasmtime.ModuleValidate(engine, wasm) != nil {
			return
		}
		if err != nil {
			if !errors.Is(err, ErrLimit) {
				t.Fatalf("valid module refused: %v", err)
			}
			return
		}
		compareWithRuntime(t, engine, wasm, m)
		if out, err := Interruptible(wasm); err != nil {
			t.Fatalf("valid module not rewritten: %v", err)
		} else if err := wasmtime.ModuleValidate(engine, out); err != nil {
			t.Fatalf("not valid when rewritten: %v", err)
		}
	})
}

// compareWithRuntime checks names and kinds of imports and exports.
func compareWithRuntime(t *testing.T, engine *wasmtime.Engine, wasm []byte, m *Module) {
	module, err := wasmtime.NewModule(engine, wasm)
	if err != nil {
		return // valid, but more than the runtime's own limits
	}
	defer module.Close()
	imports, exports := module.Imports(), module.Exports()
	if len(imports) != len(m.Imports) || len(exports) != len(m.Exports) {
		t.Fatalf("%d imports and %d exports, the runtime sees %d and %d", len(m.Imports), len(m.Exports), len(imports), len(exports))
	}
	for i, im := range imports {
		got := m.Imports[i]
		if name := im.Name(); im.Module() != got.Module || name == nil || *name != got.Name || externKind(im.Type()) != got.Kind {
			t.Fatalf("import %d: %+v, the runtime sees %q.%q", i, got, im.Module(), *name)
		}
	}
	for i, ex := range exports {
		got := m.Exports[i]
		if ex.Name() != got.Name || externKind(ex.Type()) != got.Kind {
			t.Fatalf("export %d: %+v, the runtime sees %q", i, got, ex.Name())
		}
		if ft := ex.Type().FuncType(); ft != nil && (len(ft.Params()) != len(got.Func.Params) || len(ft.Results()) != len(got.Func.Results)) {
			t.Fatalf("export %q: type %v, the runtime sees %d parameters, %d results", got.Name, got.Func, len(ft.Params()), len(ft.Results()))
		}
	}
}

func externKind(e *wasmtime.ExternType) Kind {
	switch {
	case e.FuncType() != nil:
		return KindFunc
	case e.TableType() != nil:
		return KindTable
	case e.MemoryType() != nil:
		return KindMemory
	case e.GlobalType() != nil:
		return KindGlobal
	}
	return 0xff
}

// checkAppend checks that a readable module stays the same module with another
// manifest.
func checkAppend(t *testing.T, wasm []byte, m *Module) {
	manifest := []byte("{\"fuzz\":true}")
	out, err := AppendManifest(wasm, manifest)
	if err != nil {
		t.Fatalf("AppendManifest refuses what Inspect reads: %v", err)
	}
	again, err := Inspect(out)
	if errors.Is(err, ErrMalformed) && len(m.Custom) == maxCustom {
		return
	}
	if err != nil {
		t.Fatalf("unreadable after AppendManifest: %v", err)
	}
	if !bytes.Equal(again.Manifest, manifest) || len(again.Exports) != len(m.Exports) || again.Functions != m.Functions {
		t.Fatalf("AppendManifest changed the module: %+v, was %+v", again, m)
	}
}

// FuzzManifest feeds manifests and configurations: whatever they are, the
// answer comes, soon, and errors are of the stated kinds.
func FuzzManifest(f *testing.F) {
	for _, s := range samples(f, "hostile") {
		if m, err := Inspect(s.wasm); err == nil && m.Manifest != nil {
			f.Add(m.Manifest, []byte("{}"))
		}
	}
	f.Add([]byte(fullManifest), []byte(`{"rules":[{"action":"deny","proto":"tcp","ports":[1,65535]}]}`))
	f.Fuzz(func(t *testing.T, manifest, config []byte) {
		m, err := ParseManifest(manifest)
		for _, e := range Refusals(err) {
			if !errors.Is(e, ErrManifest) && !errors.Is(e, ErrABI) {
				t.Fatalf("error of no kind: %v", e)
			}
		}
		if err != nil {
			return
		}
		for _, e := range Refusals(m.CheckConfig(config)) {
			if !errors.Is(e, ErrConfig) {
				t.Fatalf("error of no kind: %v", e)
			}
		}
	})
}
