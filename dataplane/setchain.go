package dataplane

import (
	"errors"
	"fmt"
	"time"
)

// Errors of chains and ports that come and go.
var (
	// ErrExists means that the index is taken.
	ErrExists = errors.New("index is taken")
	// ErrAbsent means that nothing has the index.
	ErrAbsent = errors.New("nothing has this index")
	// ErrBusy means that packets of the chain are still under way.
	ErrBusy = errors.New("packets are under way")
)

// Bounds of a removal.
const (
	// removeTime is how long packets of a chain may take to have their fates:
	// fragments wait for their first one for a tenth of it.
	removeTime = time.Second
	// removeRounds is how often all rings are emptied: a packet may be handed
	// from the worker that received it to one that had its flow and from there
	// to the one that has it.
	removeRounds = 3
	removeLook   = 200 * time.Microsecond
)

// has says whether there is such a chain. The caller holds mu.
func (s *Set) has(chain uint16) bool {
	w := s.workers[0]
	return int(chain) < len(w.chains) && w.chains[chain] != nil
}

// HasChain says whether there is a chain with this index.
func (s *Set) HasChain(chain uint16) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.has(chain)
}

// each runs f for every worker at once, on its thread between two bursts, or
// where it does not run, here. It waits for all of them. The caller holds mu.
func (s *Set) each(f func(w *Worker)) error {
	errs := make([]error, len(s.workers))
	done := make(chan int, len(s.workers))
	for i, w := range s.workers {
		if !w.started.Load() {
			f(w)
			done <- i
			continue
		}
		go func() {
			_, errs[i] = w.Do(func() { f(w) })
			done <- i
		}()
	}
	for range s.workers {
		<-done
	}
	return errors.Join(errs...)
}

// AddChain gives every worker a chain, each between two bursts: paths returns
// those of a worker, whose Chain is set here, and the first of which has the
// Runner that is ticked and told of ended flows. It returns when all workers
// have it, so steering may name its paths from then on; after an error none
// has it. Owners of its buckets must be set before.
//
// It works before Start too, but not while Start or Run begins.
func (s *Set) AddChain(index uint16, paths func(worker int) []IndexedPath) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return fmt.Errorf("add chain %d: %w", index, ErrStopped)
	}
	if s.owners != nil && index >= s.owners.Odd() {
		return fmt.Errorf("add chain %d: the table of owners has %d chains", index, s.owners.Odd())
	}
	fresh := make([]*chain, len(s.workers))
	for i, w := range s.workers {
		list := paths(i)
		if err := w.checkChain(index, list); err != nil {
			return fmt.Errorf("add chain %d to worker %d: %w", index, i, err)
		}
		fresh[i] = w.newChain(list)
	}
	if err := s.each(func(w *Worker) { w.install(fresh[w.cfg.Index]) }); err != nil {
		_ = s.each(func(w *Worker) {
			if w.chains[index] != nil {
				w.uninstall(w.chains[index])
			}
		}) // those that have stopped have nothing to give back
		return fmt.Errorf("add chain %d: %w", index, err)
	}
	return nil
}

// checkChain checks the paths of a chain that is to be added, and sets their
// Chain.
func (w *Worker) checkChain(chain uint16, list []IndexedPath) error {
	switch {
	case len(list) == 0:
		return errors.New("it has no paths")
	case int(chain) >= len(w.chains):
		return fmt.Errorf("there can be %d chains", len(w.chains))
	case w.chains[chain] != nil:
		return fmt.Errorf("chain %d: %w", chain, ErrExists)
	}
	for i := range list {
		p := &list[i]
		p.Chain = chain
		if err := w.cfg.validatePath(p.Index, &p.Path); err != nil {
			return err
		}
		if w.lanes[p.Index] != nil {
			return fmt.Errorf("path %d: %w", p.Index, ErrExists)
		}
		for _, o := range list[:i] {
			if o.Index == p.Index {
				return fmt.Errorf("path %d is there twice: %w", p.Index, ErrExists)
			}
		}
	}
	return nil
}

