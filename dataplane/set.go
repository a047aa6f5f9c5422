package dataplane

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"sfc/dataplane/packet"
	"sfc/dataplane/ring"
	"sfc/dataplane/steer"
)

// Set is the workers of one data plane: all on the same ports, each with flows
// of its own. Its methods may be called from any goroutine, except from a
// worker's.
type Set struct {
	workers []*Worker
	owners  *steer.Owners
	grace   func() error

	mu      sync.Mutex // one move at a time, none during Stop
	started bool
	stopped bool
	spare   map[uint16]*transfer // by chain: memory of the last move
}

// NewSet makes workers that share their ports. Their Index and Owners are set
// here; owners may be nil when there is only one. grace returns when every run
// of the steering program that had begun has ended (bpf.Steering.Grace); nil
// where there is no such program.
func NewSet(cfgs []Config, owners *steer.Owners, grace func() error) (*Set, error) {
	if len(cfgs) == 0 || len(cfgs) > 1 && owners == nil {
		return nil, fmt.Errorf("%d workers: want one, or several with a table of owners", len(cfgs))
	}
	if len(cfgs) == 1 {
		owners = nil // it has everything
	}
	s := &Set{owners: owners, grace: grace}
	for i, cfg := range cfgs {
		cfg.Index, cfg.Owners = i, owners
		w, err := NewWorker(cfg)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("worker %d: %w", i, err), s.Stop())
		}
		s.workers = append(s.workers, w)
	}
	n := len(s.workers)
	for _, w := range s.workers {
		w.peers.workers = s.workers
		w.peers.in, w.peers.out = make([]*ring.Ring[item], n), make([]*ring.Ring[item], n)
	}
	for from, a := range s.workers {
		for to, b := range s.workers {
			if from == to {
				continue
			}
			r, err := ring.New[item](handoffSlots)
			if err != nil {
				return nil, errors.Join(err, s.Stop())
			}
			a.peers.out[to], b.peers.in[from] = r, r
		}
	}
	return s, nil
}

// Workers returns the workers, by index.
func (s *Set) Workers() []*Worker { return s.workers }

// Start starts all workers, or none.
func (s *Set) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = true
	for i, w := range s.workers {
		if err := w.Start(); err != nil {
			return errors.Join(fmt.Errorf("worker %d: %w", i, err), s.stop())
		}
	}
	return nil
}

// Stop ends all workers after their turns under way and waits for them. What
// they had handed to each other and not taken yet is dropped: shutdown. It may
// be called again.
func (s *Set) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stop()
}

func (s *Set) stop() error {
	if s.stopped {
		return nil
	}
	s.stopped = true
	for _, w := range s.workers {
		w.halt()
	}
	var errs []error
	for _, w := range s.workers {
		errs = append(errs, w.ended())
	}
	for _, w := range s.workers { // nobody pushes any more
		w.emptyRings()
		errs = append(errs, w.Stop())
	}
	return errors.Join(errs...)
}

// emptyRings drops what was handed to a worker that has stopped.
func (w *Worker) emptyRings() {
	for _, r := range w.peers.in {
		if r == nil {
			continue
		}
		for n := r.Pop(w.peers.batch[:]); n > 0; n = r.Pop(w.peers.batch[:]) {
			w.local.HandedIn += uint64(n)
			for i := range n {
				w.drop(&w.peers.batch[i], packet.ReasonShutdown)
			}
		}
	}
	w.shared.publish(&w.local)
}

// Counters returns the sum of all workers' counters.
func (s *Set) Counters() Counters {
	var sum Counters
	for _, w := range s.workers {
		c := w.Counters()
		sum.add(&c)
	}
	return sum
}

// MoveReport says how a bucket changed hands.
type MoveReport struct {
	Chain, Bucket uint16
	From, To      int
	// Flows is how many flows moved. Refused of them found no room at the new
	// owner and have ended.
	Flows, Refused int
	// Took is the time from the change of owner until the new one had
	// everything: no packet was held longer.
	Took time.Duration
	// Forced says that packets which had been sent to the old owner never
	// came: its rings were full.
	Forced bool
}

