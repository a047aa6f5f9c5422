package packet

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
)

// freeChunks counts what is free, and fails when the free lists are corrupt.
func freeChunks(t *testing.T, d *Depot) (n int) {
	t.Helper()
	if err := d.Check(func(uint32) { n++ }); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestLonePoolIsAPool: with one worker, a pool of a depot gives and takes in
// the order of a pool without one.
func TestLonePoolIsAPool(t *testing.T) {
	for _, chunks := range []int{1, 63, 64, 65, 256, 1000, 4096} {
		rng := rand.New(rand.NewPCG(1, uint64(chunks)))
		plain, d := NewPool(chunks*ChunkSize), NewDepot(chunks*ChunkSize)
		p := d.Pool()
		if p.Total() != chunks || d.Total() != chunks || !p.Of(d) || plain.Of(d) {
			t.Fatalf("%d chunks: pool of %d, depot of %d", chunks, p.Total(), d.Total())
		}
		var out []uint32
		for step := range 2000 {
			switch rng.IntN(4) {
			case 0:
				for range rng.IntN(400) {
					want, wantOK := plain.Get()
					got, ok := p.Get()
					if got != want || ok != wantOK {
						t.Fatalf("%d chunks, step %d: Get = %#x, %v, want %#x, %v", chunks, step, got, ok, want, wantOK)
					}
					if ok {
						out = append(out, got)
					}
				}
			case 1:
				for range min(rng.IntN(400), len(out)) {
					i := rng.IntN(len(out))
					plain.Put(out[i] + 300) // any byte of the chunk
					p.Put(out[i] + 300)
					out[i] = out[len(out)-1]
					out = out[:len(out)-1]
				}
			default:
				n, leave := rng.IntN(500)-10, rng.IntN(chunks+20)-10
				want := takeAll(plain, n, leave)
				got := takeAll(p, n, leave)
				if len(got) != len(want) {
					t.Fatalf("%d chunks, step %d: Take(%d, %d) = %d chunks, want %d", chunks, step, n, leave, len(got), len(want))
				}
				for i := range got {
					if got[i] != want[i] {
						t.Fatalf("%d chunks, step %d: chunk %d = %#x, want %#x", chunks, step, i, got[i], want[i])
					}
				}
				out = append(out, got...)
			}
			if p.Free() != plain.Free() || p.Free()+len(out) != chunks || freeChunks(t, d) != p.Free() {
				t.Fatalf("%d chunks, step %d: %d free, want %d", chunks, step, p.Free(), plain.Free())
			}
		}
	}
}

// takeAll takes n chunks as far as leave allows, in the order of Get.
func takeAll(p *Pool, n, leave int) (out []uint32) {
	for n > 0 {
		c := p.Take(n, leave)
		if len(c) == 0 {
			break
		}
		for i := range c {
			out = append(out, c[len(c)-1-i])
		}
		n -= len(c)
	}
	return out
}

// TestWorkersShareADepot: chunks go from worker to worker, each is one's alone,
// and none is lost.
func TestWorkersShareADepot(t *testing.T) {
	const workers, chunks, turns = 4, 2048, 3000
	d := NewDepot(chunks * ChunkSize)
	owner := make([]uint32, chunks) // a data race here is a chunk with two owners
	pass := make(chan []uint32, workers)
	pools := make([]*Pool, workers)
	var wg sync.WaitGroup
	for w := range workers {
		p := d.Pool()
		pools[w] = p
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(2, uint64(w)))
			for range turns {
				var hand []uint32
				for range rng.IntN(200) {
					if c, ok := p.Get(); ok {
						owner[c/ChunkSize] = uint32(w)
						hand = append(hand, c)
					}
				}
				select { // another worker puts back what this one took
				case pass <- hand:
				default:
					for _, c := range hand {
						p.Put(c)
					}
				}
				select {
				case got := <-pass:
					for _, c := range got {
						owner[c/ChunkSize]++
						p.Put(c)
					}
				default:
				}
			}
		})
	}
	wg.Wait()
	close(pass)
	for got := range pass {
		for _, c := range got {
			pools[0].Put(c)
		}
	}
	if n := freeChunks(t, d); n != chunks {
		t.Fatalf("%d of %d chunks are free", n, chunks)
	}
	for _, p := range pools {
		if p.top > PoolLimit {
			t.Errorf("a worker keeps %d chunks, at most %d are allowed", p.top, PoolLimit)
		}
		d.Retire(p)
		if p.top != 0 {
			t.Errorf("retired pool holds %d", p.top)
		}
	}
	if d.Free() != chunks || freeChunks(t, d) != chunks {
		t.Errorf("%d of %d chunks in the depot when every pool is retired", d.Free(), chunks)
	}
}