// RemoveChain takes chains from all workers, when everything of them that was
// under way has its fate. Steering has stopped naming their paths before. With
// [ErrBusy] packets were still under way after a second, and the chains stay.
// Afterwards nobody uses their runners and tables any more.
func (s *Set) RemoveChain(chains ...uint16) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return fmt.Errorf("remove chains %v: %w", chains, ErrStopped)
	}
	if s.paused {
		return fmt.Errorf("remove chains %v: %w", chains, ErrPaused)
	}
	for _, chain := range chains {
		if !s.has(chain) {
			return fmt.Errorf("remove chain %d: %w", chain, ErrAbsent)
		}
	}
	if err := s.quiet(chains); err != nil {
		return fmt.Errorf("remove chains %v: %w", chains, err)
	}
	for _, chain := range chains {
		delete(s.spare, chain)
		if err := s.each(func(w *Worker) { w.uninstall(w.chains[chain]) }); err != nil {
			return fmt.Errorf("remove chain %d: %w", chain, err)
		}
	}
	return nil
}

// Shut has a chain take no new flows, on every worker from its next burst on, or
// take them again: packets without a flow are dropped as no_path. A chain that
// keeps no flows has none that are old, and drops everything.
func (s *Set) Shut(chain uint16, on bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.has(chain) {
		return fmt.Errorf("shut chain %d: %w", chain, ErrAbsent)
	}
	if err := s.each(func(w *Worker) {
		c := w.chains[chain]
		if c.shut = on; c.flows != nil {
			c.flows.Shut(on)
		}
	}); err != nil {
		return fmt.Errorf("shut chain %d: %w", chain, err)
	}
	return nil
}

// SetEgress lets the packets of a path leave by another port, on every worker
// from its next burst on.
func (s *Set) SetEgress(path uint16, port int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := s.workers[0]
	if first.lane(path) == nil {
		return fmt.Errorf("egress of path %d: %w", path, ErrAbsent)
	}
	if port < 0 || port >= len(first.tx) {
		return fmt.Errorf("egress of path %d: port %d, there can be %d", path, port, len(first.tx))
	}
	if err := s.each(func(w *Worker) { w.lane(path).Egress = uint16(port) }); err != nil {
		return fmt.Errorf("egress of path %d: %w", path, err)
	}
	return nil
}

// quiet waits until nothing of these chains is under way.
func (s *Set) quiet(chains []uint16) error {
	if s.grace != nil {
		if err := s.grace(); err != nil {
			time.Sleep(blindGrace)
		}
	}
	end := time.Now().Add(removeTime)
	for range removeRounds {
		if err := s.emptied(end); err != nil {
			return err
		}
	}
	for {
		kept := make([]int, len(s.workers))
		if err := s.each(func(w *Worker) {
			for _, chain := range chains {
				kept[w.cfg.Index] += w.keeps(w.chains[chain])
			}
		}); err != nil {
			return err
		}
		sum := 0
		for _, n := range kept {
			sum += n
		}
		switch {
		case sum == 0:
			return nil
		case time.Now().After(end) || !s.running():
			return fmt.Errorf("%w: %d wait for their flow, their first fragment or their turn", ErrBusy, sum)
		}
		time.Sleep(removeLook)
	}
}

// running says whether any worker runs.
func (s *Set) running() bool {
	for _, w := range s.workers {
		if w.started.Load() && !w.stop.Load() {
			return true
		}
	}
	return false
}

// emptied waits until the workers have taken what lies in their rings now.
func (s *Set) emptied(end time.Time) error {
	rx, in := make([][]uint64, len(s.workers)), make([][]uint64, len(s.workers))
	if err := s.each(func(w *Worker) {
		i := w.cfg.Index
		rx[i], in[i] = make([]uint64, len(w.ports)), make([]uint64, len(w.peers.in))
		w.lieInRings(rx[i], in[i])
	}); err != nil {
		return err
	}
	for s.running() {
		left := make([]bool, len(s.workers))
		if err := s.each(func(w *Worker) { left[w.cfg.Index] = !w.emptied(rx[w.cfg.Index], in[w.cfg.Index]) }); err != nil {
			return err
		}
		any := false
		for _, l := range left {
			any = any || l
		}
		if !any {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%w: workers did not get through their rings", ErrBusy)
		}
		time.Sleep(removeLook)
	}
	return nil
}
