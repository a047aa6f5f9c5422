package server

import (
	"math"
	"sync"
	"time"
)

// rates are the token buckets of callers: each may do so much per second, and
// somewhat more at once.
type rates struct {
	mu      sync.Mutex
	buckets map[string]*bucket
	swept   time.Time
}

// bucket is how much a caller may do at once, as of a time.
type bucket struct {
	left float64
	at   time.Time
	full time.Duration // after this long without use it is full again
}

// maxBuckets bounds how many callers are remembered, and sweepEvery how often
// those who have been quiet are forgotten.
const (
	maxBuckets = 1 << 16
	sweepEvery = 10 * time.Second
)

func newRates() *rates { return &rates{buckets: map[string]*bucket{}} }

// take uses one of a caller's rate per second, or returns how long to wait.
func (r *rates) take(who string, rate, burst int, now time.Time) (wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweep(now)
	b := r.buckets[who]
	if b == nil {
		b = &bucket{left: float64(burst), at: now}
		r.buckets[who] = b
	}
	b.full = time.Duration(float64(burst) / float64(rate) * float64(time.Second))
	// A clock that jumped back gives nothing, one that jumped ahead a burst.
	passed := max(0, now.Sub(b.at).Seconds())
	b.left = min(float64(burst), b.left+passed*float64(rate))
	b.at = now
	if b.left < 1 {
		return time.Duration(math.Ceil((1 - b.left) / float64(rate) * float64(time.Second)))
	}
	b.left--
	return 0
}

// sweep forgets those who have not come for so long that it makes no difference;
// when there are far too many, all. The lock is held.
func (r *rates) sweep(now time.Time) {
	if now.Sub(r.swept) < sweepEvery && len(r.buckets) < maxBuckets {
		return
	}
	r.swept = now
	for who, b := range r.buckets {
		if now.Sub(b.at) > b.full {
			delete(r.buckets, who)
		}
	}
	if len(r.buckets) >= maxBuckets {
		clear(r.buckets)
	}
}

// streams counts what callers have open.
type streams struct {
	mu    sync.Mutex
	count map[string]int
}

// open counts one more, unless the caller has as many as allowed.
func (s *streams) open(who string, limit int) (done func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count[who] >= limit {
		return nil, false
	}
	s.count[who]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.count[who]--; s.count[who] == 0 {
			delete(s.count, who)
		}
	}, true
}
