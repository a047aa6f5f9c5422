package wasm

import (
	"math/rand/v2"
	"slices"
	"testing"

	"sfc/dataplane/packet"
)

// Classes follow each other without gaps, and each holds its own times.
func TestLatencyClasses(t *testing.T) {
	for class := range latencyClasses - 1 {
		from, next := latencyFrom(class), latencyFrom(class+1)
		if from >= next || latencyClass(from) != class || latencyClass(next-1) != class {
			t.Errorf("class %d from %d to %d: those are of classes %d and %d", class, from, next, latencyClass(from), latencyClass(next-1))
		}
		if from >= 8 && (next-from)*8 > from {
			t.Errorf("class %d is wider than an eighth: %d to %d", class, from, next)
		}
	}
	if last := latencyFrom(latencyClasses - 1); last < 10e9 || latencyClass(^uint64(0)) != latencyClasses-1 {
		t.Errorf("the last class begins at %d ns", last)
	}
}

// Quantiles are those of the sorted times, at most an eighth too high.
func TestLatencyQuantiles(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	var all Latency
	if all.Quantile(0.5) != 0 || all.Count() != 0 {
		t.Error("nothing has quantiles")
	}
	var times []uint64
	for range 4 { // workers
		var l Latency
		for range 500 {
			ns := rng.Uint64N(1 << (1 + rng.IntN(30)))
			l.Counts[latencyClass(ns)]++
			l.MaxNs = max(l.MaxNs, ns)
			times = append(times, ns)
		}
		all.Add(&l)
	}
	slices.Sort(times)
	if all.Count() != uint64(len(times)) || all.MaxNs != times[len(times)-1] || all.Quantile(1) != all.MaxNs {
		t.Errorf("%d times, max %d, quantile 1 %d", all.Count(), all.MaxNs, all.Quantile(1))
	}
	for _, q := range []float64{0, 0.01, 0.5, 0.9, 0.99, 0.999} {
		want, got := times[int(q*float64(len(times)-1))], all.Quantile(q)
		if got < want || got > want+want/8+1 {
			t.Errorf("quantile %v: %d, want %d", q, got, want)
		}
	}
}

// C counts each timed burst in the class that Go says.
func TestLatencyOfBursts(t *testing.T) {
	f := newFixture(t, fixtureOptions{group: GroupOptions{TimeEvery: 4}}, "swap_macs")
	trace := &packet.HopTrace{Want: 1, Hops: 1}
	f.group.SetHopTrace(trace) // tells the time of every burst
	var want Latency
	for i := range 400 {
		f.fill(packet.BurstSize, 60)
		f.group.Process(&f.burst)
		if ns := trace.Records[0].TookNs; i%4 == 0 {
			want.Counts[latencyClass(ns)]++
			want.MaxNs = max(want.MaxNs, ns)
		}
	}
	s := f.group.Stats()[0]
	if s.Latency != want {
		t.Errorf("%d bursts, max %d ns, p99 %d; want %d, %d, %d", s.Latency.Count(), s.Latency.MaxNs, s.Latency.Quantile(0.99),
			want.Count(), want.MaxNs, want.Quantile(0.99))
	}
	if mean := s.NsPerPacket * packet.BurstSize; mean < float64(s.Latency.Quantile(0))*7/8 || mean > float64(s.Latency.MaxNs) {
		t.Errorf("mean %v ns is outside %d to %d", mean, s.Latency.Quantile(0), s.Latency.MaxNs)
	}
}
