package agent

import (
	"errors"
	"fmt"
	"time"

	"sfc/dataplane"
	"sfc/nf/wasm"
)

// post is a worker and what a chain is there.
type post struct {
	run   *dataplane.Worker
	group *wasm.Group
}

// rollOut replaces a function on all workers: prepare makes the new version for
// each of them before it is put in its place anywhere, which is between two
// bursts of each. It returns for how long each worker's packets waited.
func rollOut(line []post, prepare func(*wasm.Group) (*wasm.Replacement, error)) (ready []*wasm.Replacement, holds []time.Duration, err error) {
	ready = make([]*wasm.Replacement, 0, len(line))
	discard := func(list []*wasm.Replacement) {
		for _, r := range list {
			r.Discard()
		}
	}
	for _, p := range line {
		r, err := prepare(p.group)
		if err != nil {
			discard(ready)
			return nil, nil, err
		}
		ready = append(ready, r)
	}
	holds = make([]time.Duration, len(line))
	for i, p := range line {
		// The first worker may refuse. Then the others are a little later than
		// it was with the replacement before this one, too.
		var patience time.Duration
		if i > 0 {
			patience = time.Second
		}
		if holds[i], err = install(p.run, ready[i], patience); err != nil {
			discard(ready[i:])
			if i > 0 {
				err = fmt.Errorf("%w; workers before it have the new version: replace it again", err)
			}
			return nil, nil, fmt.Errorf("worker %d of %d: %w", i, len(line), err)
		}
	}
	return ready, holds, nil
}

// install puts a new version in place. While the one that is there is on
// probation it tries again, for as long as patience says.
func install(w *dataplane.Worker, r *wasm.Replacement, patience time.Duration) (hold time.Duration, err error) {
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		var installed error
		hold, err = w.Do(func() { installed = r.Install() })
		err = errors.Join(err, installed)
		if !errors.Is(err, wasm.ErrProbation) || time.Now().After(end) {
			return hold, err
		}
	}
}
