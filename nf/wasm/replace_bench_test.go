package wasm

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// BenchmarkInstall is the time that a replacement holds the worker: ns/op of
// Install, with flow state kept, migrated (and then under way), and with a live
// configuration. Preparing and settling are not in it.
func BenchmarkInstall(b *testing.B) {
	live := guest{number: 1, format: 1, live: true}
	for _, tt := range []struct {
		name string
		to   func(bed *bed, i int) *Replacement
	}{
		{"state=kept", func(bed *bed, i int) *Replacement {
			return bed.prepare([]guest{v2, v1}[i%2], ReplaceOptions{Probation: -1})
		}},
		{"state=migrated", func(bed *bed, i int) *Replacement {
			return bed.prepare([]guest{v3, v1}[i%2], ReplaceOptions{Probation: -1})
		}},
		{"live", func(bed *bed, i int) *Replacement {
			r, err := bed.f.group.Reconfigure(0, config(1+i%4), ReplaceOptions{Probation: -1})
			if err != nil {
				b.Fatal(err)
			}
			return r
		}},
	} {
		b.Run(tt.name, func(b *testing.B) {
			bed := newBed(b, live, 1, GroupOptions{})
			// A loop of its own: what is measured is much shorter than what
			// has to be done between, so that b.Loop would take minutes.
			const rounds = 200
			var sum, most time.Duration
			for range b.N {
				for i := range rounds {
					r := tt.to(bed, i)
					start := time.Now()
					err := r.Install()
					took := time.Since(start)
					if err != nil {
						b.Fatal(err)
					}
					sum, most = sum+took, max(most, took)
					bed.settle()
				}
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(sum.Nanoseconds())/float64(b.N*rounds), "ns/install")
			b.ReportMetric(float64(most.Nanoseconds()), "ns/most")
		})
	}
}

// BenchmarkMigrate is the cost of one flow's migration in a burst, beyond that of the
// burst: 64 flows that are all to be migrated, and the same 64 when they are.
func BenchmarkMigrate(b *testing.B) {
	const flows = 1 << 16
	bed := newBed(b, v1, 1, GroupOptions{Flows: flows})
	h := bed.f.group.hops[0]
	state := h.cur.Load().slots.mem
	for i := range flows {
		binary.LittleEndian.PutUint64(state[8*i:], uint64(i)<<16+1)
	}
	bed.swap(v3, ReplaceOptions{Probation: time.Hour})
	slots := make([]uint32, 64)
	bed.send(slots)
	at := uint32(0)
	left := true
	for b.Loop() {
		for k := range slots {
			slots[k] = (at + uint32(k)) % flows
			bed.f.burst.Slot[k], bed.f.mem.Descs()[k].Slot = slots[k], slots[k]
			if left {
				h.trial.migration.setLeft(slots[k])
			}
		}
		at += 64
		bed.f.burst.N = 64
		bed.f.group.Process(&bed.f.burst)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/flow")
}

// BenchmarkSlot is the cost of a flow's state to a function: a load and a store
// of its slot per packet, over a function that does not keep any. Flows come in
// random order, of a working set that fits the caches or does not.
func BenchmarkSlot(b *testing.B) {
	for _, flows := range []int{0, 1 << 10, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("flows=%d", flows), func(b *testing.B) {
			name := "flow_counts"
			if flows == 0 {
				name = "empty"
			}
			f := newFixture(b, fixtureOptions{group: GroupOptions{Flows: max(flows, 1)}}, name)
			f.fill(64, 64)
			descs := f.mem.Descs()
			order := make([]uint32, 1<<20)
			for i := range order {
				order[i] = rand.Uint32N(uint32(max(flows, 1)))
			}
			if state := f.group.FlowState(0); state != nil {
				clear(state) // its pages are there
			}
			at := 0
			for b.Loop() {
				for k := range descs {
					descs[k].Slot = order[(at+k)&(len(order)-1)]
				}
				at += 64
				f.burst.N = 64
				f.group.Process(&f.burst)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/pkt")
		})
	}
}
