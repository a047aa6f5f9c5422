package dataplane

import "math/bits"

// Latency is a histogram of times in ns: eight buckets of equal width for every
// power of two from 256 ns to 34 s, so a quantile is at most an eighth too high.
// The zero value is empty.
type Latency struct {
	Count   uint64
	Max     uint64
	buckets [latencyBuckets]uint64
}

const (
	latencyLeast   = 8  // log2 of the times that the first bucket ends with
	latencyMost    = 35 // and those that the last one begins with
	latencyBuckets = (latencyMost-latencyLeast)*8 + 2
)

// latencyBucket returns the bucket of a time.
func latencyBucket(ns uint64) int {
	e := bits.Len64(ns) - 1
	switch {
	case e < latencyLeast:
		return 0
	case e >= latencyMost:
		return latencyBuckets - 1
	}
	return 1 + (e-latencyLeast)<<3 + int(ns>>(e-3)&7)
}

// latencyEnd returns the shortest time in ns that is above a bucket.
func latencyEnd(bucket int) uint64 {
	if bucket == 0 {
		return 1 << latencyLeast
	}
	e, step := latencyLeast+(bucket-1)>>3, uint64(bucket-1)&7
	return 1<<e + (step+1)<<(e-3)
}

func (l *Latency) record(ns uint64) {
	l.Count++
	l.Max = max(l.Max, ns)
	l.buckets[latencyBucket(ns)]++
}

// Add adds another histogram.
func (l *Latency) Add(o *Latency) {
	l.Count += o.Count
	l.Max = max(l.Max, o.Max)
	for i, n := range o.buckets {
		l.buckets[i] += n
	}
}

// Quantile returns a time in ns that the part q (0 to 1) of all were not above;
// 0 when there are none.
func (l *Latency) Quantile(q float64) uint64 {
	want, sum := max(uint64(q*float64(l.Count)+0.5), 1), uint64(0)
	for i, n := range l.buckets {
		if sum += n; sum >= want {
			if i == latencyBuckets-1 {
				return l.Max
			}
			return min(latencyEnd(i), l.Max)
		}
	}
	return l.Max
}
