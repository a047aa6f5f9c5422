package agent

import (
	"context"
	"fmt"
)

// Alive returns when every worker has been between two bursts since the call: a
// worker that sleeps is woken, one that is stuck lets ctx end. The error says
// which did not come, or that one has ended by itself.
func (d *Dataplane) Alive(ctx context.Context) error {
	type turn struct {
		worker int
		err    error
	}
	turns := make(chan turn, len(d.workers))
	for i, w := range d.workers {
		go func() {
			_, err := w.run.Do(func() {})
			turns <- turn{i, err}
		}()
	}
	came := make([]bool, len(d.workers))
	for range d.workers {
		select {
		case t := <-turns:
			if t.err != nil {
				return fmt.Errorf("worker %d: %w", t.worker, t.err)
			}
			came[t.worker] = true
		case <-ctx.Done():
			var missing []int
			for i := range came {
				if !came[i] {
					missing = append(missing, i)
				}
			}
			return fmt.Errorf("workers %v take no turns: %w", missing, ctx.Err())
		}
	}
	return nil
}
