// Package sfc_test keeps the repository's layout: which package may import
// which, and where unusual dependencies may appear.
package sfc_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sfc/testbed/gate"
)

// levels is the order of the packages: each imports only from lower levels, so
// that packets know nothing of chains and chains nothing of sockets or Wasm.
// A package that is not here is an error: give it its place.
var levels = map[string]int{
	// What everything agrees on.
	"ctrl/api":          0,
	"ctrl/ipc":          0,
	"dataplane/arena":   0,
	"dataplane/ethtool": 0,
	"dataplane/packet":  0,
	"dataplane/ring":    0,
	"dataplane/steer":   0,
	"nf/sdk/c":          0,

	// Parts that stand alone.
	"ctrl/observe":       2,
	"ctrl/confine":       1,
	"ctrl/api/openapi":   1,
	"ctrl/client":        1,
	"ctrl/place":         1,
	"ctrl/ports":         1,
	"ctrl/plane":         1,
	"ctrl/store":         1,
	"dataplane/classify": 1,
	"dataplane/cpu":      1,
	"dataplane/filter":   1,
	"dataplane/flow":     1,
	"dataplane/keep":     1,
	"dataplane/route":    1,
	"nf":                 1,
	"testbed/capture":    1,
	"testbed/gate":       1,
	"testbed/netns":      1,

	// Each knows one neighbour: the tenant, the kernel, the sandbox.
	"bpf":                 2,
	"chains":              2,
	"ctrl/functions/sign": 2,
	"ctrl/kernelipc":      2,
	"ctrl/planeipc":       2,
	"dataplane/xsk":       2,
	"nf/build":            2,
	"nf/native":           2,
	"nf/wasm":             2,
	"testbed/trafgen":     2,

	// What puts them to work.
	"ctrl/child":         3,
	"ctrl/functions":     3,
	"ctrl/functions/oci": 3,
	"ctrl/compile":       3,
	"dataplane":          3,
	"nf/catalog":         3,
	"nf/nftest":          3,

	// What knows them all.
	"ctrl/agent":     4,
	"ctrl/keeper":    4,
	"ctrl/reconcile": 4,
	"ctrl/server":    4,

	// The control plane as a whole.
	"ctrl/control": 5,

	// Hosts and links around it.
	"testbed/bench":    5,
	"testbed/daemon":   5,
	"testbed/abuse":    5,
	"testbed/lab":      5,
	"testbed/record":   5,
	"testbed/replay":   5,
	"testbed/scenario": 5,

	// Programs.
	"cmd/sfcctl":      6,
	"cmd/sfcd":        6,
	"testbed/testsum": 6,
}

// owners says which packages may import a dependency, so that it can be
// replaced in one place. A trailing /... means the folder and all below; tests
// lists those whose test files may import it as well.
var owners = []struct {
	dependency  string
	code, tests []string
}{
	{"github.com/cilium/ebpf", []string{"bpf", "testbed/..."}, []string{"dataplane/xsk"}},
	{"github.com/bytecodealliance/wasmtime-go", []string{"nf/wasm"}, []string{"cmd/sfcctl", "ctrl/compile", "dataplane", "nf/...", "testbed/daemon", "testbed/scenario"}},
	{"github.com/nats-io", []string{"ctrl/store"}, nil},
	{"github.com/minio/highwayhash", []string{"ctrl/store"}, nil},
	{"oras.land/oras-go", []string{"ctrl/functions/oci"}, nil},
	{"github.com/opencontainers", []string{"ctrl/functions/oci"}, nil},
	{"github.com/google/go-containerregistry", nil, []string{"ctrl/functions/oci"}},
	{"github.com/vishvananda/netlink", []string{"bpf", "ctrl/ports", "dataplane/route", "testbed/..."}, []string{"dataplane/xsk"}},
	{"github.com/prometheus/client_golang", []string{"ctrl/observe"}, nil},
	{"github.com/santhosh-tekuri/jsonschema", []string{"nf"}, []string{"ctrl/api/openapi", "ctrl/server"}},
	{"github.com/spf13/cobra", []string{"cmd/..."}, nil},
	{"go.yaml.in/yaml", []string{"chains", "cmd/sfcd"}, nil},
	{"sigs.k8s.io/yaml", nil, nil},
	{"github.com/google/go-cmp", nil, []string{"..."}},
	{"pgregory.net/rapid", nil, []string{"..."}},
	{"testing", []string{"testbed/gate", "nf/nftest"}, []string{"..."}},
}

// mayImportUnsafe says whether a file may import unsafe: its name warns the
// reader, or it is the cgo shim.
func mayImportUnsafe(pkg, file string) bool {
	base := strings.TrimSuffix(strings.TrimSuffix(file, ".go"), "_test")
	return strings.HasSuffix(base, "_unsafe") || pkg == "nf/wasm" && strings.HasPrefix(base, "shim")
}

// pkg is what go list says about a package.
type pkg struct {
	ImportPath, Dir                              string
	GoFiles, CgoFiles, TestGoFiles, XTestGoFiles []string
	Imports, TestImports, XTestImports           []string
}

// name is the import path within the module.
func (p *pkg) name() string { return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, "sfc"), "/") }

func listPackages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command(gate.Tool(t, "go"), "list", "-e", "-json=ImportPath,Dir,GoFiles,CgoFiles,TestGoFiles,XTestGoFiles,Imports,TestImports,XTestImports", "./...")
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, complaints.String())
	}
	var list []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

