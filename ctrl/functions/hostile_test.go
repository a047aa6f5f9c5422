package functions

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sfc/ctrl/api"
	"sfc/ctrl/store"
)

// endless is as many bytes as anyone wants, and counts those that were read.
type endless struct {
	head []byte
	left int64
	read atomic.Int64
}

func (e *endless) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), e.left))
	clear(p[:n])
	copied := copy(p[:n], e.head)
	e.head = e.head[copied:]
	e.left -= int64(n)
	e.read.Add(int64(n))
	return n, nil
}

// bombs are modules that are small and announce, or unfold to, much.
func bombs(tb testing.TB) map[string][]byte {
	header := []byte("\x00asm\x01\x00\x00\x00")
	u := func(n uint64) []byte { return binary.AppendUvarint(nil, n) }
	module := func(parts ...[]byte) []byte { return append(bytes.Clone(header), bytes.Join(parts, nil)...) }
	repeat := func(b []byte, n int) []byte { return append(u(uint64(n)), bytes.Repeat(b, n)...) }
	// body is a function's: no locals, then code.
	body := func(code ...byte) []byte {
		b := append([]byte{0}, code...)
		return append(u(uint64(len(b))), b...)
	}
	oneType := section(1, append(u(1), 0x60, 0, 0))
	oneFunc := section(3, []byte{1, 0})
	nested := func(op byte, n int) []byte {
		code := append(bytes.Repeat([]byte{op, 0x40}, n), bytes.Repeat([]byte{0x0b}, n+1)...)
		return module(oneType, oneFunc, section(10, append(u(1), body(code...)...)))
	}
	half := make([]byte, 2<<20)
	return map[string][]byte{
		"section of 4 GiB":         module([]byte{1}, u(1<<32-1)),
		"types of 4 billion":       module(section(1, u(1<<32-1))),
		"functions of 4 billion":   module(oneType, section(3, u(1<<32-1))),
		"4 million types":          module(section(1, append(u(1_300_000), bytes.Repeat([]byte{0x60, 0, 0}, 1_300_000)...))),
		"2 million functions":      module(oneType, section(3, repeat([]byte{0}, 2_000_000))),
		"1 million bodies":         module(oneType, section(3, repeat([]byte{0}, 1_000_000)), section(10, repeat(body(0x0b), 1_000_000))),
		"locals of 4 billion":      module(oneType, oneFunc, section(10, append(u(1), append(u(8), 1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x7f, 0x0b)...))),
		"100,000 nested blocks":    nested(0x02, 100_000),
		"40,000 nested loops":      nested(0x03, 40_000),
		"1 million nested blocks":  nested(0x02, 1_000_000),
		"br_table of 4 billion":    module(oneType, oneFunc, section(10, append(u(1), body(append([]byte{0x41, 0, 0x0e}, u(1<<32-1)...)...)...))),
		"memory of 4 GiB":          module(section(5, append([]byte{1, 0}, u(65536)...))),
		"table of 4 billion":       module(section(4, append([]byte{1, 0x70, 0}, u(1<<32-1)...))),
		"data of 4 GiB":            module(section(5, []byte{1, 0, 1}), section(11, append([]byte{1, 0, 0x41, 0, 0x0b}, u(1<<32-1)...))),
		"100,000 memories":         module(section(5, repeat([]byte{0, 1}, 100_000))),
		"1 million globals":        module(section(6, repeat([]byte{0x7f, 0, 0x41, 0, 0x0b}, 700_000))),
		"1 million imports":        module(oneType, section(2, repeat([]byte{0, 0, 0, 0}, 1_000_000))),
		"1 million exports":        module(oneType, oneFunc, section(7, repeat([]byte{0, 0, 0}, 1_300_000))),
		"1 million empty customs":  module(bytes.Repeat(section(0, []byte{0}), 1_000_000)),
		"manifest of 2 MiB":        module(section(0, append([]byte("\x0csfc.manifest"), half...))),
		"manifest nested deeply":   module(section(0, append([]byte("\x0csfc.manifest"), bytes.Repeat([]byte{'['}, 200<<10)...))),
		"zeros":                    make([]byte, 4<<20),
		"header and zeros":         module(half),
		"no more than the header":  header,
		"component":                []byte("\x00asm\x0d\x00\x01\x00"),
		"gzip":                     append([]byte{0x1f, 0x8b, 8}, half...),
		"over the limit by a byte": make([]byte, 4<<20+1),
	}
}

