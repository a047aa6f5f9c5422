package dataplane

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"sfc/dataplane/steer"
)

func TestMoveUnderTraffic(t *testing.T) {
	for _, c := range []struct {
		name          string
		workers, lose int
	}{{"two workers", 2, 0}, {"four workers", 4, 0}, {"RX ring overflows", 2, 20}} {
		t.Run(c.name, func(t *testing.T) {
			b := newPlayed(t, c.workers, 8192)
			b.lose = c.lose
			sources := b.sources(3000)
			stop := make(chan struct{})
			var sender sync.WaitGroup
			sender.Go(func() { b.traffic(sources, stop) })
			rnd := rand.New(rand.NewPCG(7, uint64(c.workers)))
			moves, flows, forced := 0, 0, 0
			tested := func() bool { return flows > 100 && (c.lose == 0 || forced > 0) }
			// A busy machine may need longer until something happened.
			for start := time.Now(); time.Since(start) < time.Second || !tested() && time.Since(start) < 20*time.Second; moves++ {
				// Few buckets, so that they move again and again.
				r, err := b.set.Move(0, uint16(rnd.IntN(64)), rnd.IntN(c.workers))
				if err != nil {
					t.Fatal(err)
				}
				if r.Refused != 0 {
					t.Errorf("%d flows were refused", r.Refused)
				}
				flows += r.Flows
				if r.Forced {
					forced++
				}
			}
			close(stop)
			sender.Wait()
			b.finish(sources)
			holds, err := b.set.Holds()
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d packets, %d lost by the kernel, %d moves of %d flows, %d forced, %d packets held, p50 %d us, p99 %d us, max %d us",
				b.offers, b.lost, moves, flows, forced, holds.TotalCount(),
				holds.ValueAtQuantile(50)/1000, holds.ValueAtQuantile(99)/1000, holds.Max()/1000)
			if !tested() {
				t.Error("nothing was tested")
			}
		})
	}
}

func TestMoveRefusals(t *testing.T) {
	b := newPlayed(t, 2, 64)
	for _, c := range []struct {
		chain, bucket uint16
		to            int
	}{{0, 0, 2}, {0, 0, -1}, {0, steer.Buckets, 0}, {1, 0, 0}, {9, 0, 0}} {
		if _, err := b.set.Move(c.chain, c.bucket, c.to); err == nil {
			t.Errorf("chain %d bucket %d to %d: no error", c.chain, c.bucket, c.to)
		}
	}
	b.finish(nil)
	if _, err := b.set.Move(0, 0, 1); err == nil {
		t.Error("a set that has stopped moves flows")
	}
}
