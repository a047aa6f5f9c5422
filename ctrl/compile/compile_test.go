package compile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sfc/nf"
	"sfc/nf/wasm"
	"sfc/testbed/gate"
)

func open(t *testing.T, o Options) *Compiler {
	t.Helper()
	if o.Command == nil {
		o.Command = as("compile")
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// What a child compiled is loaded where there is no compiler.
func TestCompiledInAChild(t *testing.T) {
	gate.Leaks(t)
	c := open(t, Options{})
	began := time.Now()
	a, err := artifact(t, c, catalogue(t, "firewall"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("firewall: %v", time.Since(began))
	rt, err := wasm.Open(wasm.Options{NoCompiler: true})
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	m, err := rt.Load(a)
	if err != nil {
		t.Fatal(err)
	}
	m.Close()
}

func TestTheCacheSpares(t *testing.T) {
	gate.Leaks(t)
	dir := filepath.Join(t.TempDir(), "cache")
	module := catalogue(t, "acl")
	c := open(t, Options{Dir: dir})
	if _, err := artifact(t, c, module); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory: %v, %v", info.Mode(), err)
	}
	// Another process finds it, and does not even read the module.
	os.WriteFile(filepath.Join(dir, "new-123"), []byte("half"), 0o600)
	again := open(t, Options{Dir: dir})
	f, err := again.Artifact(t.Context(), digest(module), unread)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("in the cache: %v, %v", files, err)
	}
	// Other limits are another question.
	other := open(t, Options{Dir: dir, Limits: nf.Limits{PrivateBytes: 1 << 20}})
	if _, err := other.Artifact(t.Context(), digest(module), unread); err == nil || !strings.Contains(err.Error(), "was asked for") {
		t.Errorf("with other limits: %v", err)
	}
	// What is damaged is compiled again.
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 1
	if err := os.WriteFile(files[0], text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := again.Artifact(t.Context(), digest(module), unread); err == nil {
		t.Error("a damaged artifact was taken")
	}
	if _, err := artifact(t, again, module); err != nil {
		t.Error(err)
	}
}

func TestTheCacheIsBounded(t *testing.T) {
	dir := t.TempDir()
	c, err := openCache(dir, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		c.put(fmt.Sprint("key", i), bytes.Repeat([]byte{byte(i)}, 1000))
		if c.get("key0") == nil { // used all the time
			t.Fatalf("after %d: what is used was removed", i)
		}
		time.Sleep(2 * time.Millisecond)
	}
	if c.size > c.max || c.get("key1") != nil || c.get("key19") == nil {
		t.Errorf("%d bytes of %d; the oldest is there: %v", c.size, c.max, c.get("key1") != nil)
	}
	c.put("huge", make([]byte, 20_000))
	if c.get("huge") != nil || c.get("key19") == nil {
		t.Error("one that is too large was kept, or emptied the cache")
	}
}

// A thousand ask at once: there are never more children than allowed, each
// module is compiled once, and everybody gets an answer.
func TestAThousandAtOnce(t *testing.T) {
	gate.Leaks(t)
	var children, most, started atomic.Int32
	c := open(t, Options{Parallel: 2, Command: func() *exec.Cmd {
		started.Add(1)
		return as("compile")()
	}})
	names := []string{"acl", "firewall", "nat44", "lb4", "hop"}
	var wg sync.WaitGroup
	for i := range 1000 {
		module := catalogue(t, names[i%len(names)])
		wg.Go(func() {
			most.Store(max(most.Load(), children.Load()))
			f, err := c.Artifact(t.Context(), digest(module), func(context.Context) (io.Reader, error) {
				children.Add(1)
				return &counted{bytes.NewReader(module), &children, &most}, nil
			})
			if err != nil {
				t.Error(err)
				return
			}
			f.Close()
		})
	}
	wg.Wait()
	if n := started.Load(); n < int32(len(names)) || n > 2*int32(len(names)) {
		t.Errorf("%d children for %d modules", n, len(names))
	}
	if most.Load() > 2 || children.Load() != 0 {
		t.Errorf("%d at a time, %d in the end", most.Load(), children.Load())
	}
}

// counted is a module that is being read.
type counted struct {
	io.Reader
	children, most *atomic.Int32
}

func (r *counted) Close() error {
	r.most.Store(max(r.most.Load(), r.children.Load()))
	r.children.Add(-1)
	return nil
}

// A module that takes minutes to compile is cut off, by the clock or by the
// time it uses, and the next one is served.
func TestSlowModulesAreCutOff(t *testing.T) {
	gate.Leaks(t)
	slow := bomb(t)
	for name, o := range map[string]Options{
		"by the clock": {Wall: 300 * time.Millisecond},
		"by CPU time":  {CPU: time.Second},
	} {
		o.Limits.Flow = 1 << 30 // the check that refuses it at once
		c := open(t, o)
		began := time.Now()
		if _, err := artifact(t, c, slow); !errors.Is(err, ErrTooLong) {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s: after %v", name, took)
		}
		if o.Wall == 0 {
			if _, err := artifact(t, c, catalogue(t, "acl")); err != nil {
				t.Errorf("%s: the next one: %v", name, err)
			}
		}
	}
	if _, err := artifact(t, open(t, Options{}), slow); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "loops * (locals + loops)") {
		t.Errorf("with ordinary limits: %v", err)
	}
}

func TestWhoGivesUpIsNotWaitedFor(t *testing.T) {
	gate.Leaks(t)
	c := open(t, Options{Limits: nf.Limits{Flow: 1 << 30}})
	slow := bomb(t)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := c.Artifact(ctx, digest(slow), func(context.Context) (io.Reader, error) { return bytes.NewReader(slow), nil })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	// Its child is gone: there is room again.
	for end := time.Now().Add(5 * time.Second); len(c.room) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the child goes on")
		}
	}
}

func TestBadModulesAndCompilers(t *testing.T) {
	gate.Leaks(t)
	acl := catalogue(t, "acl")
	c := open(t, Options{})
	if _, err := artifact(t, c, []byte("no module")); !errors.Is(err, ErrRefused) {
		t.Errorf("no module: %v", err)
	}
	if _, err := artifact(t, c, make([]byte, 5<<20)); !errors.Is(err, ErrRefused) {
		t.Errorf("a large one: %v", err)
	}
	read := func(context.Context) (io.Reader, error) { return bytes.NewReader(acl), nil }
	if _, err := c.Artifact(t.Context(), strings.Repeat("0", 64), read); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("another digest: %v", err)
	}
	if _, err := artifact(t, open(t, Options{Command: as("lie")}), acl); !errors.Is(err, ErrCrashed) {
		t.Errorf("a compiler that lies: %v", err)
	}
	if _, err := artifact(t, open(t, Options{Command: as("intrude")}), acl); !errors.Is(err, ErrCrashed) || !strings.Contains(err.Error(), "bad system call") {
		t.Errorf("a compiler that executes a program: %v", err)
	}
	if _, err := artifact(t, open(t, Options{MemoryBytes: 1 << 28, Limits: nf.Limits{Flow: 1 << 30}, CPU: 5 * time.Second}), bomb(t)); !errors.Is(err, ErrTooMuch) && !errors.Is(err, ErrTooLong) {
		t.Errorf("little memory: %v", err)
	}
	if _, err := New(Options{}); err == nil {
		t.Error("a compiler without a command")
	}
}