// Modules made to cost much are refused, quickly, with little memory, and nothing
// of them is kept.
func TestBombs(t *testing.T) {
	s, _ := fixture(t)
	for name, wasm := range bombs(t) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		begin := time.Now()
		_, created, err := s.Put(t.Context(), upload(wasm), Policy{})
		took := time.Since(begin)
		runtime.ReadMemStats(&after)
		if created || !errors.Is(err, ErrRejected) && !errors.Is(err, store.ErrTooLarge) {
			t.Errorf("%s: created %v, %v", name, created, err)
		}
		if err != nil && len(err.Error()) > 8<<10 {
			t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
		}
		if got := after.TotalAlloc - before.TotalAlloc; got > 160<<20 || took > 3*time.Second {
			t.Errorf("%s: it took %v and %d MiB to refuse", name, took, got>>20)
		}
	}
	nothing(t, s)
}

// 1 GiB is cut off at the limit, whatever it begins with.
func TestEndlessUpload(t *testing.T) {
	s, sp := fixture(t)
	used := sp.Usage()
	for _, head := range [][]byte{nil, built(t, "1.0.0", 0)} {
		r := &endless{head: head, left: 1 << 30}
		_, _, err := s.Put(t.Context(), Upload{Module: r, By: "attacker"}, Policy{})
		is(t, err, store.ErrTooLarge)
		if got, most := r.read.Load(), int64(s.opts.Limits.ModuleBytes)+64<<10; got > most {
			t.Errorf("%d bytes were read, limit %d", got, s.opts.Limits.ModuleBytes)
		}
	}
	nothing(t, s)
	if now := sp.Usage(); now != used {
		t.Errorf("the space holds %+v, it held %+v", now, used)
	}
	if left := must[[]os.DirEntry](t)(os.ReadDir(s.opts.Spool)); len(left) > 0 {
		t.Errorf("%d files are left", len(left))
	}
}

// stuck gives a byte and then waits.
type stuck struct {
	begun   chan<- struct{}
	release <-chan struct{}
	n       int
}

func (r *stuck) Read(p []byte) (int, error) {
	if r.n++; r.n == 1 {
		p[0] = 0
		r.begun <- struct{}{}
		return 1, nil
	}
	<-r.release
	return 0, errBroken
}

// Senders that stop in the middle hold up their own tenant at most, and no memory.
func TestSlowUploadsDisturbNobody(t *testing.T) {
	st := openDir(t, t.TempDir())
	tenant := func(name string) *Store {
		sp := must[*store.Space](t)(st.Tenant(t.Context(), name, store.Limits{}))
		return must[*Store](t)(Open(t.Context(), sp, Options{Spool: t.TempDir(), Uploads: 4}))
	}
	bad, good := tenant("bad"), tenant("good")
	begun, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			_, _, err := bad.Put(t.Context(), Upload{Module: &stuck{begun: begun, release: release}}, Policy{})
			is(t, err, errBroken)
		})
	}
	for range 4 {
		<-begun
	}
	begin := time.Now()
	deploy(t, good, "1.0.0")
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("the other tenant's upload took %v", took)
	}
	go func() {
		for range begun {
		}
	}()
	close(release)
	wg.Wait()
	close(begun)
	nothing(t, bad)
}

// A thousand deploys at once all end, each whole.
func TestThousandDeploys(t *testing.T) {
	s, _ := fixture(t)
	s.opts.Now = time.Now
	begin := time.Now()
	var wg sync.WaitGroup
	var created atomic.Int64
	for i := range 1000 {
		wg.Go(func() {
			_, fresh, err := s.Put(t.Context(), upload(built(t, fmt.Sprintf("1.0.%d", i%500), 0)), Policy{})
			if err != nil {
				t.Error(err)
			}
			if fresh {
				created.Add(1)
			}
		})
	}
	wg.Wait()
	t.Logf("1000 deploys of 500 versions of 7 KiB took %v", time.Since(begin))
	if created.Load() != 500 || len(must[[]*api.Function](t)(s.List("hop"))) != 500 {
		t.Errorf("%d were created", created.Load())
	}
}

func BenchmarkPut(b *testing.B) {
	s, _ := fixture(b)
	s.opts.Now = time.Now
	for i := 0; b.Loop(); i++ {
		wasm := built(b, fmt.Sprintf("1.0.%d", i), 100<<10)
		if _, _, err := s.Put(b.Context(), upload(wasm), Policy{}); err != nil {
			b.Fatal(err)
		}
	}
}
