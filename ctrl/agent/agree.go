package agent

import (
	"fmt"
	"time"

	"sfc/nf/wasm"
)

// agreeEvery is how often workers on probation are compared.
const agreeEvery = 20 * time.Millisecond

// agree keeps the workers' versions of a function the same: when the new one
// goes back on one of them in its probation, or on trial, it goes back on all. It returns
// when probation, or a trial, is over, or gone is closed.
func agree(line []post, ready []*wasm.Replacement, gone <-chan struct{}) {
	tick := time.NewTicker(agreeEvery)
	defer tick.Stop()
	for {
		select {
		case <-gone:
			return
		case <-tick.C:
		}
		open, faulted, why := false, -1, ""
		for i, r := range ready {
			switch s := r.Status(); s.Phase {
			case wasm.Probation, wasm.OnTrial:
				open = true
			case wasm.RolledBack:
				faulted, why = i, s.Why
			}
		}
		if !open {
			return
		}
		if faulted < 0 {
			continue
		}
		why = fmt.Sprintf("worker %d: %s", faulted, why)
		for i := range line {
			// One that went back by itself, or has stopped, needs no word.
			_, _ = line[i].run.Do(func() { _ = ready[i].RollBack(why) })
		}
		return
	}
}
