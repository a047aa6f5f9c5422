package nftest

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

typedef int32_t (*configure_fn)(uint32_t, uint32_t);
typedef void (*process_fn)(uint32_t);
typedef void (*flow_end_fn)(uint32_t);

static int32_t call_configure(void *fn, uint32_t ptr, uint32_t len) {
	return ((configure_fn)fn)(ptr, len);
}

// call_process returns how long the call took, in ns.
static uint64_t call_process(void *fn, uint32_t n) {
	struct timespec a, b;
	clock_gettime(CLOCK_MONOTONIC, &a);
	((process_fn)fn)(n);
	clock_gettime(CLOCK_MONOTONIC, &b);
	return (uint64_t)(b.tv_sec - a.tv_sec) * 1000000000u + (uint64_t)(b.tv_nsec - a.tv_nsec);
}

static void call_flow_end(void *fn, uint32_t slot) { ((flow_end_fn)fn)(slot); }

static void set_base(void *symbol, void *base) { *(void **)symbol = base; }
*/
import "C"

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"sfc/dataplane/packet"
	"sfc/nf"
	"sfc/nf/build"
)

// Compiled runs a function's C sources compiled for this machine: the yardstick
// for the Wasm build, and what a sanitizer can watch. It has no sandbox.
type Compiled struct {
	mem                []byte // guest address 0 to nf.DataStart
	w                  window
	lib                unsafe.Pointer
	configure, handler unsafe.Pointer
	flowEnd            unsafe.Pointer // nil: the function has none
	manifest           *nf.Manifest
	host               unsafe.Pointer // where the library looks for its host
	sink               unsafe.Pointer // where it looks for room for records
	link               *hostLink      // nil: the function does not bind
	room               Room
	slotBytes          int    // per flow, as configured
	ns                 uint64 // spent in the function
}

// NewCompiled compiles the sources in dir with build.Native, which gets the
// flags, and loads them. Errors wrap build.ErrNoCompiler when there is no clang.
// The caller calls Close.
func NewCompiled(dir string, flags ...string) (*Compiled, error) {
	tmp, err := os.MkdirTemp("", "sfc-compiled-")
	if err != nil {
		return nil, fmt.Errorf("compile %s: %w", dir, err)
	}
	defer os.RemoveAll(tmp)
	manifest, err := readManifest(dir)
	if err != nil {
		return nil, fmt.Errorf("compile %s: %w", dir, err)
	}
	path := filepath.Join(tmp, "function.so")
	if err := build.Native(dir, path, flags...); err != nil {
		return nil, err
	}
	return LoadCompiled(path, manifest)
}

// readManifest reads the manifest of the sources in dir.
func readManifest(dir string) (*nf.Manifest, error) {
	text, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		return nil, err
	}
	m, err := nf.ParseManifest(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return m, nil
}

