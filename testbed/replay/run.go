package replay

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"sfc/chains"
	"sfc/ctrl/agent"
	"sfc/dataplane/flow"
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
	t := newTracker(opts, rep)
	e, err := openEngine(opts, t)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	if err := t.follow(e); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.sinks.close()) }()
	running, end := context.WithCancelCause(ctx)
	defer end(nil)
	f, err := newFeed(running, e, src, t)
	if err != nil {
		return nil, err
	}
	d := newDisturbance(running, end, e, opts)
	start := time.Now()
	if opts.Offline {
		err = runOffline(e, f, t, d, rep, opts)
	} else {
		err = runLive(e, f, t, d, rep, opts)
	}
	if !t.started {
		return nil, err
	}
	err = errors.Join(err, d.describe(rep))
	if rep.Seconds == 0 {
		rep.Seconds = time.Since(start).Seconds()
	}
	describe(e, rep)
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

// follow tells the tracker what it needs to know of the engine.
func (t *tracker) follow(e *agent.Engine) (err error) {
	p := e.Plan()
	t.names, t.twoWay = e.ReasonName, twoWay(p)
	t.apart = t.twoWay || t.opts.Workers > 1
	t.translates = slices.ContainsFunc(p.Chains, func(c chains.Chain) bool { return c.Binds })
	t.reader, err = flow.NewReader(flow.ReaderOptions{Fragments: 1})
	return err
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
