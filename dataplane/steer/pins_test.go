package steer

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

func newPins(tb testing.TB, entries int) *Pins {
	tb.Helper()
	p, err := NewPins(make([]byte, PinsSize(entries)))
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// verify fails unless the table holds n entries and agrees with itself.
func verify(t interface{ Fatal(...any) }, p *Pins, n int) {
	got, err := p.Verify()
	if err != nil || got != n {
		t.Fatal(got, "entries, want", n, err)
	}
}

func TestPinsRefusals(t *testing.T) {
	for _, size := range []int{0, 128, 256, 11 * 128, PinsSize(100) - 8, 2 << 20 * 128} {
		if _, err := NewPins(make([]byte, size)); err == nil {
			t.Errorf("%d bytes: no error", size)
		}
	}
	if _, err := NewPins(make([]byte, PinsSize(1)+1)[1:]); err == nil {
		t.Error("unaligned memory: no error")
	}
}

func TestPinsHolders(t *testing.T) {
	p := newPins(t, 100)
	for i, step := range []struct {
		do   func() PinStatus
		want PinStatus
	}{
		{func() PinStatus { return p.Insert(7, 70) }, PinOK},
		{func() PinStatus { return p.Insert(7, 71) }, PinTaken},
		{func() PinStatus { return p.Insert(7, 70) }, PinOK},
		{func() PinStatus { return p.Add(7, 70) }, PinHeld},
		{func() PinStatus { return p.Add(7, 72) }, PinTaken},
		{func() PinStatus { return p.Add(0, 5) }, PinOK}, // key 0 is key 1
		{func() PinStatus { return p.Add(1, 6) }, PinTaken},
	} {
		if got := step.do(); got != step.want {
			t.Fatalf("step %d: %v, want %v", i, got, step.want)
		}
	}
	verify(t, p, 2)
	if !p.Release(7) {
		t.Error("not held")
	}
	if v, ok := p.Lookup(7); !ok || v != 70 {
		t.Errorf("held by one: %d, %v", v, ok)
	}
	if !p.Release(7) || p.Release(7) {
		t.Error("the last holder released it once")
	}
	if _, ok := p.Lookup(7); ok {
		t.Error("still there")
	}
	if taken, full := p.Refused(); taken != 3 || full != 0 || p.Live() != 1 {
		t.Errorf("taken %d, full %d, live %d", taken, full, p.Live())
	}
	if c, b := PinOwner(PinValue(0xffffffff, 12, 1023)); c != 12 || b != 1023 {
		t.Errorf("chain %d, bucket %d", c, b)
	}
}

// PinsSize leaves room enough: hashes are placed up to the number it was asked
// for, and all of them found again. 54,612 are what 32,768 buckets are for.
func TestPinsTakeWhatTheySay(t *testing.T) {
	for _, n := range []int{1, 13, 1000, 54612, 100_000} {
		p := newPins(t, n)
		r := rand.New(rand.NewPCG(1, uint64(n)))
		keys := make([]uint64, n)
		for i := range keys {
			keys[i] = r.Uint64()
			if s := p.Insert(keys[i], uint64(i)); s != PinOK {
				t.Fatalf("entry %d of %d: %v", i, n, s)
			}
		}
		verify(t, p, n)
		for i, k := range keys {
			if v, ok := p.Lookup(k); !ok || v != uint64(i) {
				t.Fatalf("entry %d of %d: %d, %v", i, n, v, ok)
			}
			p.Release(k)
		}
		verify(t, p, 0)
	}
}

// Keys of one home fill the buckets in reach and no more; places that become
// free are found again.
func TestPinsOverflow(t *testing.T) {
	p := newPins(t, 100)
	const home = 0xffffffff << 32 // the last one
	const room = pinEntries * (pinReach + 1)
	for i := range uint64(room) {
		if s := p.Insert(home|i+1, i); s != PinOK {
			t.Fatalf("entry %d: %v", i, s)
		}
	}
	if s := p.Insert(home|100, 1); s != PinFull {
		t.Errorf("no place is left: %v", s)
	}
	verify(t, p, room)
	p.Release(home | 3)
	if s := p.Insert(home|100, 1); s != PinOK {
		t.Errorf("a place became free: %v", s)
	}
	verify(t, p, room)
	if _, full := p.Refused(); full != 1 {
		t.Errorf("full counted %d", full)
	}
}

// A share that is used up takes nothing from the others.
func TestPinsShares(t *testing.T) {
	all := newPins(t, 1000)
	a, b := all.Share(10), all.Share(500)
	r := rand.New(rand.NewPCG(2, 2))
	for range 1000 {
		a.Insert(r.Uint64(), 1)
	}
	if _, full := a.Refused(); a.Live() != 10 || full != 990 {
		t.Errorf("live %d, refused %d", a.Live(), full)
	}
	keys := make([]uint64, 500)
	for i := range keys {
		keys[i] = r.Uint64()
		if s := b.Insert(keys[i], 2); s != PinOK {
			t.Fatalf("entry %d of the other share: %v", i, s)
		}
	}
	verify(t, all, 510)
	b.Release(keys[0])
	if a.Live() != 10 || b.Live() != 499 {
		t.Errorf("live %d and %d", a.Live(), b.Live())
	}
	if s := all.Share(-1).Insert(1, 1); s != PinFull {
		t.Errorf("a share of nothing: %v", s)
	}
}

// model is a table as simple as can be.
type model map[uint64]struct {
	value uint64
	refs  int
}

func (m model) insert(key, value uint64, more int) PinStatus {
	e, ok := m[key]
	switch {
	case ok && e.value != value:
		return PinTaken
	case ok && more == 0:
		return PinHeld
	}
	e.value = value
	e.refs++
	m[key] = e
	return PinOK
}

func (m model) release(key uint64) bool {
	e, ok := m[key]
	if e.refs--; e.refs > 0 {
		m[key] = e
	} else {
		delete(m, key)
	}
	return ok
}

// Random operations on few keys in a tiny table do what the model does.
func TestPinsModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p, m := newPins(t, 10), model{}
		key := rapid.Custom(func(rt *rapid.T) uint64 {
			return rapid.Uint64Range(0, 3).Draw(rt, "home")<<32 | rapid.Uint64Range(1, 4).Draw(rt, "key")
		})
		rt.Repeat(map[string]func(*rapid.T){
			"insert": func(rt *rapid.T) {
				k, v := key.Draw(rt, "k"), rapid.Uint64Range(0, 2).Draw(rt, "v")
				if got, want := p.Insert(k, v), m.insert(k, v, 1); got != want {
					rt.Fatalf("insert %#x: %v, want %v", k, got, want)
				}
			},
			"add": func(rt *rapid.T) {
				k, v := key.Draw(rt, "k"), rapid.Uint64Range(0, 2).Draw(rt, "v")
				if got, want := p.Add(k, v), m.insert(k, v, 0); got != want {
					rt.Fatalf("add %#x: %v, want %v", k, got, want)
				}
			},
			"release": func(rt *rapid.T) {
				k := key.Draw(rt, "k")
				if got, want := p.Release(k), m.release(k); got != want {
					rt.Fatalf("release %#x: %v, want %v", k, got, want)
				}
			},
			"": func(rt *rapid.T) {
				verify(rt, p, len(m))
				for h := range uint64(4) {
					for k := range uint64(5) {
						v, ok := p.Lookup(h<<32 | k)
						if e, want := m[max(h<<32|k, 1)]; ok != want || v != e.value {
							rt.Fatalf("lookup %#x: %d %v, want %d %v", h<<32|k, v, ok, e.value, want)
						}
					}
				}
			},
		})
	})
}

