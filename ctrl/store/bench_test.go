package store

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"
)

// latencies measures one operation per iteration and reports its median and 99th
// percentile besides the mean.
type latencies []time.Duration

func (l *latencies) time(f func()) {
	begin := time.Now()
	f()
	*l = append(*l, time.Since(begin))
}

func (l latencies) report(b *testing.B) {
	slices.Sort(l)
	b.ReportMetric(float64(l[len(l)/2].Nanoseconds())/1e3, "p50-us")
	b.ReportMetric(float64(l[len(l)*99/100].Nanoseconds())/1e3, "p99-us")
}

func benchBucket(b *testing.B) *Bucket {
	return bucket(b, tenant(b, open(b, b.TempDir(), Options{}), "acme", Limits{}), "desired")
}

var benchValue = content(1, 2000)

func BenchmarkGet(b *testing.B) {
	kv := benchBucket(b)
	for i := range 100 {
		must[uint64](b)(kv.Create(b.Context(), fmt.Sprint(i), benchValue))
	}
	for i := 0; b.Loop(); i++ {
		must[Entry](b)(kv.Get(fmt.Sprint(i % 100)))
	}
}

func BenchmarkCreate(b *testing.B) {
	kv := benchBucket(b)
	var l latencies
	for i := 0; b.Loop(); i++ {
		l.time(func() { must[uint64](b)(kv.Create(b.Context(), fmt.Sprint(i), benchValue)) })
	}
	l.report(b)
}

func BenchmarkUpdate(b *testing.B) {
	kv := benchBucket(b)
	rev := must[uint64](b)(kv.Create(b.Context(), "k", benchValue))
	var l latencies
	for b.Loop() {
		l.time(func() { rev = must[uint64](b)(kv.Update(b.Context(), "k", benchValue, rev)) })
	}
	l.report(b)
}

// 64 who write at once share the disk.
func BenchmarkCreateParallel(b *testing.B) {
	kv := benchBucket(b)
	b.SetParallelism(32)
	n := make(chan int, 1)
	n <- 0
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			i := <-n
			n <- i + 1
			if _, err := kv.Create(b.Context(), fmt.Sprint(i), benchValue); err != nil {
				b.Error(err)
			}
		}
	})
}

// From the call that writes to the event in a watcher's hands.
func BenchmarkWatch(b *testing.B) {
	kv := benchBucket(b)
	rev := must[uint64](b)(kv.Create(b.Context(), "k", benchValue))
	w := must[*Watcher](b)(kv.Watch("", rev))
	seen := make(chan time.Time)
	go func() {
		for {
			if _, err := w.Next(b.Context()); err != nil {
				close(seen)
				return
			}
			seen <- time.Now()
		}
	}()
	var whole, behind latencies
	for b.Loop() {
		begin := time.Now()
		acked := make(chan time.Time, 1)
		go func() {
			var err error
			if rev, err = kv.Update(b.Context(), "k", benchValue, rev); err != nil {
				b.Error(err)
			}
			acked <- time.Now()
		}()
		at := <-seen
		whole = append(whole, at.Sub(begin))
		behind = append(behind, at.Sub(<-acked))
	}
	whole.report(b)
	slices.Sort(behind)
	b.ReportMetric(float64(behind[len(behind)/2].Nanoseconds())/1e3, "p50-us-after-ack")
}

func BenchmarkModule(b *testing.B) {
	for _, size := range []int{100 << 10, 8 << 20} {
		body := content(1, size)[:size]
		b.Run(fmt.Sprintf("put/%dKiB", size>>10), func(b *testing.B) {
			m := modules(b, tenant(b, open(b, b.TempDir(), Options{}), "acme", Limits{}))
			b.SetBytes(int64(size))
			var l latencies
			for i := 0; b.Loop(); i++ {
				copy(body, fmt.Sprint(i))
				l.time(func() { put(b, m, body) })
			}
			l.report(b)
		})
		b.Run(fmt.Sprintf("get/%dKiB", size>>10), func(b *testing.B) {
			m := modules(b, tenant(b, open(b, b.TempDir(), Options{}), "acme", Limits{}))
			mod := put(b, m, body)
			b.SetBytes(int64(size))
			var l latencies
			for b.Loop() {
				l.time(func() {
					if got := must[[]byte](b)(m.Get(b.Context(), mod.Digest)); !bytes.Equal(got, body) {
						b.Fatal("it is not what was put")
					}
				})
			}
			l.report(b)
		})
	}
}

// Opening a store that holds 10,000 keys, and reading them.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	s := open(b, dir, Options{})
	kv := bucket(b, tenant(b, s, "acme", Limits{}), "desired")
	done := make(chan error)
	for w := range 16 {
		go func() {
			var err error
			for i := w; i < 10_000 && err == nil; i += 16 {
				_, err = kv.Create(b.Context(), fmt.Sprint(i), benchValue)
			}
			done <- err
		}()
	}
	for range 16 {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	shut(b, s)
	for b.Loop() {
		s := must[*Store](b)(Open(b.Context(), dir, Options{}))
		kv := bucket(b, tenant(b, s, "acme", Limits{}), "desired")
		if p := must[Page](b)(kv.List("", 0, "")); len(p.Entries) != 10_000 {
			b.Fatalf("%d keys", len(p.Entries))
		}
		shut(b, s)
	}
}
