package compile

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sfc/ctrl/confine"
	"sfc/ctrl/ipc"
	"sfc/nf"
	"sfc/nf/wasm"
)

// Compiler compiles modules in children. Its methods may be called from any
// goroutine.
type Compiler struct {
	opts  Options
	cache *cache // nil: none
	room  chan struct{}

	mu      sync.Mutex
	running map[string]*flight // by key
}

// flight is one module under way, for everybody who wants it.
type flight struct {
	done    chan struct{}
	waiting int // guarded by Compiler.mu; with the last one it is ended
	cancel  context.CancelFunc
	code    []byte
	err     error
}

// New returns a compiler. It needs no privileges.
func New(o Options) (*Compiler, error) {
	c := &Compiler{opts: o.withDefaults(), running: map[string]*flight{}}
	if err := c.opts.validate(); err != nil {
		return nil, err
	}
	c.room = make(chan struct{}, c.opts.Parallel)
	if o.Dir != "" {
		var err error
		if c.cache, err = openCache(o.Dir, c.opts.CacheBytes); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// key names what comes out for a module: its digest, the limits that it is
// checked against and the target. Equal keys give equal code.
func (c *Compiler) key(digest string) (string, error) {
	about, err := json.Marshal(struct {
		Digest string
		Limits nf.Limits
		Target wasm.Target
	}{digest, c.opts.Limits, wasm.ThisTarget()})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(about)
	return hex.EncodeToString(sum[:]), nil
}

// Open returns a reader of a module. Where it has a method Close, that is
// called.
type Open = func(context.Context) (io.Reader, error)

// Artifact returns the encoded artifact of the module with a digest (SHA-256, 64
// hexadecimal digits) in a sealed memfd that the caller closes, from the cache
// if it is there; only else is open called. Who asks for the same module at the
// same time gets the same one. It ends when ctx does.
func (c *Compiler) Artifact(ctx context.Context, digest string, open func(context.Context) (io.Reader, error)) (*os.File, error) {
	key, err := c.key(digest)
	if err != nil {
		return nil, err
	}
	code := c.cache.get(key)
	if code == nil {
		f := c.board(key, digest, open)
		select {
		case <-f.done:
			if f.err != nil {
				return nil, f.err
			}
			code = f.code
		case <-ctx.Done():
			c.leave(key, f)
			return nil, ctx.Err()
		}
	}
	return ipc.Memfd("code", code)
}

// board joins the flight of a key, or begins one.
func (c *Compiler) board(key, digest string, open Open) *flight {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.running[key]
	if f == nil {
		ctx, cancel := context.WithCancel(context.Background())
		f = &flight{done: make(chan struct{}), cancel: cancel}
		c.running[key] = f
		go c.fly(ctx, key, f, digest, open)
	}
	f.waiting++
	return f
}

// leave gives up waiting; the last one ends the flight.
func (c *Compiler) leave(key string, f *flight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.waiting--; f.waiting == 0 && c.running[key] == f {
		delete(c.running, key)
		f.cancel()
	}
}

func (c *Compiler) fly(ctx context.Context, key string, f *flight, digest string, open Open) {
	defer f.cancel()
	select {
	case c.room <- struct{}{}:
		if f.code = c.cache.get(key); f.code == nil { // another one may have been faster
			f.code, f.err = c.make(ctx, digest, open)
		}
		<-c.room
	case <-ctx.Done():
		f.err = ctx.Err()
	}
	if f.err == nil {
		c.cache.put(key, f.code)
	}
	c.mu.Lock()
	if c.running[key] == f {
		delete(c.running, key)
	}
	c.mu.Unlock()
	close(f.done)
}

// make reads a module and compiles it.
func (c *Compiler) make(ctx context.Context, digest string, open Open) ([]byte, error) {
	r, err := open(ctx)
	if err != nil {
		return nil, fmt.Errorf("read module %s: %w", digest, err)
	}
	if closer, ok := r.(io.Closer); ok {
		defer closer.Close()
	}
	module, err := io.ReadAll(io.LimitReader(r, int64(c.opts.Limits.ModuleBytes)+1))
	if err != nil {
		return nil, fmt.Errorf("read module %s: %w", digest, err)
	}
	if len(module) > c.opts.Limits.ModuleBytes {
		return nil, fmt.Errorf("%w: it is longer than %d bytes", ErrRefused, c.opts.Limits.ModuleBytes)
	}
	if sum := sha256.Sum256(module); hex.EncodeToString(sum[:]) != digest {
		return nil, fmt.Errorf("module %s: what was read has digest %x: it is damaged", digest, sum)
	}
	return c.run(ctx, module)
}

// run compiles a module in a child.
func (c *Compiler) run(ctx context.Context, module []byte) ([]byte, error) {
	in, err := ipc.Memfd("module", module)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	fd, err := unix.MemfdCreate("artifact", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memory for an artifact: %w", err)
	}
	out := os.NewFile(uintptr(fd), "artifact")
	defer out.Close()
	life, parent, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	defer life.Close()
	text, err := json.Marshal(order{c.opts.Limits, c.opts.CPU, c.opts.MemoryBytes})
	if err != nil {
		return nil, err
	}
	cmd := c.opts.Command()
	cmd.Args = append(cmd.Args, string(text))
	cmd.ExtraFiles = []*os.File{in, out, life}
	var said, complaints tail
	cmd.Stdout, cmd.Stderr = &said, &complaints
	if err := confine.Start(cmd, nil); err != nil {
		return nil, fmt.Errorf("start the compiler: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.opts.Wall)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	waitErr := cmd.Wait()
	stop()
	if waitErr != nil {
		return nil, c.verdict(ctx, waitErr, cmd.ProcessState, &complaints)
	}
	var r result
	if err := json.Unmarshal(said.Bytes(), &r); err != nil {
		return nil, fmt.Errorf("%w: it said %.200q", ErrCrashed, said.Bytes())
	}
	if r.Refused != "" {
		return nil, fmt.Errorf("%w: %s", ErrRefused, r.Refused)
	}
	return readArtifact(out, r.Size)
}

// readArtifact reads what a child wrote, and checks that it is whole.
func readArtifact(out *os.File, size int64) ([]byte, error) {
	if size <= 0 || size > tempMax {
		return nil, fmt.Errorf("%w: artifact of %d bytes", ErrCrashed, size)
	}
	code := make([]byte, size)
	if _, err := out.ReadAt(code, 0); err != nil {
		return nil, fmt.Errorf("%w: artifact: %w", ErrCrashed, err)
	}
	if _, err := wasm.DecodeArtifact(code); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCrashed, err)
	}
	return code, nil
}

// verdict says why a child ended without a result.
func (c *Compiler) verdict(ctx context.Context, err error, state *os.ProcessState, complaints *tail) error {
	used := state.UserTime() + state.SystemTime()
	status, _ := state.Sys().(syscall.WaitStatus)
	text := complaints.String()
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("%w: more than %v: make the module smaller, or its functions shorter", ErrTooLong, c.opts.Wall)
	case ctx.Err() != nil:
		return ctx.Err()
	case status.Signaled() && (status.Signal() == unix.SIGXCPU || status.Signal() == unix.SIGKILL && used >= c.opts.CPU-time.Second/2):
		return fmt.Errorf("%w: more than %v of CPU time: make the module smaller, or its functions shorter", ErrTooLong, c.opts.CPU)
	case status.Signaled() && status.Signal() == unix.SIGKILL:
		return fmt.Errorf("%w: it was killed after %v: is the machine short of memory?", ErrCrashed, used.Round(time.Millisecond))
	case strings.Contains(text, "out of memory") || strings.Contains(text, "memory allocation of") || strings.Contains(text, "cannot allocate memory"):
		return fmt.Errorf("%w: more than %d bytes", ErrTooMuch, c.opts.MemoryBytes)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("%w: %s: %.500s", ErrCrashed, exit, text)
	}
	return fmt.Errorf("%w: %w", ErrCrashed, err)
}

// tail keeps the first bytes that are written to it.
type tail struct{ bytes.Buffer }

// tailMax is how many of a child's words are kept.
const tailMax = 64 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.Buffer.Write(p[:min(len(p), max(0, tailMax-t.Len()))])
	return len(p), nil
}
