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

// rollOut replaces functions on all workers: each of prepares makes a new version
// for one worker. All are made for all workers before any is put in its place
// anywhere, which is between two bursts of each worker. It returns them by
// function and worker, and for how long each worker's packets waited the longest.
func rollOut(line []post, prepares ...func(*wasm.Group) (*wasm.Replacement, error)) (ready [][]*wasm.Replacement, holds []time.Duration, err error) {
	made := make([][]*wasm.Replacement, len(prepares))
	defer func() {
		if err == nil {
			return
		}
		for _, list := range made {
			for _, r := range list {
				r.Discard() // of those that were installed, nothing is left to discard
			}
		}
	}()
	for k, prepare := range prepares {
		for _, p := range line {
			r, err := prepare(p.group)
			if err != nil {
				return nil, nil, err
			}
			made[k] = append(made[k], r)
		}
	}
	holds = make([]time.Duration, len(line))
	for k := range made {
		if err := exchange(line, made[k], holds); err != nil {
			for _, list := range made[:k] {
				for i := range line {
					// One that went back by itself needs no word.
					_, _ = line[i].run.Do(func() { _ = list[i].RollBack("another function could not be replaced") })
				}
			}
			return nil, nil, err
		}
	}
	return made, holds, nil
}

// exchange puts a new version in place on all workers.
func exchange(line []post, ready []*wasm.Replacement, holds []time.Duration) error {
	for i, p := range line {
		// The first worker may refuse. Then the others are a little later than
		// it was with the replacement before this one, too.
		var patience time.Duration
		if i > 0 {
			patience = time.Second
		}
		hold, err := install(p.run, ready[i], patience)
		holds[i] = max(holds[i], hold)
		if err != nil {
			if i > 0 {
				err = fmt.Errorf("%w; workers before it have the new version: replace it again", err)
			}
			return fmt.Errorf("worker %d of %d: %w", i, len(line), err)
		}
	}
	return nil
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
