package agent

import (
	"errors"
	"fmt"
	"runtime"

	"sfc/dataplane"
)

// Start starts the workers on their cores.
func (e *Engine) Start() error {
	// A worker in a guest or a system call keeps its P for up to 20 us before
	// the scheduler takes it away: leave some for the rest.
	if n := runtime.NumCPU() + 2; runtime.GOMAXPROCS(0) < n {
		before := runtime.GOMAXPROCS(n)
		e.connected.push(func() error { runtime.GOMAXPROCS(before); return nil })
	}
	for _, w := range e.workers {
		if w.run == nil {
			return ErrNotConnected
		}
		w.started = true
		if err := w.run.Start(); err != nil {
			return errors.Join(err, e.Stop())
		}
	}
	return nil
}

// Run runs the first worker on the caller's goroutine until done returns true,
// which is called after every turn: for ports in memory.
func (e *Engine) Run(done func() bool) error {
	w := e.workers[0]
	if w.run == nil {
		return ErrNotConnected
	}
	w.run.Run(done)
	return w.run.Verify()
}

// Stop stops the workers and checks that no chunk of the frame region is lost.
// Counters are exact afterwards. It may be called again.
func (e *Engine) Stop() error {
	var errs []error
	stopped := false
	for _, w := range e.workers {
		if w.started {
			w.started, stopped = false, true
			errs = append(errs, w.run.Stop())
		}
	}
	if stopped {
		errs = append(errs, e.verify())
	}
	return errors.Join(errs...)
}

// verify checks that every chunk is accounted for, of all stopped workers
// together: one may have received what another has sent.
func (e *Engine) verify() error {
	if e.umem != nil {
		return e.umem.Verify(0)
	}
	free := 0 // ports in memory keep none
	if err := e.depot.Check(func(uint32) { free++ }); err != nil {
		return err
	}
	if free != e.depot.Total() {
		return fmt.Errorf("%w: free %d, total %d", dataplane.ErrChunks, free, e.depot.Total())
	}
	return nil
}
