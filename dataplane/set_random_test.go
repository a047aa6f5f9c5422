package dataplane

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
)

// TestRandomMoves moves random buckets of several chains while packets of all
// kinds go both ways, functions drop and pass some, and flows end of old age or
// to make room for others. Then the workers stop, some in the middle of a move.
// Every packet has one fate and every flow its packets in order.
func TestRandomMoves(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("TEST_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("TEST_SEED=%d", seed)
	for i := range 8 {
		arena, crowded, abrupt := i&1 != 0, i&2 != 0, i&4 != 0
		t.Run(fmt.Sprintf("arena=%t/crowded=%t/abrupt=%t", arena, crowded, abrupt), func(t *testing.T) {
			randomMoves(t, rand.New(rand.NewPCG(seed, uint64(i))), arena, crowded, abrupt)
		})
	}
}

func randomMoves(t *testing.T, rnd *rand.Rand, arena, crowded, abrupt bool) {
	const chains = 3
	workers := 2 + rnd.IntN(2)
	o := playedOptions{workers: workers, flows: 2048, chains: chains, arena: arena, verdicts: true}
	if crowded {
		o.flows, o.forgetful = 256, true
		o.tables = func(opts *flow.Options) {
			opts.Timeouts.UDPOneWay, opts.Timeouts.UDPTwoWay = 20*time.Millisecond, 20*time.Millisecond
			opts.Sweep = 50 * time.Millisecond
		}
	}
	var seen []*strict
	o.config = func(c *Config) {
		s := &strict{decided: map[uint32]bool{}}
		seen = append(seen, s)
		c.Observer = s
	}
	b := makePlayed(t, o)
	for _, s := range seen {
		s.b = b
	}
	b.window = 128 // fits into any ring and any list
	b.start()
	plain := b.sources(1500)
	var odd []*fragmentSource
	for i := range 300 {
		odd = append(odd, b.fragmentsOf(&plain[i], i%2 == 1))
	}
	send := rand.New(rand.NewPCG(rnd.Uint64(), 1))
	stop := make(chan struct{})
	var sender, mover sync.WaitGroup
	sender.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			for range 20 {
				s := &plain[300+send.IntN(1200)]
				b.send(s, send.IntN(2)*min(int(s.n), 1), send)
				if f := odd[send.IntN(len(odd))]; send.IntN(4) == 0 {
					b.sendFragments(f)
				}
			}
		}
	})
	var moves, flows atomic.Int64
	mover.Go(func() {
		for {
			of := &plain[rnd.IntN(len(plain))] // its number of packets is the sender's
			r, err := b.set.Move(of.chain, of.at[0].Bucket, rnd.IntN(workers))
			if errors.Is(err, ErrStopped) {
				return
			}
			if err != nil || r.Stuck || r.Refused > 0 && !crowded {
				t.Errorf("%+v, %v", r, err)
				return
			}
			moves.Add(1)
			flows.Add(int64(r.Flows))
		}
	})
	tested := func() bool {
		c := b.set.Counters()
		return flows.Load() > 0 && c.HandedIn > 0 && c.Held > 0
	}
	// A busy machine may need longer until something happened.
	for start := time.Now(); time.Since(start) < 400*time.Millisecond || !tested() && time.Since(start) < 20*time.Second; {
		time.Sleep(10 * time.Millisecond)
	}
	if !abrupt {
		close(stop)
		sender.Wait()
		b.settle()
	}
	b.stopping.Store(abrupt)
	if err := b.set.Stop(); err != nil {
		t.Fatal(err)
	}
	if abrupt {
		close(stop)
		sender.Wait()
	}
	mover.Wait()
	b.account()
	c := b.set.Counters()
	taken, decided := uint64(0), map[uint32]bool{}
	for i, s := range seen {
		for seq := range s.decided {
			if decided[seq] {
				t.Errorf("packet %d is decided about by two workers", seq)
			}
			decided[seq] = true
		}
		taken += s.received + s.dropped
		if mine := b.set.workers[i].Counters(); s.sent != mine.Sent || s.received != uint64(len(s.decided)) {
			t.Errorf("worker %d: the observer saw %d sent, %d received, %d decided: %+v", i, s.sent, s.received, len(s.decided), mine)
		}
	}
	if taken != c.Received || !abrupt && c.Received != b.offers || c.Engine[packet.ReasonShutdown] > 0 && !abrupt {
		t.Errorf("offered %d, observed %d: %+v", b.offers, taken, c)
	}
	t.Logf("%d workers, %d packets, %d moves of %d flows, %d packets handed over, %d held, %d dropped at the end",
		workers, c.Received, moves.Load(), flows.Load(), c.HandedIn, c.Held, c.Engine[packet.ReasonShutdown])
	if !tested() {
		t.Error("nothing was tested")
	}
}
