package dataplane

import (
	"testing"

	"sfc/dataplane/packet"
)

// earlyHands are two workers, and packets for the first of them: whole ones,
// and fragmented ones whose second part comes first.
type earlyHands struct {
	*hands
	whole     []*source
	fragments []*fragmentSource
	next      int
}

func newEarlyHands(t *testing.T, o playedOptions) *earlyHands {
	t.Helper()
	h := &earlyHands{hands: newHands(t, o)}
	for i, list := 0, h.sources(256); i < len(list); i++ {
		if i%4 != 0 {
			if h.owners.Owner(0, list[i].at[0].Bucket) == 0 {
				h.whole = append(h.whole, &list[i])
			}
		} else if f := h.fragmentsOf(&list[i], true); h.owners.Owner(h.owners.Odd(), f.at[0].Bucket) == 0 {
			h.fragments = append(h.fragments, f)
		}
	}
	return h
}

// fill puts whole packets into the ring until there are so many.
func (h *earlyHands) fill(n int) {
	for ; h.rings[0].Len() < n; h.next++ {
		h.send(h.whole[h.next%len(h.whole)], 0, h.rnd)
	}
}

// part puts a part of a flow's packet into the ring, as its number n.
func (h *earlyHands) part(f *fragmentSource, part int, n uint32) {
	f.n = n
	h.put(&f.source, part, 0)
}

// wait lets early fragments have waited for as long as they may.
func (h *earlyHands) wait() {
	e := &h.set.workers[0].early
	for i := range e.n {
		e.since[i] -= uint64(earlyHold) + 1
	}
}

// A worker that stood still for long does not give a fragment up whose first one
// lies in its ring.
func TestEarlyFragmentWaitsForRing(t *testing.T) {
	h := newEarlyHands(t, playedOptions{workers: 2, flows: 256})
	f := h.fragments[0]
	h.part(f, 1, 1)
	h.fill(4 * packet.BurstSize)
	h.part(f, 0, 0)
	h.turn(0)
	h.wait()
	for h.rings[0].Len() > 0 {
		if n := h.set.workers[0].early.n; n != 1 {
			t.Fatalf("%d early fragments wait, want 1", n)
		}
		h.turn(0)
	}
	h.turn(0, 1)
	if n := h.set.workers[0].early.n; n != 0 {
		t.Errorf("%d early fragments wait", n)
	}
	h.finish()
}

// A fragment whose first one was lost goes on when its time is up, also when
// the ring never runs dry; others have their own time.
func TestEarlyFragmentWithoutFirst(t *testing.T) {
	h := newEarlyHands(t, playedOptions{workers: 2, flows: 256, forgetful: true})
	e, ports := &h.set.workers[0].early, h.set.workers[0].ports
	h.part(h.fragments[0], 1, 0)
	h.fill(4 * packet.BurstSize)
	h.turn(0)
	h.wait()
	h.part(h.fragments[1], 1, 0)
	for start := ports[0].taken; e.n != 1 || e.items[0].meta.Hash != h.fragments[1].at[1].Hash; h.turn(0) {
		if taken := ports[0].taken - start; taken > 6*packet.BurstSize {
			t.Fatalf("after %d packets %d early fragments wait, want the younger one", taken, e.n)
		}
		h.fill(4 * packet.BurstSize)
	}
	h.wait()
	for h.rings[0].Len() > 0 {
		h.turn(0)
	}
	if h.turn(0); e.n != 0 {
		t.Errorf("%d early fragments wait", e.n)
	}
	h.finish()
}
