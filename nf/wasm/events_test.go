package wasm

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"sfc/dataplane/packet"
)

// wat returns a module of the given body of sfc_configure and functions after
// it, with the smallest memory.
func wat(configure, functions string) []byte {
	return []byte(`(module
  (@custom "sfc.manifest" "{\"name\":\"guest\",\"version\":\"1.0.0\",\"abi\":1,\"capabilities\":[\"log\"]}")
  (import "sfc" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 4097 4097)
  (data (i32.const 0x10000000) "look here")
  (func (export "sfc_abi_v1"))
  (func (export "sfc_configure") (param i32 i32) (result i32) ` + configure + `)` + functions + `)`)
}

// recorder keeps events.
type recorder struct {
	mu     sync.Mutex
	events []Event
}

func (r *recorder) add(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

func (r *recorder) of(kind EventKind) (texts []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.Kind == kind {
			texts = append(texts, e.Text)
		}
	}
	return texts
}

func newGuest(t *testing.T, rec *recorder, text []byte) (*fixture, error) {
	t.Helper()
	f := &fixture{rt: openRuntime(t), mem: newMemory(t, packet.BurstSize)}
	m, err := f.rt.Compile(assemble(t, "guest", text))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	f.group, err = f.rt.NewGroup(f.mem, []Hop{{Name: "guest", Module: m, Config: []byte("{}")}},
		GroupOptions{Tenant: "test", Ports: 2, Events: rec.add})
	if err == nil {
		t.Cleanup(func() { f.group.Close() })
	}
	return f, err
}

// The message of a trap starts with its cause, however long the backtrace, and
// names in it cannot steer a terminal.
func TestTrapMessage(t *testing.T) {
	name := `\1b[31m\0a` + strings.Repeat("long", 200)
	f, err := newGuest(t, &recorder{}, wat("i32.const 0", `(func $"`+name+`" (export "sfc_process") (param i32) unreachable)`))
	if err != nil {
		t.Fatal(err)
	}
	f.fill(1, 100)
	f.group.Process(&f.burst)
	msg := f.group.Stats()[0].LastFault
	if !strings.HasPrefix(msg, "wasm trap: ") || !strings.Contains(msg, `\x1b[31m longlong`) || strings.ContainsAny(msg, "\x1b\n") {
		t.Errorf("got %q", msg)
	}
}

// What a function logs before it refuses its configuration is passed on.
func TestLogOfRefusal(t *testing.T) {
	rec := &recorder{}
	_, err := newGuest(t, rec, wat("(call $log (i32.const 3) (i32.const 0x10000000) (i32.const 9)) i32.const 7",
		`(func (export "sfc_process") (param i32))`))
	if got := rec.of(EventLog); !errors.Is(err, ErrConfigRefused) || len(got) != 1 || got[0] != "look here" {
		t.Errorf("error %v, log %q", err, got)
	}
}

// A function that faults whenever it can and takes long to configure does not
// keep a core busy with making its spares: at most a tenth of it.
func TestDearSparesAreRationed(t *testing.T) {
	rec := &recorder{}
	f, err := newGuest(t, rec, wat(`
    (local $i i32)
    (loop $again
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $i) (i32.const 100000000))))
    i32.const 0`,
		`(func (export "sfc_process") (param i32) unreachable)`))
	if err != nil {
		t.Fatal(err)
	}
	h := f.group.hops[0].cur.Load()
	replace := func() time.Duration {
		start := time.Now()
		f.group.janitor.jobs <- job{version: h, dead: <-h.spares}
		for len(h.spares) == 0 {
			time.Sleep(time.Millisecond)
		}
		return time.Since(start)
	}
	took := replace()
	if took < dearSpawn+5*time.Millisecond {
		t.Skipf("configured in %v: too fast to count as dear", took)
	}
	if again := replace(); again < spawnShare/2*took {
		t.Errorf("the next spare came after %v, the one before took %v", again, took)
	}
}

// Close may be called twice, and while somebody reads.
func TestCloseWhileRead(t *testing.T) {
	f, err := newGuest(t, &recorder{}, wat("i32.const 0", `(func (export "sfc_process") (param i32))`))
	if err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for len(f.group.Stats()) > 0 {
			}
		})
	}
	for range 2 {
		if err := f.group.Close(); err != nil {
			t.Error(err)
		}
	}
	readers.Wait()
}
