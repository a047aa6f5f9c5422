package chains

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sfc/nf"
)

const examples = "../testbed/examples"

// The example chain with its real modules: loaded, checked and compiled.
func TestEdgeExample(t *testing.T) {
	spec, err := Load(filepath.Join(examples, "edge.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	mods, err := LoadModules([]Spec{spec, spec}, nf.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := Compile([]Spec{spec}, []string{"in", "out"}, mods)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, h := range plan.Chains[0].Functions {
		names = append(names, h.Name)
		if m := mods[h.Module]; m == nil || m.Manifest.Name != h.Name || len(m.Wasm) != m.Info.Size {
			t.Errorf("module of %s: %+v", h.Name, m)
		}
	}
	if got := strings.Join(names, " "); got != "acl ratelimit dnsguard hop" {
		t.Errorf("functions are %s", got)
	}
	if len(plan.Rules) != 1 || plan.Rules[0].Ports != 1 || plan.Paths[0].Egress != 1 {
		t.Errorf("rules %+v, egress %d", plan.Rules, plan.Paths[0].Egress)
	}
}

func TestCompileChecksModules(t *testing.T) {
	spec, err := Load(filepath.Join(examples, "edge.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	mods, err := LoadModules([]Spec{spec}, nf.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	ports := []string{"in", "out"}
	bad := spec
	bad.Functions = append([]FunctionSpec(nil), spec.Functions...)
	bad.Functions[3].Config = []byte(`{"decrement":"maybe"}`)
	_, err = Compile([]Spec{bad}, ports, mods)
	if !errors.Is(err, nf.ErrConfig) || !strings.Contains(err.Error(), "chain demo/edge: function hop: config.decrement") {
		t.Errorf("configuration against the schema: %v", err)
	}
	delete(mods, spec.Functions[0].Module)
	if _, err := Compile([]Spec{spec}, ports, mods); err == nil || !strings.Contains(err.Error(), "acl.wasm is not there; build or upload it") {
		t.Errorf("module that is not in the set: %v", err)
	}
}

func TestLoadModulesErrors(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	text := write("text.wasm", []byte("no module"))
	empty := write("empty.wasm", []byte("\x00asm\x01\x00\x00\x00"))
	large := write("large.wasm", make([]byte, 200))
	tests := []struct {
		path string
		is   error
		want string
	}{
		{text, nf.ErrNotWasm, "module " + text + ": "},
		{empty, nf.ErrManifest, "module " + empty + ": "},
		{large, nf.ErrLimit, "longer than 100 bytes"},
		{filepath.Join(dir, "none.wasm"), os.ErrNotExist, "build it first, or correct the path"},
	}
	var spec Spec
	spec.Name, spec.Tenant = "edge", "demo"
	for _, tt := range tests {
		if _, err := LoadModule(tt.path, nf.Limits{ModuleBytes: 100}); !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %v and %q", tt.path, err, tt.is, tt.want)
		}
		spec.Functions = append(spec.Functions, FunctionSpec{Name: "f", Module: tt.path})
	}
	set, err := LoadModules([]Spec{spec}, nf.Limits{ModuleBytes: 100})
	if set != nil || strings.Count(err.Error(), "chain demo/edge: function f: ") != len(tests) {
		t.Errorf("together: %v, %v", set, err)
	}
}
