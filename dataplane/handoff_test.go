package dataplane

import (
	"cmp"
	"slices"
	"testing"

	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
)

// A worker that does not get on keeps no more chunks than a frame region is
// sized for, and what is refused to it is dropped by name.
func TestStalledWorkerKeepsNoMore(t *testing.T) {
	for _, workers := range []int{2, 3, 5} {
		h := newHands(t, playedOptions{workers: workers, flows: 1024})
		var odd []*fragmentSource
		for i, list := 0, h.sources(900); i < len(list); i++ {
			if h.owners.Owner(0, list[i].at[0].Bucket) == 0 {
				odd = append(odd, h.fragmentsOf(&list[i], false))
			}
		}
		h.stopping.Store(true) // packets are going to be missing
		for i := range 3 * handoffSlots {
			h.sendFragments(odd[i%len(odd)])
			for w := 1; w < workers; w++ {
				h.turn(w)
			}
			for h.rings[0].Len() > 0 { // what comes to it directly is not the point
				h.set.workers[0].cfg.Ports[0].Receive(h.set.workers[0].rx[:1])
				h.set.workers[0].cfg.Pool.Put(h.set.workers[0].rx[0].Chunk)
			}
		}
		kept := 0
		for _, r := range h.set.workers[0].peers.in {
			if r != nil {
				kept += r.Len()
			}
		}
		if most := MaxKept(workers) - MaxHeld - maxEarly - MaxQueued; kept == 0 || kept > most || most > handoffSlots {
			t.Errorf("%d workers: %d packets wait, at most %d may", workers, kept, most)
		}
		if h.engineDrops(packet.ReasonHandoffFull) == 0 {
			t.Errorf("%d workers: nothing was refused", workers)
		}
		// Those that were refused were counted for the worker: its flows move
		// all the same.
		busiest := slices.MaxFunc(odd, func(a, b *fragmentSource) int {
			return cmp.Compare(h.owners.Sent(0, a.bucket()), h.owners.Sent(0, b.bucket()))
		})
		m := h.until(h.move(busiest.bucket(), 1), all(workers)...)
		if m.err != nil || !m.Forced {
			t.Errorf("%d workers: %+v", workers, m)
		}
		h.finish()
	}
	if n := MaxKept(steer.MaxWorkers); n > MaxHeld+maxEarly+MaxQueued+steer.MaxWorkers*handoffLeast {
		t.Errorf("a worker of %d may keep %d packets", steer.MaxWorkers, n)
	}
}

// bucket is where steering finds a flow's whole packets.
func (s *source) bucket() uint16 { return steer.Bucket(s.flow) }

// all are the numbers of so many workers.
func all(workers int) (list []int) {
	for i := range workers {
		list = append(list, i)
	}
	return list
}
