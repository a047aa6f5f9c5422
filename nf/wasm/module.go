package wasm

import (
	"fmt"

	"github.com/bytecodealliance/wasmtime-go/v39"

	"sfc/nf"
)

// Module is a checked and compiled function, from which instances are made.
// Close it after its last Group.
type Module struct {
	// Manifest is what the function's author declared.
	Manifest *nf.Manifest
	// Info is what the checks found in the module's bytes.
	Info *nf.Module

	rt   *Runtime
	code code
	size int
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
	m, err := wasmtime.NewModule(rt.compiler, wasm)
	if err != nil {
		return nil, fmt.Errorf("compile %s: %w", manifest.Name, err)
	}
	defer m.Close()
	serialized, err := m.Serialize()
	if err != nil {
		return nil, fmt.Errorf("serialize %s: %w", manifest.Name, err)
	}
	c, err := rt.eng.load(serialized)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", manifest.Name, err)
	}
	return &Module{Manifest: manifest, Info: info, rt: rt, code: c, size: len(serialized)}, nil
}

// CodeBytes is the size of the compiled module.
func (m *Module) CodeBytes() int { return m.size }

// Close frees the machine code.
func (m *Module) Close() { m.code.close() }
