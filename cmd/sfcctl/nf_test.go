package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sfc/testbed/gate"
)

// emptyModule is the smallest module there is: magic number and version.
const emptyModule = "\x00asm\x01\x00\x00\x00"

func TestInspectCatalogue(t *testing.T) {
	modules, err := filepath.Glob("../../nf/catalog/*/*.wasm")
	if err != nil || len(modules) == 0 {
		t.Fatalf("%d modules, %v", len(modules), err)
	}
	for _, path := range modules {
		name := strings.TrimSuffix(filepath.Base(path), ".wasm")
		got := sfcctl(t, "nf", "inspect", path)
		if got.status != exitOK || got.stderr != "" {
			t.Errorf("%s: %+v", path, got)
		}
		for _, want := range []string{"manifest: " + name + " ", "function sfc_process (i32) -> ()", "memory: ", "checks: passed"} {
			if !strings.Contains(got.stdout, want) {
				t.Errorf("%s: output lacks %q:\n%s", name, want, got.stdout)
			}
		}
		got = sfcctl(t, "nf", "inspect", "--json", path)
		var r moduleReport
		if err := json.Unmarshal([]byte(got.stdout), &r); err != nil || got.status != exitOK {
			t.Fatalf("%s: %v\n%s", path, err, got.stdout)
		}
		if r.Manifest == nil || r.Manifest.Name != name || len(r.Memories) != 1 || len(r.Refusals) != 0 {
			t.Errorf("%s: %s", path, got.stdout)
		}
	}
}

func TestInspectRefused(t *testing.T) {
	path := writeFile(t, "empty.wasm", []byte(emptyModule))
	got := sfcctl(t, "nf", "inspect", path)
	if got.status != exitFailed || !strings.Contains(got.stdout, "checks: failed\n") || !strings.Contains(got.stderr, "may not be deployed") {
		t.Errorf("%+v", got)
	}
	got = sfcctl(t, "nf", "inspect", "--json", path)
	var r moduleReport
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil || got.status != exitFailed || len(r.Refusals) == 0 || r.Manifest != nil {
		t.Errorf("%v: %+v", err, got)
	}
}

func TestInspectErrors(t *testing.T) {
	text := writeFile(t, "text.wasm", []byte("not wasm"))
	tests := []struct{ path, want string }{
		{text, "module " + text + ": not a WebAssembly module"},
		{"none.wasm", "stat none.wasm: no such file or directory; give the path of a .wasm file"},
		{t.TempDir(), "is not a file of at most"},
	}
	for _, tt := range tests {
		got := sfcctl(t, "nf", "inspect", tt.path)
		if got.status != exitFailed || got.stdout != "" || !strings.Contains(got.stderr, tt.want) {
			t.Errorf("%+v, want %q", got, tt.want)
		}
	}
}

// An export's name comes from a stranger and may hold anything.
func TestInspectEscapesNames(t *testing.T) {
	// One function type () -> (), one function, exported as ESC [2J, empty body.
	module := emptyModule + "\x01\x04\x01\x60\x00\x00" + "\x03\x02\x01\x00" + "\x07\x08\x01\x04\x1b[2J\x00\x00" + "\x0a\x04\x01\x02\x00\x0b"
	got := sfcctl(t, "nf", "inspect", writeFile(t, "esc.wasm", []byte(module)))
	if strings.Contains(got.stdout+got.stderr, "\x1b") || !strings.Contains(got.stdout, `function \x1b[2J () -> ()`) {
		t.Errorf("%+q", got.stdout+got.stderr)
	}
}

func TestBuild(t *testing.T) {
	got := sfcctl(t, "nf", "build", t.TempDir())
	if got.status != exitFailed || !strings.HasPrefix(got.stderr, "sfcctl: build ") {
		t.Errorf("empty folder: %+v", got)
	}
	gate.Tool(t, "clang-19")
	gate.Tool(t, "wasm-ld-19")
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../../nf/catalog/hop")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "hop.wasm")); err != nil {
		t.Fatal(err)
	}
	got = sfcctl(t, "nf", "build", dir)
	if got != (result{exitOK, filepath.Join(dir, "hop.wasm") + "\n", ""}) {
		t.Errorf("%+v", got)
	}
}