// Many goroutines insert, release and look up the same keys: nothing a reader
// sees is ever another key's, and in the end all is gone.
func TestPinsConcurrently(t *testing.T) {
	const workers, rounds = 8, 4000
	p := newPins(t, 40)
	var wg sync.WaitGroup
	var stop atomic.Bool
	keys := make([]uint64, 24)
	r := rand.New(rand.NewPCG(3, 3))
	for i := range keys {
		keys[i] = r.Uint64N(4)<<32 | r.Uint64N(1<<20)<<8 | uint64(i) + 1 // few homes
	}
	for range 2 {
		wg.Go(func() {
			for i := 0; !stop.Load(); i++ {
				k := keys[i%len(keys)]
				if v, ok := p.Lookup(k); ok && v>>8 != k {
					t.Errorf("key %#x has the value %#x", k, v)
					return
				}
				runtime.Gosched()
			}
		})
	}
	var writers sync.WaitGroup
	for w := range workers {
		writers.Go(func() {
			r := rand.New(rand.NewPCG(4, uint64(w)))
			var held []uint64
			for range rounds {
				k := keys[r.IntN(len(keys))]
				// Two values each, so that some are taken.
				if p.Insert(k, k<<8|r.Uint64N(2)) == PinOK {
					held = append(held, k)
				}
				if len(held) > 8 {
					i := r.IntN(len(held))
					if !p.Release(held[i]) {
						t.Errorf("key %#x was held and is gone", held[i])
					}
					held[i] = held[len(held)-1]
					held = held[:len(held)-1]
				}
			}
			for _, k := range held {
				p.Release(k)
			}
		})
	}
	writers.Wait()
	stop.Store(true)
	wg.Wait()
	verify(t, p, 0)
	if p.Live() != 0 {
		t.Errorf("%d live", p.Live())
	}
}

