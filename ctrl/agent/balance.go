package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"sfc/ctrl/place"
	"sfc/dataplane"
	"sfc/dataplane/steer"
)

// Move gives the flows of a bucket of a chain to a worker, while packets flow;
// see [dataplane.Set.Move]. Anyone may call it while the workers run.
func (e *Engine) Move(chain, bucket uint16, to int) (dataplane.MoveReport, error) {
	if e.set == nil {
		return dataplane.MoveReport{}, ErrNotConnected
	}
	r, err := e.set.Move(chain, bucket, to)
	if err != nil {
		return r, fmt.Errorf("chain %s: %w", e.chainName(chain), err)
	}
	return r, nil
}

func (e *Engine) chainName(chain uint16) string {
	if int(chain) < len(e.plan.Chains) {
		return e.plan.Chains[chain].Title()
	}
	return fmt.Sprint(chain)
}

// Holds returns for how long packets were held because their flows changed
// hands, in ns.
func (e *Engine) Holds() (*hdrhistogram.Histogram, error) {
	if e.set == nil {
		return nil, ErrNotConnected
	}
	return e.set.Holds()
}

// Load returns how many packets came for every bucket that had any, and who
// owns it. last is what the call before it returned, nil for the first: the
// counts are those since then. It is empty when the engine is not connected.
// Anyone may call it.
func (e *Engine) Load(last *Load) *Load {
	l := &Load{
		Snapshot: place.Snapshot{Workers: e.opts.Workers},
		sent:     make([]uint64, len(e.plan.Chains)*steer.Buckets),
		owner:    make([]uint8, len(e.plan.Chains)*steer.Buckets),
	}
	e.tables.RLock()
	defer e.tables.RUnlock()
	if e.owners == nil {
		return l
	}
	for i := range l.sent {
		chain, bucket := uint16(i/steer.Buckets), uint16(i%steer.Buckets)
		owner, sent := e.owners.Owner(chain, bucket), e.owners.Sent(chain, bucket)
		l.sent[i], l.owner[i] = sent, uint8(owner)
		if last != nil && last.owner[i] == uint8(owner) && last.sent[i] <= sent {
			sent -= last.sent[i] // since a change of owner, the count began anew
		}
		if sent > 0 {
			l.Buckets = append(l.Buckets, place.Bucket{Chain: chain, Bucket: bucket, Owner: owner, Packets: sent})
		}
	}
	return l
}

// attached says whether the tables of owners are there.
func (e *Engine) attached() bool {
	e.tables.RLock()
	defer e.tables.RUnlock()
	return e.owners != nil
}

// Load is what came for every bucket in an interval.
type Load struct {
	place.Snapshot
	sent  []uint64
	owner []uint8
}

// Balance moves buckets from workers that have much to do to those that have
// little, every so often, until ctx ends. moved, when not nil, is told of every
// move, and of elephants that only a faster core could help. It returns the
// error of a move that failed, ErrNotConnected when there is no engine to
// balance (any more), nil when ctx ended. Anyone may call it.
func (e *Engine) Balance(ctx context.Context, every time.Duration, opts place.Options, moved func(dataplane.MoveReport), elephants func([]place.Elephant)) error {
	b := place.New(opts)
	tick := time.NewTicker(every)
	defer tick.Stop()
	last := e.Load(nil)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := e.Load(last)
		if !e.attached() {
			return ErrNotConnected
		}
		for _, m := range b.Rebalance(now.Snapshot) {
			r, err := e.Move(m.Chain, m.Bucket, m.To)
			if err != nil {
				return err
			}
			if moved != nil {
				moved(r)
			}
		}
		if found := b.Elephants(); elephants != nil && len(found) > 0 {
			elephants(found)
		}
		last = now
	}
}
