package wasm

import "math/bits"

// Latency is how long bursts took in a function: a histogram whose classes are
// an eighth of a power of two wide, in ns. Those of several workers can be added.
// The C side counts (latency_class in chain.c has the same classes).
type Latency struct {
	// Counts is the number of bursts by class.
	Counts [latencyClasses]uint64
	// MaxNs is the longest time in ns.
	MaxNs uint64
}

// latencyClasses is how many classes there are; the last one begins at 16 s.
const latencyClasses = 256

// latencyClass returns the class of a time.
func latencyClass(ns uint64) int {
	if ns < 8 {
		return int(ns)
	}
	e := bits.Len64(ns) - 1
	return min((e-2)*8+int(ns>>(e-3)&7), latencyClasses-1)
}

// latencyFrom is the shortest time of a class, in ns.
func latencyFrom(class int) uint64 {
	if class < 8 {
		return uint64(class)
	}
	return uint64(8+class%8) << (class/8 - 1)
}

// Add adds what another worker counted.
func (l *Latency) Add(o *Latency) {
	for i, n := range o.Counts {
		l.Counts[i] += n
	}
	l.MaxNs = max(l.MaxNs, o.MaxNs)
}

// Count is the number of bursts.
func (l *Latency) Count() (n uint64) {
	for _, c := range l.Counts {
		n += c
	}
	return n
}

// Quantile returns the time in ns that a part q of the bursts, 0 to 1, did not
// exceed, at most an eighth too high; 0 when there were none.
func (l *Latency) Quantile(q float64) uint64 {
	total := l.Count()
	if total == 0 {
		return 0
	}
	rank, seen := uint64(q*float64(total-1)), uint64(0)
	for i, n := range l.Counts[:latencyClasses-1] {
		if seen += n; seen > rank {
			return min(latencyFrom(i+1)-1, l.MaxNs)
		}
	}
	return l.MaxNs
}
