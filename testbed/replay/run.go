package replay

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"sfc/dataplane"
)

// Run replays a capture. The report is complete when err is nil. ErrUnbalanced
// means that the replay ended and does not add up; a context's error that it
// was interrupted: the report tells what became of the packets sent until then.
// With any other error there may be no report. Nothing is left behind, and no
// file written unless the replay started.
func Run(ctx context.Context, opts Options) (rep *Report, err error) {
	opts = opts.withDefaults()
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	if !opts.Offline && os.Geteuid() != 0 {
		return nil, ErrNotRoot
	}
	rep = &Report{Dropped: map[string]uint64{}, Mode: Mode{Clock: opts.Clock, Core: -1}}
	src, err := openSource(opts, &rep.Capture)
	if err != nil {
		return nil, err
	}
	defer src.close()
	// A worker in a guest or a system call keeps its P for up to 20 us before
	// the scheduler takes it away: leave some for the rest.
	if n := runtime.NumCPU() + 2; runtime.GOMAXPROCS(0) < n {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(n))
	}
	e, err := newEngine(opts, ports)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.close()) }()
	t := newTracker(opts, rep)
	t.names = e.reasonName
	defer func() { err = errors.Join(err, t.sinks.close()) }()
	start := time.Now()
	if opts.Offline {
		err = runOffline(ctx, e, src, t, rep, opts)
	} else {
		err = runLive(ctx, e, src, t, rep, opts)
	}
	if !t.started {
		return nil, err
	}
	if rep.Seconds == 0 {
		rep.Seconds = time.Since(start).Seconds()
	}
	e.describe(rep)
	t.finish()
	if stopped := ctx.Err(); stopped != nil && errors.Is(err, stopped) {
		err = fmt.Errorf("interrupted after %d packets: %w", rep.Sent, err)
	}
	if err == nil {
		err = t.err
	}
	if err == nil {
		err = rep.Balance()
	}
	return rep, err
}

// finish closes the account: what is still under way is lost.
func (t *tracker) finish() {
	t.reconcile()
	t.giveUp()
	rep := t.report
	if rep.Seconds > 0 {
		rep.PPS = float64(int(float64(rep.Sent) / rep.Seconds))
	}
	rep.Latency = LatencyReport{
		P50: t.latency.ValueAtQuantile(50), P99: t.latency.ValueAtQuantile(99),
		P999: t.latency.ValueAtQuantile(99.9), Max: t.latency.Max(),
	}
}

func workerReport(c dataplane.Counters) WorkerReport {
	return WorkerReport{Turns: c.Turns, Sleeps: c.Sleeps, Received: c.Received, Sent: c.Sent, Passed: c.Passed, Dropped: c.Dropped}
}
