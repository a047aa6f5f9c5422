package agent

import (
	"errors"
	"fmt"
	"runtime"

	"sfc/dataplane"
)

// Start starts the workers on their cores, once.
func (e *Engine) Start() error {
	if e.set == nil {
		return ErrNotConnected
	}
	// A worker in a guest or a system call keeps its P for up to 20 us before
	// the scheduler takes it away, and one that has nothing to do looks for
	// packets: leave some for the rest.
	before := runtime.GOMAXPROCS(0)
	if n := max(runtime.NumCPU(), e.opts.Workers) + 2; before < n {
		runtime.GOMAXPROCS(n)
	}
	restore := func() error { runtime.GOMAXPROCS(before); return nil }
	if err := e.set.Start(); err != nil {
		return errors.Join(err, restore())
	}
	e.connected.push(restore)
	return nil
}

// Run runs the first worker on the caller's goroutine until done returns true,
// which is called after every turn: for ports in memory.
func (e *Engine) Run(done func() bool) error {
	if e.set == nil {
		return ErrNotConnected
	}
	w := e.workers[0]
	w.run.Run(done)
	return w.run.Verify()
}

// Stop stops the workers and checks that no chunk of the frame region is lost.
// Counters are exact afterwards. It may be called again.
func (e *Engine) Stop() error {
	if e.set == nil || e.stopped {
		return nil
	}
	e.stopped = true
	return errors.Join(e.set.Stop(), e.verify())
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
