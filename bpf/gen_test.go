package bpf

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sfc/testbed/gate"
)

// The committed objects are what the sources compile to.
func TestObjectsAreFresh(t *testing.T) {
	gate.Tool(t, "clang-19")
	gate.Tool(t, "llvm-strip-19")
	gen, err := os.ReadFile("gen.go")
	if err != nil {
		t.Fatal(err)
	}
	lines := regexp.MustCompile(`(?m)^//go:generate go tool (bpf2go .*)$`).FindAllStringSubmatch(string(gen), -1)
	dir := t.TempDir()
	for _, line := range lines {
		args := strings.Fields(line[1])
		args = append([]string{"tool", args[0], "-output-dir", dir, "-go-package", "bpf"}, args[1:]...)
		cmd := exec.Command("go", args...)
		cmd.Env = append(os.Environ(), "GOPACKAGE=bpf")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", cmd, err, out)
		}
	}
	made, err := filepath.Glob(filepath.Join(dir, "*_bpfel.*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(made) != 2*len(lines) {
		t.Fatalf("%d generate lines made %v", len(lines), made)
	}
	for _, path := range made {
		name := filepath.Base(path)
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is stale (%v): run go generate ./bpf", name, err)
		}
	}
}
