// Package compile turns modules of tenants into machine code, each in a process
// of its own that can be ended: the compiler is large, its input is a
// stranger's, and it cannot be interrupted.
//
//	Compiler --- cache on disk: by module, limits and target
//	   |
//	   '--- child: module in a memfd -> nf/wasm.Build -> artifact in a memfd
//	        limits of CPU time and memory, no sockets, no files, killed when
//	        it takes too long
package compile

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"time"

	"sfc/nf"
)

// Errors of this package.
var (
	// ErrRefused: the module is not what it has to be; the text says why. To
	// compile it again gives the same answer.
	ErrRefused = errors.New("module refused")
	// ErrTooLong: compiling took longer than it may, or more CPU time.
	ErrTooLong = errors.New("compiling takes too long")
	// ErrTooMuch: compiling needs more memory than it may.
	ErrTooMuch = errors.New("compiling takes too much memory")
	// ErrCrashed: the compiler ended otherwise.
	ErrCrashed = errors.New("compiler crashed")
)

// Options configure a [Compiler]. Command is required.
type Options struct {
	// Command returns the command for a child, which calls [Child]: without
	// standard input, output and descriptors.
	Command func() *exec.Cmd
	// Dir is where artifacts are cached. Empty: nowhere.
	Dir string
	// CacheBytes is how much lies there at most. Default 1 GiB.
	CacheBytes int64
	// Parallel is how many children there are at a time. Default one for every
	// two cores, so that packets do not wait for compilers.
	Parallel int
	// Wall is how long a module may take, CPU how much CPU time. Defaults 30 s
	// and 20 s.
	Wall, CPU time.Duration
	// MemoryBytes is how much memory a child may allocate. Default 2 GiB.
	MemoryBytes int64
	// Limits are checked on every module.
	Limits nf.Limits
}

func (o Options) withDefaults() Options {
	if o.CacheBytes == 0 {
		o.CacheBytes = 1 << 30
	}
	if o.Parallel == 0 {
		o.Parallel = max(1, runtime.NumCPU()/2)
	}
	if o.Wall == 0 {
		o.Wall = 30 * time.Second
	}
	if o.CPU == 0 {
		o.CPU = 20 * time.Second
	}
	if o.MemoryBytes == 0 {
		o.MemoryBytes = 2 << 30
	}
	o.Limits = o.Limits.WithDefaults()
	return o
}

func (o *Options) validate() error {
	if o.Command == nil {
		return errors.New("compiler without a command for its children")
	}
	if o.Parallel < 1 || o.Wall < 0 || o.CPU < 0 || o.MemoryBytes < 1<<28 || o.CacheBytes < 0 {
		return fmt.Errorf("compiler with %d children, %v, %v CPU time, %d bytes of memory and %d of cache: want at least one child and 256 MiB of memory",
			o.Parallel, o.Wall, o.CPU, o.MemoryBytes, o.CacheBytes)
	}
	return nil
}
