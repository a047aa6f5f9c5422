package nf

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Signatures of what the ABI names.
var (
	// ImportTypes are the functions of module [ImportModule] by name.
	ImportTypes = map[string]FuncType{
		ImportLog:       {Params: []ValType{I32, I32, I32}},                               // level 0 debug to 3 error, pointer, length in bytes
		ImportEmit:      {Params: []ValType{I32, I32}},                                    // pointer, length in bytes
		ImportBind:      {Params: []ValType{I32, I32}, Results: []ValType{I32}},           // index of a descriptor, pointer to a tuple
		ImportClaim:     {Params: []ValType{I32, I64, I64, I64}, Results: []ValType{I32}}, // index of a descriptor, key high and low, value
		ImportClaimFind: {Params: []ValType{I64, I64}, Results: []ValType{I64}},           // key high and low
	}
	// importCapabilities says which capability an import needs.
	importCapabilities = map[string]string{
		ImportLog: CapabilityLog, ImportEmit: CapabilityEmit, ImportBind: CapabilityBind, ImportClaim: CapabilityBind, ImportClaimFind: CapabilityBind,
	}
	// RequiredExports are the functions every module has.
	RequiredExports = map[string]FuncType{
		ExportMarker:    {},
		ExportConfigure: {Params: []ValType{I32, I32}, Results: []ValType{I32}},
		ExportProcess:   {Params: []ValType{I32}},
	}
	// OptionalExports are the functions a module may have.
	OptionalExports = map[string]FuncType{
		ExportTick:    {Params: []ValType{I64}},
		ExportFlowEnd: {Params: []ValType{I32}},
		ExportRequest: {Params: []ValType{I32, I32}, Results: []ValType{I64}},
		ExportMigrate: {Params: []ValType{I32, I32, I32}}, // old state, its length in bytes, slot
	}
)

// Check decides whether a module may be deployed, before any of it is compiled
// or run. It returns nil, or everything that is wrong with the module, joined
// in a fixed order; [Refusals] takes the result apart. Each part is a
// [*Refusal].
func Check(m *Module, limits Limits) error {
	c := check{m: m, limits: limits.WithDefaults(), shown: map[error]int{}}
	c.abi()
	manifest := c.manifest()
	c.imports(manifest)
	c.exports(manifest)
	c.memory()
	c.data()
	c.stack()
	c.sizes()
	return errors.Join(c.errs...)
}

type check struct {
	m      *Module
	limits Limits
	errs   []error
	shown  map[error]int // errors of each kind
}

// refuse adds an error. A module of thousands of faults shows the first ones
// of each kind.
func (c *check) refuse(kind error, cure, format string, args ...any) {
	const most = 12
	c.shown[kind]++
	switch n := c.shown[kind]; {
	case n == most:
		c.errs = append(c.errs, &Refusal{kind, kind.Error() + ": more of them follow", "correct the first ones"})
		return
	case n > most:
		return
	}
	c.errs = append(c.errs, &Refusal{kind, fmt.Sprintf(format, args...), cure})
}

// Exports that start with abiPrefix belong to the ABI; one that starts with
// markerPrefix says its version.
const (
	abiPrefix    = "sfc_"
	markerPrefix = abiPrefix + "abi_v"
)

func isMarker(name string) bool { return strings.HasPrefix(name, markerPrefix) }

// abi checks the marker, a function whose name carries the version.
func (c *check) abi() {
	if _, ok := c.m.export(ExportMarker); ok {
		return
	}
	found := "no export " + ExportMarker
	for _, e := range c.m.Exports {
		if isMarker(e.Name) {
			found = fmt.Sprintf("export %q", abbreviate(e.Name))
			break
		}
	}
	c.refuse(ErrABI, fmt.Sprintf("this engine runs ABI version %d: build with its SDK", ABIVersion), "wrong ABI: %s", found)
}

// manifest returns the module's manifest, nil when it has no readable one.
func (c *check) manifest() *Manifest {
	sections := 0
	for _, s := range c.m.Custom {
		if s.Name == ManifestSection {
			sections++
		}
	}
	switch {
	case sections == 0:
		c.refuse(ErrManifest, "add one: sfcctl nf build does, from manifest.json", "no manifest: custom section %q is missing", ManifestSection)
		return nil
	case sections > 1:
		c.refuse(ErrManifest, "keep one", "%d manifests: custom section %q repeated", sections, ManifestSection)
		return nil
	}
	m, err := ParseManifest(c.m.Manifest)
	if err != nil {
		c.errs = append(c.errs, Refusals(err)...)
		return nil
	}
	return m
}