func TestLayout(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range listPackages(t) {
		name := p.name()
		if name == "" {
			continue // this test
		}
		seen[name] = true
		for _, complaint := range checkImports(name, p.Imports, append(p.TestImports, p.XTestImports...)) {
			t.Error(complaint)
		}
		for _, complaint := range checkUnsafe(t, &p) {
			t.Error(complaint)
		}
	}
	if len(seen) < 10 {
		t.Errorf("only %d packages were found", len(seen))
	}
}

// checkImports returns what is wrong with the imports of package name.
func checkImports(name string, imports, testImports []string) (complaints []string) {
	complain := func(format string, args ...any) {
		complaints = append(complaints, fmt.Sprintf(format, args...))
	}
	level, known := levels[name]
	if !known {
		complain("package %s has no level: give it its place in levels", name)
		return complaints
	}
	for _, i := range imports {
		dep, ours := strings.CutPrefix(i, "sfc/")
		if !ours {
			continue
		}
		if depLevel, known := levels[dep]; !known {
			complain("%s imports %s, which has no level: give it its place in levels", name, dep)
		} else if depLevel >= level {
			complain("%s (level %d) imports %s (level %d): only lower levels are allowed", name, level, dep, depLevel)
		}
	}
	for _, o := range owners {
		for _, i := range imports {
			if under(i, o.dependency) && !matches(name, o.code) {
				complain("%s imports %s: only %v may", name, i, o.code)
			}
		}
		for _, i := range testImports {
			if under(i, o.dependency) && !matches(name, o.code) && !matches(name, o.tests) {
				complain("tests of %s import %s: only those of %v may", name, i, append(o.code, o.tests...))
			}
		}
	}
	return complaints
}

// under reports whether an import path is dep or below it.
func under(path, dep string) bool {
	return path == dep || strings.HasPrefix(path, dep+"/")
}

func matches(name string, patterns []string) bool {
	for _, p := range patterns {
		dir, tree := strings.CutSuffix(p, "...")
		if p == name || tree && (dir == "" || strings.HasPrefix(name+"/", dir)) {
			return true
		}
	}
	return false
}

// checkUnsafe reads the imports of every file of p.
func checkUnsafe(t *testing.T, p *pkg) (complaints []string) {
	t.Helper()
	for _, files := range [][]string{p.GoFiles, p.CgoFiles, p.TestGoFiles, p.XTestGoFiles} {
		for _, file := range files {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, file), nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range f.Imports {
				if i.Path.Value == `"unsafe"` && !mayImportUnsafe(p.name(), file) {
					complaints = append(complaints, fmt.Sprintf("%s/%s imports unsafe: move what needs it to a file named *_unsafe.go", p.name(), file))
				}
			}
		}
	}
	return complaints
}

// The rules themselves: a layout test that never fails proves nothing.
func TestLayoutRules(t *testing.T) {
	tests := []struct {
		name           string
		imports, tests []string
		want           string // "" means allowed
	}{
		{"chains", []string{"sfc/nf", "sfc/dataplane/classify", "go.yaml.in/yaml/v3", "fmt"}, nil, ""},
		{"chains", []string{"sfc/nf/wasm"}, nil, "chains (level 2) imports nf/wasm (level 2): only lower levels"},
		{"nf", []string{"sfc/chains"}, nil, "nf (level 1) imports chains (level 2)"},
		{"ctrl", nil, nil, "package ctrl has no level"},
		{"chains", []string{"sfc/ctrl"}, nil, "chains imports ctrl, which has no level"},
		{"dataplane", []string{"github.com/cilium/ebpf/link"}, nil, "dataplane imports github.com/cilium/ebpf/link: only [bpf testbed/...] may"},
		{"testbed/netns", []string{"github.com/cilium/ebpf"}, nil, ""},
		{"dataplane/xsk", nil, []string{"github.com/cilium/ebpf"}, ""},
		{"dataplane", nil, []string{"github.com/cilium/ebpf"}, "tests of dataplane import github.com/cilium/ebpf"},
		{"dataplane", []string{"github.com/bytecodealliance/wasmtime-go/v39"}, nil, "only [nf/wasm] may"},
		{"nf/nftest", nil, []string{"github.com/bytecodealliance/wasmtime-go/v39"}, ""},
		{"dataplane", []string{"testing"}, nil, "dataplane imports testing"},
		{"dataplane", nil, []string{"testing", "sfc/cmd/sfcctl"}, ""},
	}
	for _, tt := range tests {
		got := strings.Join(checkImports(tt.name, tt.imports, tt.tests), "\n")
		if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
			t.Errorf("%s importing %v, tests %v: %q, want %q", tt.name, tt.imports, tt.tests, got, tt.want)
		}
	}
	for file, want := range map[string]bool{"mem_unsafe.go": true, "mem_unsafe_test.go": true, "shim.go": true, "shim_calls.go": true, "mem.go": false} {
		if got := mayImportUnsafe("nf/wasm", file); got != want {
			t.Errorf("nf/wasm/%s may import unsafe: %v, want %v", file, got, want)
		}
	}
	if mayImportUnsafe("dataplane", "shim.go") {
		t.Error("dataplane/shim.go may import unsafe")
	}
}
