package dataplane

import (
	"errors"
	"fmt"
	"sync"

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
	paused  bool
	spare   map[uint16]*transfer // by chain: the last move, whose memory the next one may have
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
		w.peers.taken = make([]uint64, n)
	}
	for from, a := range s.workers {
		for to, b := range s.workers {
			if from == to {
				continue
			}
			r, err := ring.New[item](handoffRing(n))
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

// Start starts all workers, or none. A set is started once.
func (s *Set) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopped:
		return ErrStopped
	case s.started:
		return ErrStarted
	}
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
