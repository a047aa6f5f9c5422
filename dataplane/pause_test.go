package dataplane

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"sfc/dataplane/packet"
)

// Workers are paused under traffic, again and again. Every other time others
// take over their ports and tables. Nothing is lost and every flow keeps its
// order and its state.
func TestPauseHandsOver(t *testing.T) {
	var cfgs []Config
	b := makePlayed(t, playedOptions{workers: 3, flows: 4096, chains: 2, verdicts: true, config: func(c *Config) { cfgs = append(cfgs, *c) }})
	b.window = 256
	b.start()
	plain := b.sources(800)
	var odd []*fragmentSource
	for i := range 200 {
		odd = append(odd, b.fragmentsOf(&plain[i], i%2 == 1))
	}
	stop := make(chan struct{})
	var sender sync.WaitGroup
	sender.Go(func() {
		rnd := rand.New(rand.NewPCG(1, 2))
		for {
			select {
			case <-stop:
				return
			default:
			}
			s := &plain[200+rnd.IntN(600)]
			b.send(s, rnd.IntN(2)*min(int(s.n), 1), rnd)
			if rnd.IntN(8) == 0 {
				// Only those whose parts are in order: the others' first parts
				// may be received after the pause.
				b.sendFragments(odd[2*rnd.IntN(len(odd)/2)])
			}
		}
	})
	var sum Counters
	rnd := rand.New(rand.NewPCG(3, 4))
	for i := range 12 {
		time.Sleep(10 * time.Millisecond)
		for range 5 {
			of := &plain[rnd.IntN(len(plain))]
			if r, err := b.set.Move(of.chain, of.at[0].Bucket, rnd.IntN(3)); err != nil || r.Refused > 0 {
				t.Fatalf("%+v, %v", r, err)
			}
		}
		r, err := b.set.Pause()
		if err != nil || r.Unsent+r.Dropped > 0 {
			t.Fatalf("%+v, %v", r, err)
		}
		before := b.set.Counters()
		time.Sleep(2 * time.Millisecond)
		if c := b.set.Counters(); c.Received != before.Received || c.Received != c.Sent+c.Passed+c.Dropped || c.HandedIn != c.HandedOut {
			t.Fatalf("paused workers: %+v", c)
		}
		if _, err := b.set.Pause(); !errors.Is(err, ErrPaused) {
			t.Error(err)
		}
		if _, err := b.set.Move(0, 0, 1); !errors.Is(err, ErrPaused) {
			t.Error(err)
		}
		if err := b.set.RemoveChain(0); !errors.Is(err, ErrPaused) {
			t.Error(err)
		}
		if i%2 == 0 {
			if err := b.set.Resume(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := b.set.Stop(); err != nil {
			t.Fatal(err)
		}
		c := b.set.Counters()
		sum.add(&c)
		if b.set, err = NewSet(cfgs, b.owners, b.graceTime); err != nil {
			t.Fatal(err)
		}
		b.start()
	}
	close(stop)
	sender.Wait()
	for end := time.Now().Add(10 * time.Second); b.left() < b.offers && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if err := b.set.Stop(); err != nil {
		t.Fatal(err)
	}
	b.account()
	c := b.set.Counters()
	sum.add(&c)
	if sum.Received != b.offers || slices.Max(sum.Engine[:]) != 0 {
		t.Errorf("offered %d packets: %+v", b.offers, sum)
	}
	if _, err := b.set.Pause(); !errors.Is(err, ErrStopped) {
		t.Error(err)
	}
	if err := b.set.Resume(); !errors.Is(err, ErrStopped) {
		t.Error(err)
	}
}

// A link that is down does not keep workers from pausing: its frames stay where
// they are. What waits for a flow that nobody brings is dropped by name.
func TestPauseWithoutLink(t *testing.T) {
	b := makePlayed(t, playedOptions{workers: 2, flows: 64})
	for _, p := range b.ports {
		p.stuck = func(int) int { return 0 }
	}
	b.start()
	s, rnd := &b.sources(1)[0], rand.New(rand.NewPCG(1, 2))
	bucket := s.at[0].Bucket
	for range 10 {
		b.send(s, 0, rnd)
	}
	w := b.set.workers[b.owners.Owner(0, bucket)]
	for end := time.Now().Add(time.Second); w.Counters().Sent < 10 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if _, err := w.Do(func() { w.chains[0].buckets[bucket] = arriving }); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		b.send(s, 0, rnd)
	}
	for held := uint64(0); held < 5; {
		time.Sleep(time.Millisecond)
		if _, err := w.Do(func() { held = w.local.Held }); err != nil {
			t.Fatal(err)
		}
	}
	r, err := b.set.Pause()
	if err != nil || r.Unsent != 10 || r.Dropped != 5 || r.Took > time.Second {
		t.Errorf("%+v, %v", r, err)
	}
	if err := b.set.Stop(); err != nil {
		t.Fatal(err)
	}
	if c := b.set.Counters(); c.Engine[packet.ReasonHandover] != 5 {
		t.Errorf("%+v", c)
	}
	b.account()
}
