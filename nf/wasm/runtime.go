package wasm

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bytecodealliance/wasmtime-go/v39"

	"sfc/nf"
)

// Options configure a [Runtime]. The zero value selects the defaults.
type Options struct {
	// Tick is the period of the epoch ticker: a guest that does not end is
	// stopped at most three of them after its budget. Default 500 us, at least
	// 100 us.
	Tick time.Duration
	// ScrapBytes is what a tenant's functions together may fill of the window
	// that nothing is mapped over. A multiple of 2 MiB. Default 16 MiB.
	ScrapBytes int
	// Mappings is the most memory mappings that all instances may have
	// together; one takes 23 with the default ScrapBytes, 24 with flow state.
	// Default nine tenths of what the kernel allows a process
	// (vm.max_map_count, usually 65,530: some 2,460 instances, spares
	// included). Go's own memory needs the rest. A function that is being
	// replaced has two versions' instances.
	Mappings int
	// Limits are checked before a module is compiled or loaded. Default
	// nf.Limits{}.
	Limits nf.Limits
	// NoCompiler makes a runtime that only loads what was built elsewhere.
	NoCompiler bool
}

// Runtime is the engine that guests run in, one per process. It owns the
// compiler, the epoch ticker and the accounts of tenants; Close it
// after every Module and Group made from it.
type Runtime struct {
	eng       *engine
	compiler  *wasmtime.Engine // nil without a compiler
	opts      Options
	attendant attendant

	mu      sync.Mutex
	tenants map[string]*tenant // by name
	closed  bool
}

// Open starts the runtime. Call it once and early: Wasmtime installs signal
// handlers that hand on to Go's.
func Open(opts Options) (*Runtime, error) {
	if opts.Tick == 0 {
		opts.Tick = 500 * time.Microsecond
	}
	if opts.ScrapBytes == 0 {
		opts.ScrapBytes = 16 << 20
	}
	if opts.Mappings == 0 {
		opts.Mappings = maxMapCount() / 10 * 9
	}
	if opts.Tick < 100*time.Microsecond || opts.Tick > time.Second {
		return nil, fmt.Errorf("wasm: tick %v is outside 100us to 1s", opts.Tick)
	}
	if opts.ScrapBytes < 2<<20 || opts.ScrapBytes%(2<<20) != 0 {
		return nil, fmt.Errorf("wasm: scrap of %d bytes is not a multiple of 2 MiB", opts.ScrapBytes)
	}
	eng, err := openEngine(uint32(opts.Tick/time.Microsecond), opts.Mappings)
	if err != nil {
		return nil, fmt.Errorf("wasm: %w", err)
	}
	rt := &Runtime{eng: eng, opts: opts, tenants: make(map[string]*tenant)}
	rt.attendant.start(eng)
	if !opts.NoCompiler {
		rt.compiler = newCompiler()
	}
	return rt, nil
}

// maxMapCount is the most mappings a process may have.
func maxMapCount() int {
	const usual = 65530
	text, err := os.ReadFile("/proc/sys/vm/max_map_count")
	if err != nil {
		return usual
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return usual
	}
	return n
}

// Close stops the ticker and frees the engine. It may be called again.
func (rt *Runtime) Close() error {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if rt.closed {
		return nil
	}
	rt.closed = true
	rt.attendant.stop()
	rt.eng.close()
	if rt.compiler != nil {
		rt.compiler.Close()
	}
	for _, t := range rt.tenants {
		t.log.close() // no group is left
	}
	clear(rt.tenants)
	return nil
}
