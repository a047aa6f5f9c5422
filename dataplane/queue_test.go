package dataplane

import (
	"testing"
	"time"
)

// Packets that wait for their tenant's turn are not through: when their flow
// leaves they are processed first, and leave before what the new owner sends.
// The tenant's others go on waiting.
func TestMoveTakesQueuedPackets(t *testing.T) {
	const packets = 10
	var shares []*Share
	h := newHands(t, playedOptions{workers: 2, flows: 64, config: func(c *Config) {
		s, _ := NewShare(100)
		shares = append(shares, s)
		for i := range c.Paths {
			c.Paths[i].Tenant = s
		}
	}})
	open := false
	h.ports[1].stuck = func(waiting int) int { // egress of worker 0
		if !open {
			return 0
		}
		return waiting
	}
	h.ports[3].stuck = func(waiting int) int { return waiting }
	w, share := h.set.workers[0], shares[0]
	// A turn of worker 0 but for its end, when those who wait may be served.
	turn := func() {
		n := w.ports[0].Receive(w.rx[:])
		w.ports[0].taken += uint64(n)
		w.local.Received += uint64(n)
		w.sort(w.rx[:n])
		w.finish()
		w.aside()
	}
	sources := h.sources(64)
	s := h.ownedBy(sources, 0)
	other := s
	for i := range sources {
		if o := &sources[i]; o.at[0].Bucket != s.at[0].Bucket && h.owners.Owner(0, o.at[0].Bucket) == 0 {
			other = o
		}
	}
	share.spent, share.divert = true, true
	for range packets {
		h.send(s, 0, h.rnd)
		h.send(other, 0, h.rnd)
	}
	turn()
	if n := share.queue.n; n != 2*packets {
		t.Fatalf("%d packets wait, want %d", n, 2*packets)
	}
	done := h.move(s.at[0].Bucket, 1)
	for end := time.Now().Add(5 * time.Second); share.queue.n != packets; h.turn(1) {
		if turn(); time.Now().After(end) {
			t.Fatalf("%d packets wait, want %d", share.queue.n, packets)
		}
	}
	h.send(s, 0, h.rnd)
	for range 5 {
		if !h.patient(0) {
			t.Error("the flow has left before its packets")
		}
		turn()
		h.turn(1)
	}
	open = true
	for end := time.Now().Add(5 * time.Second); len(done) == 0 && time.Now().Before(end); h.turn(1) {
		turn()
	}
	if m := h.until(done, 1); m.err != nil || m.Flows != 1 || m.Forced || m.Stuck {
		t.Errorf("%+v", m)
	}
	if n := share.queue.n; n != packets {
		t.Errorf("%d packets wait, want %d", n, packets)
	}
	h.finish()
}
