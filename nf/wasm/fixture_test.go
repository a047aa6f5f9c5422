package wasm

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bytecodealliance/wasmtime-go/v39"

	"sfc/dataplane/arena"
	"sfc/dataplane/packet"
	"sfc/nf"
)

// repeat returns name n times.
func repeat(name string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = name
	}
	return out
}

// openRuntime opens a runtime that the test closes.
func openRuntime(tb testing.TB) *Runtime {
	tb.Helper()
	rt, err := Open(Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := rt.Close(); err != nil {
			tb.Error(err)
		}
	})
	return rt
}

// module assembles testdata/{good,hostile}/NAME.wat.
func module(tb testing.TB, name string) []byte {
	tb.Helper()
	for _, dir := range []string{"good", "hostile"} {
		text, err := os.ReadFile(filepath.Join("testdata", dir, name+".wat"))
		if err == nil {
			return assemble(tb, name, text)
		}
	}
	tb.Fatalf("no testdata/*/%s.wat", name)
	return nil
}

// assemble turns WAT into a module; a line ";; manifest: {...}" becomes the
// manifest section.
func assemble(tb testing.TB, name string, text []byte) []byte {
	tb.Helper()
	wasm, err := wasmtime.Wat2Wasm(string(text))
	if err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
	for line := range strings.Lines(string(text)) {
		if m, ok := strings.CutPrefix(line, ";; manifest: "); ok {
			if wasm, err = nf.AppendManifest(wasm, bytes.TrimSpace([]byte(m))); err != nil {
				tb.Fatalf("%s: %v", name, err)
			}
		}
	}
	return wasm
}

// newMemory makes the arena of a path.
func newMemory(tb testing.TB, chunks int) Memory {
	tb.Helper()
	control, err := NewControl()
	if err != nil {
		tb.Fatal(err)
	}
	frames, err := arena.Open("frames", chunks*packet.ChunkSize, arena.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := frames.Close(); err != nil {
			tb.Error(err)
		}
		if err := control.Close(); err != nil {
			tb.Error(err)
		}
	})
	return Memory{Control: control, Frames: frames}
}

type fixtureOptions struct {
	runtime *Runtime
	memory  *Memory
	open    bool
	group   GroupOptions
}

// fixture is a group of functions and one burst for them.
type fixture struct {
	rt    *Runtime
	mem   Memory
	group *Group
	burst packet.Burst
}

// newFixture compiles the named modules and makes a group of them.
func newFixture(tb testing.TB, opts fixtureOptions, names ...string) *fixture {
	tb.Helper()
	f := &fixture{rt: opts.runtime}
	if f.rt == nil {
		f.rt = openRuntime(tb)
	}
	if opts.memory != nil {
		f.mem = *opts.memory
	} else {
		f.mem = newMemory(tb, packet.BurstSize)
	}
	compiled := map[string]*Module{}
	var hops []Hop
	for _, name := range names {
		m := compiled[name]
		if m == nil {
			var err error
			if m, err = f.rt.Compile(module(tb, name)); err != nil {
				tb.Fatalf("%s: %v", name, err)
			}
			tb.Cleanup(m.Close)
			compiled[name] = m
		}
		hops = append(hops, Hop{Name: name, Module: m, Config: []byte("{}"), Open: opts.open})
	}
	opts.group.Ports = max(opts.group.Ports, 2)
	opts.group.Tenant = "test"
	var err error
	if f.group, err = f.rt.NewGroup(f.mem, hops, opts.group); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := f.group.Close(); err != nil {
			tb.Error(err)
		}
	})
	return f
}

// fill puts n frames of the given length in chunks 0 to n-1, each with its
// number in every byte, and describes them.
func (f *fixture) fill(n, length int) {
	region := f.mem.Frames.Bytes()
	descs := f.mem.Descs()
	f.burst.N = uint32(n)
	for k := range n {
		fr := packet.Frame{Chunk: uint32(k) * packet.ChunkSize, Off: packet.Headroom, Len: uint16(length)}
		data := fr.Bytes(region)
		for i := range data {
			data[i] = byte(k)
		}
		f.burst.Frames[k] = fr
		descs[k] = packet.Desc{Chunk: nf.FramesStart + fr.Chunk, Off: fr.Off, Len: fr.Len, L3: fr.Off + 14, OutPort: 1}
	}
}