// patience is how long a move waits for packets that were sent before it makes
// sure that no more will come.
const patience = 2 * time.Millisecond

// Move gives the flows of a bucket of a chain to a worker, while traffic runs:
// nothing is lost, and the packets of every flow keep their order. To give a
// worker what it has is no error. It returns when the new owner has them.
func (s *Set) Move(chain, bucket uint16, to int) (MoveReport, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := MoveReport{Chain: chain, Bucket: bucket, To: to}
	switch {
	case to < 0 || to >= len(s.workers):
		return r, fmt.Errorf("move bucket %d to worker %d: there are workers 0 to %d", bucket, to, len(s.workers)-1)
	case bucket >= steer.Buckets:
		return r, fmt.Errorf("move bucket %d: a chain has buckets 0 to %d", bucket, steer.Buckets-1)
	case int(chain) >= len(s.workers[0].chains) || s.workers[0].chains[chain].runner == nil:
		return r, fmt.Errorf("move bucket %d of chain %d: there is no such chain", bucket, chain)
	case s.stopped || !s.started:
		return r, fmt.Errorf("move bucket %d: %w", bucket, ErrStopped)
	case s.owners == nil:
		return r, nil
	}
	r.From = s.owners.Owner(chain, bucket)
	if r.From == to {
		return r, nil
	}
	t := s.transfer(chain)
	t.chain, t.bucket, t.from, t.to = chain, bucket, s.workers[r.From], s.workers[to]
	if _, err := t.to.Do(func() { t.to.chains[chain].buckets[bucket] = arriving }); err != nil {
		return r, err
	}
	start := time.Now()
	t.want = s.owners.Flip(chain, bucket, to)
	t.from.post(func() { t.from.moves.leaving = append(t.from.moves.leaving, t) })
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-t.done:
	case <-timer.C:
		if err := s.force(t); err != nil {
			return r, err
		}
		<-t.done
	}
	r.Took, r.Flows, r.Refused, r.Forced = time.Since(start), t.flows, t.refused, t.force
	return r, nil
}

// force makes sure that all packets that were sent to a transfer's old owner
// lie in its rings, and tells it so.
func (s *Set) force(t *transfer) error {
	if s.grace != nil {
		if err := s.grace(); err != nil {
			return fmt.Errorf("move bucket %d: wait for the steering program: %w", t.bucket, err)
		}
	}
	// Workers send as the steering program does, within one turn.
	for _, w := range s.workers {
		if _, err := w.Do(func() {}); err != nil {
			return err
		}
	}
	t.from.post(func() { t.from.expectNoMore(t) })
	return nil
}

// transfer returns memory for a move of the chain's flows.
func (s *Set) transfer(chain uint16) *transfer {
	if s.spare == nil {
		s.spare = map[uint16]*transfer{}
	}
	c := &s.workers[0].chains[chain]
	t := newTransfer(c.runner, false)
	if old := s.spare[chain]; old != nil && c.flows != nil && len(old.state) == parcelFlows*c.runner.FlowBytes() {
		t.records, t.state = old.records, old.state
	} else if c.flows != nil {
		t = newTransfer(c.runner, true)
	}
	s.spare[chain] = t
	return t
}

// Holds returns for how long packets were held because their flows changed
// hands, in ns, over all workers.
func (s *Set) Holds() (*hdrhistogram.Histogram, error) {
	sum := hdrhistogram.New(1, 60_000_000_000, 3)
	for _, w := range s.workers {
		merge := func() { sum.Merge(w.moves.holds) }
		if _, err := w.Do(merge); errors.Is(err, ErrStopped) {
			merge()
		} else if err != nil {
			return nil, err
		}
	}
	return sum, nil
}