// Verify sees what it is there for.
func TestVerifyFinds(t *testing.T) {
	for name, damage := range map[string]func(p *Pins, e *pinEntry){
		"locked":    func(p *Pins, _ *pinEntry) { p.buckets[0].lock.Store(1) },
		"in use":    func(_ *Pins, e *pinEntry) { e.gen.Add(1) },
		"held by 0": func(_ *Pins, e *pinEntry) { e.refs.Store(0) },
		"spilled":   func(p *Pins, _ *pinEntry) { p.buckets[1].spill.Add(1) },
		"twice": func(p *Pins, e *pinEntry) {
			o := &p.buckets[0].e[4]
			o.key.Store(e.key.Load())
			o.refs.Store(1)
			o.gen.Add(1)
		},
		"home": func(_ *Pins, e *pinEntry) { e.key.Store(0xffffffff << 32) },
		"not found ": func(p *Pins, e *pinEntry) { // nothing spilled there
			o := &p.buckets[1].e[0]
			o.key.Store(e.key.Load())
			o.refs.Store(1)
			o.gen.Add(1)
			e.key.Store(0)
			e.gen.Add(1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPins(t, 200)
			p.Insert(9, 9)
			damage(p, &p.buckets[0].e[0])
			if _, err := p.Verify(); !errors.Is(err, ErrPinsCorrupt) || !strings.Contains(err.Error(), strings.TrimSpace(name)) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestLedger(t *testing.T) {
	l := NewLedger(3)
	h := &l.Flows[1]
	if !h.Claim(5) || !h.Claim(6) || !h.Claim(5) || h.Claim(7) {
		t.Errorf("two keys fit, once each: %+v", h)
	}
	seen := map[uint32]bool{}
	for serial := range uint32(10_000) {
		id := Ident(17, serial)
		if id == 0 || seen[id] {
			t.Fatalf("ident %#x of flow %d", id, serial)
		}
		seen[id] = true
	}
}

func BenchmarkPins(b *testing.B) {
	for name, n := range map[string]int{"1k": 1000, "100k": 100_000, "1M": 1_000_000} {
		p := newPins(b, n)
		keys := make([]uint64, n)
		for i := range keys {
			keys[i] = rand.Uint64()
		}
		for _, k := range keys[:n/2] {
			p.Insert(k, k)
		}
		b.Run("insert_release/"+name, func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				k := keys[n/2+i%(n/2)]
				p.Add(k, k)
				p.Release(k)
			}
		})
		b.Run("lookup/"+name, func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				p.Lookup(keys[i%n])
			}
		})
	}
}
