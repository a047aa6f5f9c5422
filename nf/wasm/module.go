package wasm

import (
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/bytecodealliance/wasmtime-go/v39"

	"sfc/nf"
)

// Module is a checked and compiled function, from which instances are made.
// Who compiled it closes it, at any time: functions made of it keep what they
// need.
type Module struct {
	// Manifest is what the function's author declared.
	Manifest *nf.Manifest
	// Info is what the checks found in the module's bytes.
	Info *nf.Module

	rt       *Runtime
	code     code
	size     int
	migrates bool         // exports sfc_slot_migrate
	refs     atomic.Int32 // the owner's, and one per version of a function
}

// Compile checks wasm against the ABI and the limits, compiles it, and loads
// the machine code. No guest code runs. Errors name what is wrong.
func (rt *Runtime) Compile(wasm []byte) (*Module, error) {
	info, err := nf.Inspect(wasm)
	if err != nil {
		return nil, err
	}
	if err := nf.Check(info, rt.opts.Limits); err != nil {
		return nil, err
	}
	manifest, err := nf.ParseManifest(info.Manifest)
	if err != nil {
		return nil, err
	}
	if wasm, err = nf.Interruptible(wasm); err != nil {
		return nil, err
	}
	m, err := wasmtime.NewModule(rt.compiler, wasm)
	if err != nil {
		return nil, fmt.Errorf("compile %s: %w", manifest.Name, err)
	}
	defer m.Close()
	if err := checkTypes(m); err != nil {
		return nil, fmt.Errorf("%s: %w", manifest.Name, err)
	}
	serialized, err := m.Serialize()
	if err != nil {
		return nil, fmt.Errorf("serialize %s: %w", manifest.Name, err)
	}
	c, err := rt.eng.load(serialized)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", manifest.Name, err)
	}
	module := &Module{Manifest: manifest, Info: info, rt: rt, code: c, size: len(serialized),
		migrates: slices.ContainsFunc(info.Exports, func(e nf.Export) bool { return e.Name == nf.ExportMigrate })}
	module.retain()
	return module, nil
}

// CodeBytes is the size of the compiled module.
func (m *Module) CodeBytes() int { return m.size }

// Close frees the machine code, once no function is made of it any more.
func (m *Module) Close() { m.release() }

func (m *Module) retain() { m.refs.Add(1) }

func (m *Module) release() {
	if m.refs.Add(-1) == 0 {
		m.code.close()
	}
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
