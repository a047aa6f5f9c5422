package build_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sfc/dataplane/packet"
	"sfc/nf/build"
	"sfc/nf/nftest"
	"sfc/nf/wasm"
	"sfc/testbed/capture"
)

// needCompiler skips the test on a machine without clang for Wasm.
func needCompiler(t *testing.T, err error) {
	t.Helper()
	if errors.Is(err, build.ErrNoCompiler) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A new function builds, passes the checks, and does what its test expects.
func TestNewFunctionWorks(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sub", "dropper")
	if err := build.New(dir, "dropper"); err != nil {
		t.Fatal(err)
	}
	path, err := build.Build(dir)
	needCompiler(t, err)
	if path != filepath.Join(dir, "dropper.wasm") {
		t.Errorf("built %s", path)
	}
	module, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rt, err := wasm.Open(wasm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	fn, err := nftest.NewSandboxed(rt, module)
	if err != nil {
		t.Fatal(err)
	}
	defer fn.Close()
	config, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := fn.Configure(config); err != nil {
		t.Fatal(err)
	}
	list, err := capture.ReadFile(filepath.Join(dir, "in.pcap"))
	if err != nil {
		t.Fatal(err)
	}
	var packets []nftest.Packet
	for _, p := range list {
		if !packet.VerifyChecksums(p.Data) {
			t.Errorf("wrong checksum in %x", p.Data)
		}
		packets = append(packets, nftest.NewPacket(p.Data, uint64(p.TimeNs)))
	}
	var want struct {
		Sent, Received, Passed int
		Dropped                map[string]int
	}
	text, err := os.ReadFile(filepath.Join(dir, "expect.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	received, dropped := 0, 0
	for _, r := range fn.Process(packets) {
		switch r.Verdict {
		case packet.Next:
			received++ // at the far end
		case packet.Drop:
			dropped++
		}
	}
	if len(packets) != want.Sent || received != want.Received || want.Passed != 0 || dropped != want.Dropped["dropper.blocked_port"] {
		t.Errorf("%d packets, %d received, %d dropped; want %+v", len(packets), received, dropped, want)
	}
	for _, bad := range []string{`{}`, `{"port":65536}`, `{"port":23,"x":1}`} {
		if fn.Configure([]byte(bad)) == nil {
			t.Errorf("accepts %s", bad)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	dir := t.TempDir()
	if err := build.New(dir, "dropper"); !errors.Is(err, build.ErrExists) {
		t.Errorf("existing folder: %v", err)
	}
	for _, name := range []string{"", "Dropper", "a_b", "9lives", "a-", strings.Repeat("a", 33), "../x", "a b"} {
		if err := build.New(filepath.Join(dir, "new"), name); !errors.Is(err, build.ErrBadName) {
			t.Errorf("name %q: %v", name, err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// broken makes a folder with a new function and breaks it.
func broken(t *testing.T, breakIt func(dir string) error) error {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "f")
	if err := build.New(dir, "f"); err != nil {
		t.Fatal(err)
	}
	if err := breakIt(dir); err != nil {
		t.Fatal(err)
	}
	_, err := build.Build(dir)
	if err == nil {
		t.Fatal("built")
	}
	if errors.Is(err, build.ErrNoCompiler) {
		t.Skip(err)
	}
	return err
}

func TestBuildErrors(t *testing.T) {
	for _, tc := range []struct {
		name, file, content, want string
	}{
		{"syntax", "f.c", "int x = ;", "expected expression"},
		{"warning", "f.c", "static int unused;", "unused"},
		{"no such function", "f.c", "#include \"sfc.h\"\nvoid other(void);\nSFC_EXPORT(sfc_process) void sfc_process(uint32_t n) { (void)n; other(); }", "undefined symbol: other"},
		{"no sfc_process", "f.c", "#include \"sfc.h\"", "sfc_process"},
		{"manifest", "manifest.json", `{"name": "F"}`, `name "F"`},
		{"manifest no JSON", "manifest.json", `{"name": "f",}`, "invalid character"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := broken(t, func(dir string) error {
				return os.WriteFile(filepath.Join(dir, tc.file), []byte(tc.content), 0o644)
			})
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
	err := broken(t, func(dir string) error { return os.Remove(filepath.Join(dir, "f.c")) })
	if !errors.Is(err, build.ErrNoSource) {
		t.Errorf("no source: %v", err)
	}
}

// Without tools the error says how to get them.
func TestNoCompiler(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "f")
	if err := build.New(dir, "f"); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := build.Build(dir); !errors.Is(err, build.ErrNoCompiler) || !strings.Contains(err.Error(), "apt-get install") {
		t.Error(err)
	}
}

// Two builds give the same bytes, wherever they run.
func TestBuildIsReproducible(t *testing.T) {
	var first []byte
	for range 2 {
		dir := filepath.Join(t.TempDir(), "f")
		if err := build.New(dir, "f"); err != nil {
			t.Fatal(err)
		}
		path, err := build.Build(dir)
		needCompiler(t, err)
		module, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if first != nil && !bytes.Equal(first, module) {
			t.Error("two builds differ")
		}
		first = module
	}
}
