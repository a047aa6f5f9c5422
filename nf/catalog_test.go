package nf

import (
	"os"
	"path/filepath"
	"testing"
)

// Every function of the catalogue passes the checks, with the defaults.
func TestCatalogueIsDeployable(t *testing.T) {
	files, err := filepath.Glob("catalog/*/*.wasm")
	if err != nil || len(files) == 0 {
		t.Fatalf("no modules in the catalogue: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			wasm, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			m, err := Inspect(wasm)
			if err != nil {
				t.Fatal(err)
			}
			if err := Check(m, Limits{}); err != nil {
				t.Fatal(err)
			}
			sp, ok := m.StackPointer()
			if !ok || (sp < DataStart) != (StackTop(m) > 0) {
				t.Errorf("stack pointer %#x (%v), StackTop %#x", sp, ok, StackTop(m))
			}
			t.Logf("%d bytes, %d functions, stack from %#x, memory %v", m.Size, m.Functions, sp, m.Memories[0].Pages)
		})
	}
}
