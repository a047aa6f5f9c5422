package wasm

import (
	"bytes"
	"fmt"
	"slices"
	"sync/atomic"

	"sfc/nf"
)

// Module is a checked and compiled function, from which instances are made.
// Who made it closes it, at any time: functions made of it keep what they
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
// the machine code. No guest code runs. Errors name what is wrong; a runtime
// without a compiler says ErrNoCompiler.
func (rt *Runtime) Compile(wasm []byte) (*Module, error) {
	if rt.compiler == nil {
		return nil, ErrNoCompiler
	}
	info, manifest, err := check(wasm, rt.opts.Limits)
	if err != nil {
		return nil, err
	}
	a, err := compile(rt.compiler, wasm)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", manifest.Name, err)
	}
	return rt.load(a, info, manifest)
}

// Load makes a module of an artifact, which must be one that this program's
// Build made: see [Artifact] for whom to trust. It needs no compiler, and runs no
// guest code. The module is checked again, against this runtime's limits; it
// keeps nothing of the artifact's memory. Errors wrap ErrTarget when the code is
// for another program or processor: the module then has to be built again.
func (rt *Runtime) Load(a *Artifact) (*Module, error) {
	info, manifest, err := check(bytes.Clone(a.Wasm), rt.opts.Limits)
	if err != nil {
		return nil, err
	}
	if err := a.Target.Runs(); err != nil {
		return nil, fmt.Errorf("%s: %w", manifest.Name, err)
	}
	return rt.load(a, info, manifest)
}

func (rt *Runtime) load(a *Artifact, info *nf.Module, manifest *nf.Manifest) (*Module, error) {
	c, err := rt.eng.load(a.Code)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", manifest.Name, err)
	}
	m := &Module{Manifest: manifest, Info: info, rt: rt, code: c, size: len(a.Code),
		migrates: slices.ContainsFunc(info.Exports, func(e nf.Export) bool { return e.Name == nf.ExportMigrate })}
	m.retain()
	return m, nil
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