// TestTakeLeavesWhatIsOwed: no worker takes the last chunks that others need,
// though each sees the depot only.
func TestTakeLeavesWhatIsOwed(t *testing.T) {
	d := NewDepot(1000 * ChunkSize)
	a, b := d.Pool(), d.Pool()
	got := len(takeAll(a, 2000, 300))
	if got != 700 || a.Free() != 300 {
		t.Fatalf("took %d of 1000 and left %d, want to leave 300", got, a.Free())
	}
	if n := len(takeAll(b, 2000, 300)); n != 0 {
		t.Fatalf("the second took %d of what is to be left", n)
	}
	if n := len(takeAll(b, 2000, 250)); n != 50 {
		t.Fatalf("the second took %d, want 50", n)
	}
}

func TestChunksReturnedTwiceAreNoticed(t *testing.T) {
	for _, chunks := range []int{10, 1000} {
		d := NewDepot(chunks * ChunkSize)
		p := d.Pool()
		panicked := func() (did bool) {
			defer func() { did = recover() != nil }()
			for range PoolLimit + 1 {
				p.Put(0)
			}
			return
		}()
		if !panicked {
			t.Errorf("%d chunks: more came back than there are, and nobody noticed", chunks)
		}
	}
	d := NewDepot(1000 * ChunkSize)
	p := d.Pool()
	c, _ := p.Get()
	p.Get()
	p.Put(c)
	p.Put(c)
	if err := d.Check(func(uint32) {}); !errors.Is(err, ErrTwice) {
		t.Errorf("Check = %v, want ErrTwice", err)
	}
	p.Get()
	p.Put(1000 * ChunkSize)
	if err := d.Check(func(uint32) {}); !errors.Is(err, ErrTwice) {
		t.Errorf("Check with a chunk of elsewhere = %v", err)
	}
	plain := NewPool(10 * ChunkSize)
	defer func() {
		if recover() == nil {
			t.Error("a full pool took a chunk")
		}
	}()
	plain.Put(0)
}

func TestPoolsDoNotAllocate(t *testing.T) {
	d := NewDepot(1000 * ChunkSize)
	p := d.Pool()
	var hand [3 * PoolLimit]uint32
	if n := testing.AllocsPerRun(100, func() { // through the depot both ways
		for i := range hand {
			hand[i], _ = p.Get()
		}
		for _, c := range hand {
			p.Put(c)
		}
		for n := 0; n < len(hand); {
			n += copy(hand[n:], p.Take(len(hand)-n, 10))
		}
		for _, c := range hand {
			p.Put(c)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkPool takes a burst of chunks and puts it back.
func BenchmarkPool(b *testing.B) {
	for name, p := range map[string]*Pool{
		"alone": NewPool(4096 * ChunkSize), "depot": NewDepot(4096 * ChunkSize).Pool(),
	} {
		b.Run(name, func(b *testing.B) {
			var hand [BurstSize]uint32
			for b.Loop() {
				for i := range hand {
					hand[i], _ = p.Get()
				}
				for _, c := range hand {
					p.Put(c)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(hand)), "ns/chunk")
		})
	}
}
