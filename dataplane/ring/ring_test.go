package ring

import (
	"runtime"
	"testing"
)

func TestSizes(t *testing.T) {
	for _, n := range []int{0, -1, 3, 1<<30 + 1} {
		if _, err := New[int](n); err == nil {
			t.Errorf("ring of %d: no error", n)
		}
	}
}

// newAt returns a ring whose indices stand just below 2^32.
func newAt(t *testing.T, size int, at uint32) *Ring[int] {
	t.Helper()
	r, err := New[int](size)
	if err != nil {
		t.Fatal(err)
	}
	r.head.Store(at)
	r.tail.Store(at)
	r.seenHead, r.seenTail = at, at
	return r
}

func TestOrderAndBounds(t *testing.T) {
	r := newAt(t, 4, ^uint32(0)-2)
	out := make([]int, 8)
	next := 0
	for round := range 10 {
		for i := range 4 {
			v := round*4 + i
			if !r.Push(&v) {
				t.Fatalf("round %d: value %d does not fit", round, i)
			}
		}
		if v := -1; r.Push(&v) {
			t.Fatal("a fifth value fits into four slots")
		}
		if r.Len() != 4 {
			t.Fatalf("length %d, want 4", r.Len())
		}
		for _, want := range []int{1, 3, 0} {
			n := r.Pop(out[:max(want, 1)])
			if n != want {
				t.Fatalf("popped %d, want %d", n, want)
			}
			for _, v := range out[:n] {
				if v != next {
					t.Fatalf("value %d, want %d", v, next)
				}
				next++
			}
		}
	}
}

func TestTwoGoroutines(t *testing.T) {
	const values = 200_000
	r := newAt(t, 64, ^uint32(0)-1000)
	go func() {
		for i := 0; i < values; {
			if r.Push(&i) {
				i++
			} else {
				runtime.Gosched()
			}
		}
	}()
	out := make([]int, 7)
	for next := 0; next < values; {
		n := r.Pop(out)
		if n == 0 {
			runtime.Gosched()
		}
		for _, v := range out[:n] {
			if v != next {
				t.Fatalf("value %d, want %d", v, next)
			}
			next++
		}
	}
}

func BenchmarkPushPop(b *testing.B) {
	r, err := New[[16]uint64](256)
	if err != nil {
		b.Fatal(err)
	}
	var v [16]uint64
	out := make([][16]uint64, 64)
	b.ReportAllocs()
	for i := 0; i < b.N; i += 64 {
		for range 64 {
			r.Push(&v)
		}
		r.Pop(out)
	}
}
