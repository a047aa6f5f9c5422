package replay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"sfc/ctrl/agent"
	"sfc/ctrl/place"
	"sfc/dataplane"
)

// disturbance moves flows between workers and replaces functions while packets
// flow. When one of both fails, it ends the replay.
type disturbance struct {
	e    *agent.Engine
	opts Options
	ctx  context.Context
	end  context.CancelCauseFunc // of the replay

	halt    context.CancelFunc // of what follows
	running sync.WaitGroup
	mu      sync.Mutex
	failed  error
	moves   MoveReport
	swaps   uint64
	pauses  *hdrhistogram.Histogram
}

func newDisturbance(ctx context.Context, end context.CancelCauseFunc, e *agent.Engine, opts Options) *disturbance {
	return &disturbance{e: e, opts: opts, ctx: ctx, end: end, halt: func() {}, pauses: hdrhistogram.New(1, 60_000_000_000, 3)}
}

// start begins once the workers run, or are about to.
func (d *disturbance) start() {
	ctx, halt := context.WithCancel(d.ctx)
	d.halt = halt
	switch {
	case d.opts.Balance:
		d.run(func() error { return d.e.Balance(ctx, balanceEvery, place.Options{}, d.moved, nil) })
	case d.opts.MoveEvery > 0:
		d.run(func() error { return d.move(ctx) })
	}
	if d.opts.SwapEvery > 0 {
		d.run(func() error { return d.swap(ctx) })
	}
}

// run runs one of both until it ends, or fails.
func (d *disturbance) run(f func() error) {
	d.running.Go(func() {
		if err := f(); err != nil && !errors.Is(err, dataplane.ErrStopped) {
			d.mu.Lock()
			if d.failed == nil {
				d.failed = err
			}
			d.mu.Unlock()
			d.end(err)
		}
	})
}

// stop ends it, and returns what failed first. It may be called again, and
// without start.
func (d *disturbance) stop() error {
	d.halt()
	d.running.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed
}

// verdict ends the disturbance and says how the sending went, whose result is
// sent: when a move or swap failed it ended for that.
func (d *disturbance) verdict(sent error) error {
	failed := d.stop()
	if failed == nil || errors.Is(sent, failed) {
		return sent
	}
	return errors.Join(sent, failed)
}

// balanceEvery is how often the balancer looks at loads.
const balanceEvery = 100 * time.Millisecond

// movesPerTick bounds the buckets that move at a time.
const movesPerTick = 4

// move gives the busiest buckets of the last interval to the next worker, so
// that what every worker owns changes all the time.
func (d *disturbance) move(ctx context.Context) error {
	tick := time.NewTicker(d.opts.MoveEvery)
	defer tick.Stop()
	last := d.e.Load(nil)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := d.e.Load(last)
		busiest := slices.SortedFunc(slices.Values(now.Buckets), func(a, b place.Bucket) int { return int(int64(b.Packets) - int64(a.Packets)) })
		for _, b := range busiest[:min(len(busiest), movesPerTick)] {
			r, err := d.e.Move(b.Chain, b.Bucket, (b.Owner+1)%d.opts.Workers)
			if err != nil {
				return err
			}
			d.moved(r)
		}
		last = now
	}
}

func (d *disturbance) moved(r dataplane.MoveReport) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.moves.Count++
	d.moves.Flows += uint64(r.Flows)
	d.moves.Refused += uint64(r.Refused)
	if r.Forced {
		d.moves.Forced++
	}
	if r.Stuck {
		d.moves.Stuck++
	}
}

// swap replaces a function by the same module, each in turn, without probation:
// the next replacement must not have to wait for it.
func (d *disturbance) swap(ctx context.Context) error {
	type spot struct{ chain, hop int }
	var all []spot
	for chain, c := range d.e.Plan().Chains {
		for hop := range c.Functions {
			all = append(all, spot{chain, hop})
		}
	}
	if len(all) == 0 {
		return nil
	}
	tick := time.NewTicker(d.opts.SwapEvery)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		at := all[i%len(all)]
		c := &d.e.Plan().Chains[at.chain]
		r, err := d.e.Swap(at.chain, at.hop, agent.SwapOptions{Module: c.Functions[at.hop].Module, Probation: -1})
		if err != nil {
			return fmt.Errorf("chain %s: %w", c.Title(), err)
		}
		d.swapped(r)
	}
}

func (d *disturbance) swapped(r *agent.SwapReport) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.swaps++
	for _, hold := range r.Holds {
		_ = d.pauses.RecordValue(int64(hold)) // a minute is out of range, and not worth an error
	}
}

// describe writes what was done into the report. The workers have stopped.
func (d *disturbance) describe(rep *Report) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.opts.MoveEvery > 0 || d.opts.Balance {
		holds, err := d.e.Holds()
		if err != nil {
			return err
		}
		rep.Moves = &d.moves
		rep.Moves.Hold = delayReport(holds)
	}
	if d.opts.SwapEvery > 0 {
		rep.Swaps = &SwapReport{Count: d.swaps, Pause: delayReport(d.pauses)}
	}
	return nil
}

func delayReport(h *hdrhistogram.Histogram) DelayReport {
	return DelayReport{Count: uint64(h.TotalCount()), P50: h.ValueAtQuantile(50), P99: h.ValueAtQuantile(99), Max: h.Max()}
}
