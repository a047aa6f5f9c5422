package dataplane

import (
	"errors"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"sfc/dataplane/steer"
)

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
	// Stuck says that frames of the old owner waited at a port which did not
	// send for a long time: they may leave behind those of the new owner.
	Stuck bool
}

// How long a move waits.
const (
	// patience is for packets that were sent, before it makes sure that no more
	// will come.
	patience = 2 * time.Millisecond
	// blindGrace is instead of a grace period, when the kernel refuses one: a
	// run of the steering program takes microseconds.
	blindGrace = 20 * time.Millisecond
)

// Move gives the flows of a bucket of a chain to a worker, while traffic runs:
// nothing is lost, and the packets of every flow keep their order. To give a
// worker what it has is no error. It returns when the new owner has them, also
// with an error from a worker that stopped or a grace period that was refused.
func (s *Set) Move(chain, bucket uint16, to int) (MoveReport, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := MoveReport{Chain: chain, Bucket: bucket, To: to}
	switch {
	case to < 0 || to >= len(s.workers):
		return r, fmt.Errorf("move bucket %d to worker %d: there are workers 0 to %d", bucket, to, len(s.workers)-1)
	case bucket >= steer.Buckets:
		return r, fmt.Errorf("move bucket %d: a chain has buckets 0 to %d", bucket, steer.Buckets-1)
	case !s.has(chain):
		return r, fmt.Errorf("move bucket %d of chain %d: %w", bucket, chain, ErrAbsent)
	case s.stopped || !s.started:
		return r, fmt.Errorf("move bucket %d: %w", bucket, ErrStopped)
	case s.paused:
		return r, fmt.Errorf("move bucket %d: %w", bucket, ErrPaused)
	case s.owners == nil:
		return r, nil
	}
	r.From = s.owners.Owner(chain, bucket)
	if r.From == to {
		return r, nil
	}
	t, err := s.transfer(chain, bucket, s.workers[r.From], s.workers[to])
	if err != nil {
		return r, fmt.Errorf("move bucket %d: %w", bucket, err)
	}
	if _, err := t.to.Do(func() { t.to.chains[chain].buckets[bucket] = arriving }); err != nil {
		return r, fmt.Errorf("move bucket %d: %w", bucket, err)
	}
	start := time.Now()
	t.want = s.owners.Flip(chain, bucket, to)
	if !t.from.post(func() { t.from.moves.leaving = t }) {
		t.stopped = true // its flows ended with it
		t.to.post(t.takeIn)
	}
	err = s.wait(t)
	r.Took, r.Flows, r.Refused, r.Forced, r.Stuck = time.Since(start), t.flows, t.refused, t.forced, t.stuck
	if t.stopped {
		err = errors.Join(err, ErrStopped)
	}
	if err != nil {
		return r, fmt.Errorf("move bucket %d: %w", bucket, err)
	}
	return r, nil
}

// wait waits until the new owner has everything, which it does in the end:
// every wait of the workers has a bound.
func (s *Set) wait(t *transfer) (err error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-t.done:
		return nil
	case <-timer.C:
	}
	err = s.force(t)
	<-t.done
	return err
}

// force makes sure that all packets that were sent to a transfer's old owner
// lie in its rings, and tells it so.
func (s *Set) force(t *transfer) (err error) {
	if s.grace != nil {
		if err = s.grace(); err != nil {
			err = fmt.Errorf("wait for the steering program: %w", err)
			time.Sleep(blindGrace)
		}
	}
	// Workers send as the steering program does, within one turn. One that has
	// stopped sends no more.
	for _, w := range s.workers {
		_, _ = w.Do(func() {})
	}
	t.from.post(func() { t.from.expectNoMore(t) })
	return err
}

// transfer returns a transfer of flows, with the memory of the chain's last one
// if that will do.
func (s *Set) transfer(chain, bucket uint16, from, to *Worker) (*transfer, error) {
	c, bytes := from.chains[chain], -1
	if c.flows != nil {
		// Functions may be replaced at this moment.
		if _, err := from.Do(func() { bytes = c.runner.FlowBytes() }); err != nil {
			return nil, err
		}
	}
	t := newTransfer(from, to)
	t.chain, t.bucket = chain, bucket
	if bytes >= 0 {
		t.reserve(bytes, s.spare[chain])
	}
	if s.spare == nil {
		s.spare = map[uint16]*transfer{}
	}
	s.spare[chain] = t
	return t, nil
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
