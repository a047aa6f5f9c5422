package wasm

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/bytecodealliance/wasmtime-go/v39"

	"sfc/nf"
)

// ErrNoCompiler: the runtime was opened without a compiler.
var ErrNoCompiler = errors.New("this process compiles nothing: build the module elsewhere and load it")

// Build checks wasm against the ABI and the limits, and compiles it for this
// program on this machine. No guest code runs. Errors name what is wrong.
//
// The compiler cannot be interrupted: ctx is looked at before it and after it.
// It takes memory and time in proportion to what limits let through, so give
// modules of strangers to a process of its own, which can be ended.
func Build(ctx context.Context, wasm []byte, limits nf.Limits) (*Artifact, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("compile: %w", err)
	}
	if _, _, err := check(wasm, limits); err != nil {
		return nil, err
	}
	compiler := newCompiler()
	defer compiler.Close()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("compile: %w", err)
	}
	a, err := compile(compiler, wasm)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("compile: %w", err)
	}
	return a, nil
}

// newCompiler makes an engine that compiles. What a module may use must be equal
// to sfc_engine_new in engine.c, where the code must load.
func newCompiler() *wasmtime.Engine {
	cfg := wasmtime.NewConfig()
	cfg.SetEpochInterruption(true)
	cfg.SetWasmThreads(false)
	cfg.SetWasmTailCall(false)
	cfg.SetWasmRelaxedSIMD(false)
	cfg.SetWasmMultiMemory(false)
	cfg.SetWasmMemory64(false)
	cfg.SetWasmFunctionReferences(false)
	cfg.SetWasmGC(false)
	cfg.SetMemoryInitCOWSet(false)
	return wasmtime.NewEngineWithConfig(cfg)
}

// check decides whether a module may be deployed, and says what it is.
func check(wasm []byte, limits nf.Limits) (*nf.Module, *nf.Manifest, error) {
	info, err := nf.Inspect(wasm)
	if err != nil {
		return nil, nil, err
	}
	if err := nf.Check(info, limits); err != nil {
		return nil, nil, err
	}
	manifest, err := nf.ParseManifest(info.Manifest)
	if err != nil {
		return nil, nil, err
	}
	return info, manifest, nil
}

// compile compiles a module that was checked.
func compile(compiler *wasmtime.Engine, wasm []byte) (*Artifact, error) {
	interruptible, err := nf.Interruptible(wasm)
	if err != nil {
		return nil, err
	}
	m, err := wasmtime.NewModule(compiler, interruptible)
	if err != nil {
		return nil, fmt.Errorf("compile: %w", err)
	}
	defer m.Close()
	if err := checkTypes(m); err != nil {
		return nil, err
	}
	code, err := m.Serialize()
	if err != nil {
		return nil, fmt.Errorf("serialize: %w", err)
	}
	return &Artifact{Wasm: wasm, Code: code, Target: ThisTarget()}, nil
}

// checkTypes compares the functions that the shim calls with their types as
// the compiler sees them: the shim hands over raw values, so that a function
// that gives back more than it has room for would write over the host's memory.
// nf.Check has read the same bytes, with a parser of its own.
func checkTypes(m *wasmtime.Module) error {
	kinds := map[nf.ValType]wasmtime.ValKind{nf.I32: wasmtime.KindI32, nf.I64: wasmtime.KindI64}
	same := func(want []nf.ValType, have []*wasmtime.ValType) bool {
		return slices.EqualFunc(want, have, func(w nf.ValType, h *wasmtime.ValType) bool {
			kind, ok := kinds[w]
			return ok && h.Kind() == kind
		})
	}
	for _, e := range m.Exports() {
		want, ok := nf.RequiredExports[e.Name()]
		if !ok {
			want, ok = nf.OptionalExports[e.Name()]
		}
		if !ok {
			continue
		}
		have := e.Type().FuncType()
		if have == nil || !same(want.Params, have.Params()) || !same(want.Results, have.Results()) {
			return fmt.Errorf("%w: the compiler sees export %q with another type than %v", nf.ErrExport, e.Name(), want)
		}
	}
	return nil
}
