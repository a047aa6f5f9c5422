package dataplane

import (
	"math/rand/v2"
	"testing"
	"time"

	"sfc/dataplane/packet"
)

// hands is a set whose workers take their turns when the test says so: nothing
// happens in between.
type hands struct {
	*played
	rnd *rand.Rand
}

func newHands(t *testing.T, o playedOptions) *hands {
	t.Helper()
	h := &hands{played: makePlayed(t, o), rnd: rand.New(rand.NewPCG(3, 4))}
	h.set.started = true
	for _, w := range h.set.workers {
		w.started.Store(true)
	}
	return h
}

// turn lets workers take a turn each.
func (h *hands) turn(workers ...int) {
	for _, i := range workers {
		h.set.workers[i].turn()
	}
}

// end stops a worker, as its own thread would.
func (h *hands) end(worker int) {
	w := h.set.workers[worker]
	w.stop.Store(true)
	w.end()
	close(w.done)
}

// finish ends all workers and checks the books.
func (h *hands) finish() {
	h.t.Helper()
	for range 100 {
		for _, w := range h.set.workers {
			if !w.stop.Load() {
				w.turn()
			}
		}
	}
	h.stopping.Store(true)
	for i, w := range h.set.workers {
		if !w.stop.Load() {
			h.end(i)
		}
	}
	if err := h.set.Stop(); err != nil {
		h.t.Fatal(err)
	}
	h.account()
}

// moved is what came of a move.
type moved struct {
	MoveReport
	err error
}

// move begins to give a bucket of the first chain to a worker.
func (h *hands) move(bucket uint16, to int) chan moved {
	done := make(chan moved, 1)
	go func() {
		r, err := h.set.Move(0, bucket, to)
		done <- moved{r, err}
	}()
	return done
}

// until lets workers take turns until a move is over, and fails when it is not
// within some seconds.
func (h *hands) until(done chan moved, workers ...int) moved {
	h.t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		h.turn(workers...)
		select {
		case m := <-done:
			return m
		default:
		}
	}
	h.t.Fatal("the move does not end")
	return moved{}
}

// flipped lets two workers take turns until a bucket has its new owner. The old
// one has not let the flows go yet.
func (h *hands) flipped(bucket uint16, from, to int) {
	for {
		for _, i := range []int{from, to} {
			if h.owners.Owner(0, bucket) == to {
				return
			}
			h.turn(i)
		}
	}
}

// patient lets the flows that leave a worker wait for its TX rings for as long
// as it takes; false when none do.
func (h *hands) patient(worker int) bool {
	t := h.set.workers[worker].moves.leaving
	if t != nil && t.sending {
		t.sendBy += uint64(time.Hour)
	}
	return t != nil && t.sending
}

// put lays a flow's next packet into a worker's RX ring, whoever its owner is.
func (h *hands) put(s *source, back, worker int) {
	h.t.Helper()
	chunk, ok := h.pool.Get()
	if !ok {
		h.t.Fatal("no free chunk")
	}
	f := h.write(s, back, chunk)
	if !h.rings[worker].Push(&f) {
		h.t.Fatal("RX ring is full")
	}
	s.n++
	h.offers++
}

// ownedBy returns a flow of the first chain whose bucket a worker has.
func (h *hands) ownedBy(sources []source, worker int) *source {
	for i := range sources {
		if s := &sources[i]; h.owners.Owner(0, s.at[0].Bucket) == worker {
			return s
		}
	}
	h.t.Fatalf("worker %d owns no flow", worker)
	return nil
}

var _ Port = (*playedPort)(nil)

// engineDrops returns how many packets were dropped for a reason.
func (h *hands) engineDrops(r packet.Reason) (n uint64) {
	for _, w := range h.set.workers {
		n += w.local.Engine[r]
	}
	return n
}
