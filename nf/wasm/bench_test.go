package wasm

import (
	"fmt"
	"testing"

	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
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

// BenchmarkBeside is the cost of what a hop may have beside it: packets that are
// followed, and a version on trial for some flows.
func BenchmarkBeside(b *testing.B) {
	const hops = 4
	for _, beside := range []string{"nothing", "trace=1", "trace=64", "canary=10%"} {
		b.Run(beside, func(b *testing.B) {
			f := newFixture(b, fixtureOptions{}, repeat("empty", hops)...)
			f.fill(packet.BurstSize, 64)
			for k := range f.burst.Bucket {
				f.burst.Bucket[k] = uint16(k * steer.Buckets / packet.BurstSize)
			}
			trace := everything()
			switch beside {
			case "trace=1":
				trace.Want = 1
				fallthrough
			case "trace=64":
				trace.Snap = 256
				f.group.SetHopTrace(trace)
			case "canary=10%":
				r, err := f.group.Prepare(0, f.group.hops[0].cur.Load().spec, ReplaceOptions{Canary: true})
				if err != nil {
					b.Fatal(err)
				}
				if err := r.Canary(10); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				f.burst.N = packet.BurstSize
				f.group.Process(&f.burst)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/packet.BurstSize, "ns/pkt")
		})
	}
}

// BenchmarkArtifact is the time from an artifact's bytes to a module, and to make
// the artifact.
func BenchmarkArtifact(b *testing.B) {
	encoded := encode(b, build(b, "empty"))
	b.Run("load", func(b *testing.B) {
		rt := openRuntime(b)
		for b.Loop() {
			a, err := DecodeArtifact(encoded)
			if err != nil {
				b.Fatal(err)
			}
			m, err := rt.Load(a)
			if err != nil {
				b.Fatal(err)
			}
			m.Close()
		}
	})
	b.Run("build", func(b *testing.B) {
		for b.Loop() {
			build(b, "empty")
		}
	})
}