// LoadCompiled loads a library made with build.Native, of a function with this
// manifest. Two of the same path share their state.
func LoadCompiled(path string, manifest *nf.Manifest) (*Compiled, error) {
	mem, err := unix.Mmap(-1, 0, nf.DataStart, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("map the guest's memory: %w", err)
	}
	c := &Compiled{mem: mem, manifest: manifest, w: window{descs: packet.DescsAt(mem[nf.DescStart:]), frames: mem[nf.FramesStart:nf.PrivateStart]}}
	if err := c.load(path); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// load opens the library at path and finds what it exports.
func (c *Compiled) load(path string) error {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	c.lib = C.dlopen(name, C.RTLD_NOW|C.RTLD_LOCAL)
	if c.lib == nil {
		return fmt.Errorf("load %s: %s", path, C.GoString(C.dlerror()))
	}
	symbols := map[string]*unsafe.Pointer{
		nf.ExportConfigure: &c.configure, nf.ExportProcess: &c.handler, nf.ExportFlowEnd: &c.flowEnd, "sfc_base": nil, "sfc_host": &c.host, "sfc_sink": &c.sink,
	}
	for symbol, where := range symbols {
		s := C.CString(symbol)
		p := C.dlsym(c.lib, s)
		C.free(unsafe.Pointer(s))
		switch {
		case p == nil && symbol == nf.ExportFlowEnd: // optional
		case p == nil:
			return fmt.Errorf("load %s: it does not export %s", path, symbol)
		case where == nil:
			C.set_base(p, unsafe.Pointer(&c.mem[0]))
		default:
			*where = p
		}
	}
	openSink(c.sink, c.mem[:nf.WindowStart]) // nothing else lies there
	return nil
}

// Configure is Runner's.
func (c *Compiled) Configure(config []byte) error {
	c.Records() // of the configuration before
	clear(c.mem[nf.CountersStart : nf.CountersStart+8*nf.NumCounters])
	if err := unix.Madvise(c.mem[nf.SlotsStart:], unix.MADV_DONTNEED); err != nil { // zero from now on
		return fmt.Errorf("clear the flow state: %w", err)
	}
	c.slotBytes = c.manifest.FlowState(config)
	if err := c.unlink(); err != nil {
		return err
	}
	if slices.Contains(c.manifest.Capabilities, nf.CapabilityBind) {
		l, err := newLive(c.room)
		if err != nil {
			return err
		}
		c.w.live, c.link = l, newHostLink(c.host, l)
	}
	return c.Reconfigure(config)
}

// Reconfigure is Reconfigurer's.
func (c *Compiled) Reconfigure(config []byte) error {
	copy(c.mem[nf.ConfigStart:nf.ConfigStart+nf.ConfigMax], config)
	if code := C.call_configure(c.configure, nf.ConfigStart, C.uint32_t(len(config))); code != 0 {
		return &RefusedError{Code: int32(code)}
	}
	return nil
}

// Process is Runner's.
func (c *Compiled) Process(packets []Packet) []Result {
	return c.w.process(packets, func(descs []packet.Desc) { c.Burst(len(descs)) }, c.FlowEnd)
}

// unlink gives back what the last configuration took.
func (c *Compiled) unlink() error {
	link, l := c.link, c.w.live
	c.link, c.w.live = nil, nil
	link.close()
	return l.close()
}

// Limit is Limiter's.
func (c *Compiled) Limit(room Room) { c.room = room }

// Fill lays out one burst, at most packet.BurstSize packets, for [Compiled.Burst].
func (c *Compiled) Fill(packets []Packet) []packet.Desc { return c.w.fill(packets) }

// Burst runs the function once over the first n packets laid out.
func (c *Compiled) Burst(n int) {
	c.ns += uint64(C.call_process(c.handler, C.uint32_t(n)))
}

// FlowEnd is Runner's.
func (c *Compiled) FlowEnd(flows []uint32) {
	for _, slot := range slots(flows) {
		if c.flowEnd != nil {
			C.call_flow_end(c.flowEnd, C.uint32_t(slot))
		}
		start := nf.SlotsStart + int(slot)*c.slotBytes
		clear(c.mem[start : start+c.slotBytes])
	}
}

// FlowState is Keeper's.
func (c *Compiled) FlowState(n int) []byte { return c.mem[nf.SlotsStart:][:n*c.slotBytes] }

// Spent is the time in the function so far, in ns.
func (c *Compiled) Spent() float64 { return float64(c.ns) }

// Counters is Counter's.
func (c *Compiled) Counters() []uint64 {
	out := make([]uint64, nf.NumCounters)
	for i := range out {
		out[i] = binary.LittleEndian.Uint64(c.mem[nf.CountersStart+8*i:])
	}
	return out
}

// Close unloads the library and unmaps the memory.
func (c *Compiled) Close() error {
	err := c.unlink()
	if c.lib != nil {
		C.dlclose(c.lib)
		c.lib = nil
	}
	if c.mem == nil {
		return err
	}
	mem := c.mem
	c.mem = nil
	return errors.Join(err, unix.Munmap(mem))
}