// imports checks that the module asks for nothing but what the engine offers
// and the manifest declares.
func (c *check) imports(manifest *Manifest) {
	offered := []string{}
	for _, name := range slices.Sorted(maps.Keys(ImportTypes)) {
		offered = append(offered, ImportModule+"."+name)
	}
	for _, im := range c.m.Imports {
		name := abbreviate(im.Module) + "." + abbreviate(im.Name)
		want, known := ImportTypes[im.Name]
		switch {
		case im.Kind == KindMemory:
			c.refuse(ErrMemory, "define the memory and export it: do not link with --import-memory", "imported memory %q", name)
		case im.Kind != KindFunc:
			c.refuse(ErrImport, "define it in the module", "imported %v %q", im.Kind, name)
		case im.Module != ImportModule || !known:
			c.refuse(ErrImport, importCure(im.Module, name, offered), "unknown import %q", name)
		case !im.Func.Equal(want):
			c.refuse(ErrImport, "its type is "+want.String(), "import %q of type %v", name, im.Func)
		case manifest != nil && !slices.Contains(manifest.Capabilities, importCapabilities[im.Name]):
			c.refuse(ErrManifest, fmt.Sprintf("add %q to the manifest's capabilities", importCapabilities[im.Name]), "import %q without its capability", name)
		case manifest != nil && importCapabilities[im.Name] == CapabilityBind && manifest.FlowStateBytes == 0:
			c.refuse(ErrManifest, "declare flow_state_bytes: where no function keeps flow state, packets have no flow", "import %q without flow_state_bytes", name)
		}
	}
}

func importCure(module, name string, offered []string) string {
	switch module {
	case "wasi_snapshot_preview1", "wasi_unstable":
		return "there is no WASI: build for wasm32-unknown-unknown without a libc that needs it"
	case "env":
		return "the linker left a function undefined: define it, or drop --allow-undefined to see where it is used"
	}
	return suggest(name, offered)
}

// exports checks the functions the engine calls.
func (c *check) exports(manifest *Manifest) {
	for _, name := range []string{ExportMarker, ExportConfigure, ExportProcess} {
		c.function(name, RequiredExports[name], name != ExportMarker) // a missing marker is reported as the wrong ABI
	}
	for _, name := range []string{ExportTick, ExportFlowEnd, ExportRequest, ExportMigrate} {
		c.function(name, OptionalExports[name], false)
	}
	for _, e := range c.m.Exports {
		_, required := RequiredExports[e.Name]
		_, optional := OptionalExports[e.Name]
		if strings.HasPrefix(e.Name, abiPrefix) && !isMarker(e.Name) && !required && !optional {
			c.refuse(ErrExport, suggest(e.Name, slices.Concat(slices.Collect(maps.Keys(RequiredExports)), slices.Collect(maps.Keys(OptionalExports)))), "unknown export %q", abbreviate(e.Name))
		}
	}
	if _, ok := c.m.export(ExportFlowEnd); ok && manifest != nil && manifest.FlowStateBytes == 0 {
		c.refuse(ErrManifest, "declare flow_state_bytes or drop the export: without flow state no flow ends", "export %q without flow_state_bytes", ExportFlowEnd)
	}
	if _, ok := c.m.export(ExportMigrate); ok && manifest != nil && manifest.FlowStateBytes == 0 {
		c.refuse(ErrManifest, "declare flow_state_bytes or drop the export: there is no slot to migrate to", "export %q without flow_state_bytes", ExportMigrate)
	}
}

func (c *check) function(name string, want FuncType, required bool) {
	e, ok := c.m.export(name)
	switch {
	case !ok && required:
		c.refuse(ErrExport, "export it with type "+want.String(), "missing export %q", name)
	case !ok:
	case e.Kind != KindFunc:
		c.refuse(ErrExport, "make it a function of type "+want.String(), "export %q is a %v", name, e.Kind)
	case !e.Func.Equal(want):
		c.refuse(ErrExport, "its type is "+want.String(), "export %q of type %v", name, e.Func)
	}
}
