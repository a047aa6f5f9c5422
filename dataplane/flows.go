package dataplane

import (
	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
)

// flowLookup is what a lane needs to look the flows of a burst up.
type flowLookup struct {
	// metas are copies of what steering found out: it must not be read from
	// the frame once functions may have written there.
	metas   [packet.BurstSize]packet.Meta
	queries [packet.BurstSize]flow.Query
	results [packet.BurstSize]flow.Result
	ended   [packet.BurstSize]uint32
}

// How many slots one call looks at for flows that have been idle too long.
const (
	burstSweep = 256
	idleSweep  = 1 << 14
)

// lookup finds the flow of every packet of a burst and writes its slot and
// direction into the descriptors. A packet without a flow keeps
// packet.NoSlot: its functions decide without state.
func (w *Worker) lookup(l *lane) {
	f, n := l.flows, int(l.b.N)
	region := w.cfg.Region
	if l.Arena != nil {
		region = l.Arena
	}
	for k := range n {
		m := &f.metas[k]
		m.RxNs = l.b.TimeNs[k]
		w.cfg.Tuples.Read(l.b.Frames[k].Bytes(region), m, &f.queries[k])
	}
	l.Flows.Lookup(&f.queries, n, &f.results)
	for k := range n {
		d := &l.Descs[k]
		d.Slot = f.results[k].Slot
		d.Flags |= f.results[k].Flags
	}
}

// age ends flows that have been idle for too long, and tells the functions of
// every flow that has ended, however it did.
func (l *lane) age(now uint64, sweep int) {
	if l.flows == nil {
		return
	}
	l.Flows.Age(now, sweep)
	for {
		n := l.Flows.Drain(l.flows.ended[:])
		if n == 0 {
			return
		}
		l.Runner.FlowEnd(l.flows.ended[:n])
	}
}
