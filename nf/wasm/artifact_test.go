package wasm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sfc/dataplane/packet"
	"sfc/nf"
)

// build compiles a module of testdata without a runtime.
func build(tb testing.TB, name string) *Artifact {
	tb.Helper()
	a, err := Build(context.Background(), module(tb, name), nf.Limits{})
	if err != nil {
		tb.Fatal(err)
	}
	return a
}

// encode encodes an artifact.
func encode(tb testing.TB, a *Artifact) []byte {
	tb.Helper()
	b, err := a.Encode()
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// What was built, written and read again runs where there is no compiler, and
// decides as what was compiled in place.
func TestArtifactRuns(t *testing.T) {
	a, err := DecodeArtifact(encode(t, build(t, "swap_macs")))
	if err != nil {
		t.Fatal(err)
	}
	rt, err := Open(Options{NoCompiler: true})
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	if _, err := rt.Compile(module(t, "swap_macs")); !errors.Is(err, ErrNoCompiler) {
		t.Errorf("compiled without a compiler: %v", err)
	}
	m, err := rt.Load(a)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	clear(a.Wasm)
	clear(a.Code)
	f := &fixture{rt: rt, mem: newMemory(t, packet.BurstSize)}
	if f.group, err = rt.NewGroup(f.mem, []Hop{{Name: "swap_macs", Module: m, Config: []byte("{}")}}, GroupOptions{Tenant: "test", Ports: 2}); err != nil {
		t.Fatal(err)
	}
	defer f.group.Close()
	here := newFixture(t, fixtureOptions{}, "swap_macs")
	for _, f := range []*fixture{f, here} {
		f.fill(packet.BurstSize, 60)
		f.group.Process(&f.burst)
	}
	if diff := cmp.Diff(f.burst.Out, here.burst.Out); diff != "" {
		t.Errorf("loaded and compiled differ:\n%s", diff)
	}
	if m.Manifest.Name == "" || m.CodeBytes() == 0 {
		t.Errorf("module %q, %d bytes of code", m.Manifest.Name, m.CodeBytes())
	}
}

// What is not for this program and processor is refused before Wasmtime sees it,
// and the error says what differs.
func TestArtifactTarget(t *testing.T) {
	rt := openRuntime(t)
	for _, tt := range []struct {
		name, want string
		change     func(*Target)
	}{
		{"version", `Wasmtime "12.0.0", and this program has "` + wasmtimeVersion + `"`, func(t *Target) { t.Wasmtime = "12.0.0" }},
		{"platform", `platform "linux/s390x"`, func(t *Target) { t.Platform = "linux/s390x" }},
		{"settings", `settings "epochs"`, func(t *Target) { t.Settings = "epochs" }},
		{"processor", `lacks "avx1024 toaster"`, func(t *Target) { t.CPU = append(t.CPU, "avx1024", "toaster") }},
	} {
		a := build(t, "pass_all")
		tt.change(&a.Target)
		if _, err := rt.Load(a); !errors.Is(err, ErrTarget) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	a := build(t, "pass_all")
	a.Target.CPU = a.Target.CPU[:1] // a smaller processor
	m, err := rt.Load(a)
	if err != nil {
		t.Fatal(err)
	}
	m.Close()
}

// The version is that of the library; a module's code carries its first part.
func TestWasmtimeVersion(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", "github.com/bytecodealliance/wasmtime-go/v39").Output()
	if err != nil {
		t.Skipf("go list: %v", err)
	}
	if v := strings.TrimSpace(string(out)); v != "v"+wasmtimeVersion {
		t.Errorf("wasmtimeVersion is %q, the module's %q", wasmtimeVersion, v)
	}
}

// A module over the limits, or with a guest that wants what there is not, is
// refused by Build and by Load as by Compile.
func TestArtifactChecks(t *testing.T) {
	const limit = 100
	small := nf.Limits{ModuleBytes: limit}
	if _, err := Build(context.Background(), module(t, "pass_all"), small); !errors.Is(err, nf.ErrLimit) {
		t.Errorf("build: %v", err)
	}
	rt, err := Open(Options{NoCompiler: true, Limits: small})
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	if _, err := rt.Load(build(t, "pass_all")); !errors.Is(err, nf.ErrLimit) {
		t.Errorf("load: %v", err)
	}
	bad := build(t, "pass_all")
	for _, code := range [][]byte{nil, []byte("no machine code"), bad.Wasm} {
		bad.Code = code
		if _, err := openRuntime(t).Load(bad); err == nil || !strings.Contains(err.Error(), "load module") {
			t.Errorf("%d bytes of something else were loaded: %v", len(code), err)
		}
	}
	over, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Build(over, module(t, "pass_all"), nf.Limits{}); !errors.Is(err, context.Canceled) {
		t.Errorf("build after its time: %v", err)
	}
}

// Bytes that are no artifact are refused by name: cut short anywhere, one bit
// changed anywhere, or lengths that lie, under a sum that is right.
func TestHostileArtifacts(t *testing.T) {
	whole := encode(t, build(t, "pass_all"))
	refused := func(what string, b []byte) {
		t.Helper()
		if a, err := DecodeArtifact(b); !errors.Is(err, ErrArtifact) {
			t.Errorf("%s: %v, %v", what, a != nil, err)
		}
	}
	for n := 0; n < len(whole); n += 1 + len(whole)/200 {
		refused("cut short", whole[:n])
		changed := bytes.Clone(whole)
		changed[n] ^= 1 << (n % 8)
		refused("changed", changed)
	}
	refused("longer", append(bytes.Clone(whole), 0))
	for at := 8; at < artifactSum; at += 4 {
		for _, v := range []uint32{0, 1, maxTarget + 1, 1 << 31, 0xffffffff} {
			refused("lengths", resum(whole, func(b []byte) { binary.LittleEndian.PutUint32(b[at:], v) }))
		}
	}
	refused("another version", resum(whole, func(b []byte) { b[7]++ }))
	refused("no target", resum(whole, func(b []byte) { b[artifactHead] = '[' }))
	if _, err := (&Artifact{Target: Target{Wasmtime: strings.Repeat("x", maxTarget)}}).Encode(); err == nil {
		t.Error("a target without end was encoded")
	}
}

// resum changes an encoded artifact and gives it the sum of what it is then.
func resum(whole []byte, change func([]byte)) []byte {
	b := bytes.Clone(whole)
	change(b)
	sum := sha256.Sum256(slices.Concat(b[:artifactSum], b[artifactHead:]))
	copy(b[artifactSum:], sum[:])
	return b
}

// What is decoded is encoded to the same bytes again, whatever they are.
func FuzzDecodeArtifact(f *testing.F) {
	a := &Artifact{Wasm: []byte("module"), Code: []byte("code"), Target: ThisTarget()}
	b, err := a.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b[:artifactSum], b[artifactHead:])
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, head, rest []byte) {
		head = append(head, make([]byte, artifactSum)...)[:artifactSum]
		sum := sha256.Sum256(slices.Concat(head, rest))
		b := slices.Concat(head, sum[:], rest)
		a, err := DecodeArtifact(b)
		if err != nil {
			if !errors.Is(err, ErrArtifact) {
				t.Fatal(err)
			}
			return
		}
		again, err := a.Encode()
		if err != nil {
			return // a target that grew when it was written again
		}
		second, err := DecodeArtifact(again)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(a, second); diff != "" {
			t.Fatal(diff)
		}
	})
}
