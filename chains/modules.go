package chains

import (
	"errors"
	"fmt"

	"sfc/nf"
)

// Module is a Wasm module that passed the checks of [nf.Check].
type Module struct {
	Wasm     []byte
	Info     *nf.Module
	Manifest *nf.Manifest
}

// ModuleSet holds modules by [FunctionSpec.Module].
type ModuleSet map[string]*Module

// LoadModules reads and checks the modules that specs name, each once. The
// error joins what is wrong with all of them.
func LoadModules(specs []Spec, limits nf.Limits) (ModuleSet, error) {
	set := ModuleSet{}
	var errs []error
	for _, s := range specs {
		for _, f := range s.Functions {
			if _, known := set[f.Module]; known {
				continue
			}
			m, err := LoadModule(f.Module, limits)
			if err != nil {
				errs = append(errs, fmt.Errorf("chain %s/%s: function %s: %w", s.Tenant, s.Name, f.Name, err))
			}
			set[f.Module] = m
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return set, nil
}

// LoadModule reads and checks the module at path.
func LoadModule(path string, limits nf.Limits) (*Module, error) {
	limits = limits.WithDefaults()
	wasm, err := readLimited(path, int64(limits.ModuleBytes))
	if err != nil {
		return nil, fmt.Errorf("read module: %w; build it first, or correct the path", err)
	}
	if len(wasm) > limits.ModuleBytes {
		return nil, fmt.Errorf("module %s: %w: longer than %d bytes; strip it, or leave debug information out", path, nf.ErrLimit, limits.ModuleBytes)
	}
	info, err := nf.Inspect(wasm)
	if err != nil {
		return nil, fmt.Errorf("module %s: %w", path, err)
	}
	if err := nf.Check(info, limits); err != nil {
		return nil, fmt.Errorf("module %s: %w", path, err)
	}
	manifest, err := nf.ParseManifest(info.Manifest)
	if err != nil {
		return nil, fmt.Errorf("module %s: %w", path, err)
	}
	return &Module{Wasm: wasm, Info: info, Manifest: manifest}, nil
}
