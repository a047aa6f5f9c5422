package nf

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bytecodealliance/wasmtime-go/v39"
)

const testdata = "wasm/testdata"

// sample is a module of testdata with its stated expectation.
type sample struct {
	name       string // e.g. hostile/wrong_abi
	kind, text string // of ";; expect: kind: text", empty for a good module of several uses
	wasm       []byte
}

// samples assembles the modules of a folder of testdata.
func samples(tb testing.TB, folder string) []sample {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join(testdata, folder, "*.wat"))
	if err != nil || len(files) == 0 {
		tb.Fatalf("no modules in %s: %v", folder, err)
	}
	var all []sample
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		wasm, err := wasmtime.Wat2Wasm(string(text))
		if err != nil {
			tb.Fatalf("%s: %v", file, err)
		}
		if _, manifest, ok := strings.Cut(string(text), "\n;; manifest: "); ok {
			manifest, _, _ = strings.Cut(manifest, "\n")
			if wasm, err = AppendManifest(wasm, []byte(manifest)); err != nil {
				tb.Fatalf("%s: %v", file, err)
			}
		}
		_, expect, ok := strings.Cut("\n"+string(text), "\n;; expect: ")
		expect, _, _ = strings.Cut(expect, "\n")
		kind, rest, found := strings.Cut(expect, ": ")
		if !strings.HasPrefix(string(text), ";; ") || ok != found || !ok && folder != "good" {
			tb.Fatalf("%s: starts with %.80q; want ;; what it does, ;; expect: kind: text", file, text)
		}
		all = append(all, sample{folder + "/" + strings.TrimSuffix(filepath.Base(file), ".wat"), kind, rest, wasm})
	}
	return all
}

// refusal is what Inspect and Check say together.
func refusal(wasm []byte) error {
	m, err := Inspect(wasm)
	if err != nil {
		return err
	}
	return Check(m, Limits{})
}

// Every module of testdata is refused for the reason it states, or passes
// because its wickedness shows only when it runs.
func TestSamples(t *testing.T) {
	kinds := map[string]bool{
		"": true, "refused": true, "instantiate": true, "configure": true, "tick": true, "fault": true, "rare": true,
		"drop": true, "verdict": true, "limit": true,
	}
	for _, folder := range []string{"hostile", "good"} {
		for _, s := range samples(t, folder) {
			t.Run(s.name, func(t *testing.T) {
				err := refusal(s.wasm)
				switch {
				case !kinds[s.kind]:
					t.Errorf("unknown expectation %q: see testdata/README.md", s.kind)
				case s.kind == "refused" && err == nil:
					t.Errorf("not refused, want %q", s.text)
				case s.kind == "refused" && !strings.Contains(err.Error(), s.text):
					t.Errorf("refused with %q, want %q", err, s.text)
				case s.kind != "refused" && err != nil:
					t.Errorf("refused: %v", err)
				}
				if s.kind == "refused" && len(Refusals(err)) != 1 {
					t.Errorf("%d errors, want one fault per file: %v", len(Refusals(err)), err)
				}
				for _, e := range Refusals(err) {
					if r := (*Refusal)(nil); !errors.As(e, &r) || r.Err == nil || r.What == "" || r.Cure == "" {
						t.Errorf("error without thing, cause or cure: %#v", e)
					}
				}
			})
		}
	}
}

func TestNotWasm(t *testing.T) {
	script, err := os.ReadFile(testdata + "/hostile/not_wasm.bin")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, in, want string }{
		{"script", string(script), `starts with "#!/bin/s"`},
		{"empty", "", "the module is empty"},
		{"text", " (module)", "WebAssembly's text format"},
		{"elf", "\x7fELF\x02\x01\x01\x00\x00", "native ELF"},
		{"magic only", "\x00asm", "not a WebAssembly module"},
		{"version", "\x00asm\x02\x00\x00\x00", "binary version 0x2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Inspect([]byte(tt.in))
			wantRefusal(t, err, ErrNotWasm, tt.want)
			if _, err := AppendManifest([]byte(tt.in), nil); err == nil {
				t.Error("AppendManifest took it")
			}
		})
	}
}
