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
	list := make([]uint16, len(e.plan.Chains))
	for i := range list {
		list[i] = uint16(i)
	}
	e.tables.RLock()
	defer e.tables.RUnlock()
	if e.owners == nil {
		return newLoad(e.opts.Workers)
	}
	return loadOf(e.owners, e.opts.Workers, list, last)
}

// loadOf is the load of some chains; last is that of an interval before.
func loadOf(owners *steer.Owners, workers int, chains []uint16, last *Load) *Load {
	l := newLoad(workers)
	for _, chain := range chains {
		now := new(chainLoad)
		l.chains[chain] = now
		var before *chainLoad
		if last != nil {
			before = last.chains[chain]
		}
		for b := range now.sent {
			owner, sent := owners.Owner(chain, uint16(b)), owners.Sent(chain, uint16(b))
			now.sent[b], now.owner[b] = sent, uint8(owner)
			if before != nil && before.owner[b] == uint8(owner) && before.sent[b] <= sent {
				sent -= before.sent[b] // since a change of owner, the count began anew
			}
			if sent > 0 {
				l.Buckets = append(l.Buckets, place.Bucket{Chain: chain, Bucket: uint16(b), Owner: owner, Packets: sent})
			}
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
	chains map[uint16]*chainLoad
}

// chainLoad is what came for a chain until some moment, and who owned it.
type chainLoad struct {
	sent  [steer.Buckets]uint64
	owner [steer.Buckets]uint8
}

func newLoad(workers int) *Load {
	return &Load{Snapshot: place.Snapshot{Workers: workers}, chains: map[uint16]*chainLoad{}}
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
