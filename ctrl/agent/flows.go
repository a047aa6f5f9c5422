package agent

import (
	"time"

	"sfc/dataplane"
	"sfc/dataplane/flow"
	"sfc/dataplane/steer"
)

// FlowInfo is a flow that lives.
type FlowInfo struct {
	flow.Flow
	Chain, Bucket uint16
	Worker        int
	// Idle is how long ago its last packet came.
	Idle time.Duration
}

// FlowFilter says which flows are wanted.
type FlowFilter struct {
	// Chain and Bucket are indices; -1 for all.
	Chain, Bucket int
	// Limit is the most that are returned.
	Limit int
}

// flowsPerLook is how many flows are copied while the worker waits: some 20 us.
const flowsPerLook = 128

// Flows returns flows that live, by worker, chain and bucket. They are looked
// up between bursts, some at a time, so that packets wait for no more than a
// few microseconds; flows that begin, end or move meanwhile may be missed or
// come twice. Anyone may call it once the engine is connected, but for Stop.
func (e *Engine) Flows(f FlowFilter) (out []FlowInfo) {
	clock := dataplane.NewClock()
	for _, w := range e.workers {
		for c := range w.chains {
			t := w.chains[c].flows
			if t == nil || f.Chain >= 0 && f.Chain != c {
				continue
			}
			look := flowLook{table: t, bucket: max(f.Bucket, 0), end: steer.Buckets}
			if f.Bucket >= 0 {
				look.end = min(f.Bucket+1, look.end)
			}
			for look.bucket < look.end && len(out) < f.Limit {
				look.room = min(flowsPerLook, f.Limit-len(out))
				w.between(look.copy)
				nowMs := uint32(clock.Now() / uint64(time.Millisecond))
				for i := range look.found {
					info := &look.found[i]
					info.Chain, info.Worker = uint16(c), w.index
					// A packet that came while we looked is not from the future.
					info.Idle = time.Duration(max(int32(nowMs-info.SeenMs), 0)) * time.Millisecond
				}
				out = append(out, look.found...)
			}
		}
	}
	return out
}

// flowLook goes through the buckets of a table in pieces.
type flowLook struct {
	table       *flow.Table
	bucket, end int
	skip        int // flows of bucket that were copied already
	room        int
	found       []FlowInfo
}

// copy copies at most room flows. It runs on the worker.
func (l *flowLook) copy() {
	l.found = make([]FlowInfo, 0, l.room)
	for ; l.bucket < l.end; l.bucket, l.skip = l.bucket+1, 0 {
		k := 0
		for slot := l.table.First(uint32(l.bucket)); slot != flow.NoSlot; slot = l.table.Next(slot) {
			if k++; k <= l.skip {
				continue
			}
			if len(l.found) == l.room {
				return
			}
			l.skip++
			if f, ok := l.table.Describe(slot); ok {
				l.found = append(l.found, FlowInfo{Flow: f, Bucket: uint16(l.bucket)})
			}
		}
	}
}

// between runs f on the worker between two bursts, or here when it does not
// run.
func (w *worker) between(f func()) {
	if w.run != nil {
		if _, err := w.run.Do(f); err == nil {
			return
		}
	}
	f()
}
