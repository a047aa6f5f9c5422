package wasm

import (
	"fmt"
	"testing"
)

// BenchmarkHop is the cost of a path of empty functions (each writes Next),
// per burst: the difference between path lengths is the cost of one more hop.
func BenchmarkHop(b *testing.B) {
	for _, hops := range []int{1, 2, 4, 8} {
		for _, burst := range []int{1, 8, 32, 64} {
			b.Run(fmt.Sprintf("path=%d/burst=%d", hops, burst), func(b *testing.B) {
				f := newFixture(b, fixtureOptions{}, repeat("empty", hops)...)
				f.fill(burst, 64)
				b.ReportAllocs()
				for b.Loop() {
					f.burst.N = uint32(burst)
					f.group.Process(&f.burst)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(burst), "ns/pkt")
			})
		}
	}
}

// BenchmarkCrossing compares one crossing from Go to C per path with one per
// function, at the same work.
func BenchmarkCrossing(b *testing.B) {
	const hops = 4
	for _, burst := range []int{1, 8, 32, 64} {
		b.Run(fmt.Sprintf("per=path/burst=%d", burst), func(b *testing.B) {
			f := newFixture(b, fixtureOptions{}, repeat("empty", hops)...)
			f.fill(burst, 64)
			for b.Loop() {
				f.burst.N = uint32(burst)
				f.group.Process(&f.burst)
			}
		})
		b.Run(fmt.Sprintf("per=function/burst=%d", burst), func(b *testing.B) {
			rt := openRuntime(b)
			mem := newMemory(b, 64)
			fs := make([]*fixture, hops)
			for i := range fs {
				fs[i] = newFixture(b, fixtureOptions{runtime: rt, memory: &mem}, "empty")
			}
			fs[0].fill(burst, 64)
			for b.Loop() {
				fs[0].burst.N = uint32(burst)
				for _, f := range fs {
					f.group.Process(&fs[0].burst)
				}
			}
		})
	}
}

// BenchmarkInstantiate is the time from compiled code to an instance with the
// window mapped (warm), and with compilation and checks (cold).
func BenchmarkInstantiate(b *testing.B) {
	b.Run("warm", func(b *testing.B) {
		f := newFixture(b, fixtureOptions{}, "empty")
		h := f.group.hops[0].cur.Load()
		for b.Loop() {
			i, err := f.group.spawn(h)
			if err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			i.close()
			b.StartTimer()
		}
	})
	b.Run("warm+close", func(b *testing.B) {
		f := newFixture(b, fixtureOptions{}, "empty")
		h := f.group.hops[0].cur.Load()
		for b.Loop() {
			i, err := f.group.spawn(h)
			if err != nil {
				b.Fatal(err)
			}
			i.close()
		}
	})
	b.Run("cold", func(b *testing.B) {
		rt := openRuntime(b)
		wasm := module(b, "empty")
		for b.Loop() {
			m, err := rt.Compile(wasm)
			if err != nil {
				b.Fatal(err)
			}
			m.Close()
		}
	})
}
