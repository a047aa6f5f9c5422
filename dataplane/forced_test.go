package dataplane

import (
	"errors"
	"sync/atomic"
	"testing"

	"sfc/dataplane/packet"
)

// Packets lie in the rings of several ports when a move is forced: flows wait
// for all of them, however many come by another port meanwhile.
func TestForcedMoveEmptiesEveryRing(t *testing.T) {
	h := newHands(t, playedOptions{workers: 2, flows: 2048, config: func(c *Config) {
		// A third port, which only receives, with frames of its own.
		c.Ports = append(c.Ports, &slowPort{playedPort: c.Ports[0].(*playedPort)})
		c.Queues = 1
	}})
	sources := h.sources(2048)
	s := h.ownedBy(sources, 0)
	bucket := s.at[0].Bucket
	busy := h.rings[0]
	slow := h.set.workers[0].cfg.Ports[2].(*slowPort)
	h.set.grace = func() error { slow.open.Store(true); return nil }
	// Packets of the flow wait in the slow port's ring, one was lost.
	h.owners.Take(0, bucket)
	for range 200 {
		chunk, _ := h.pool.Get()
		slow.wait = append(slow.wait, h.write(s, 0, chunk))
		h.owners.Take(0, bucket)
		s.n++
		h.offers++
	}
	done := h.move(bucket, 1)
	var others []*source
	for i := range sources {
		if o := &sources[i]; o.at[0].Bucket != bucket && h.owners.Owner(0, o.at[0].Bucket) == 0 {
			others = append(others, o)
		}
	}
	for i := 0; ; i++ {
		for busy.Len() < 64 { // the other port never runs dry
			h.send(others[i%len(others)], 0, h.rnd)
		}
		h.turn(0, 1)
		if h.owners.Owner(0, bucket) == 1 && h.rnd.IntN(4) == 0 {
			h.send(s, 0, h.rnd)
		}
		select {
		case m := <-done:
			if m.err != nil || !m.Forced {
				t.Errorf("%+v", m)
			}
			if len(slow.wait) != 0 {
				t.Errorf("%d packets still wait", len(slow.wait))
			}
			h.finish()
			return
		default:
		}
	}
}

// slowPort hands out a frame at a time, once it is open.
type slowPort struct {
	*playedPort
	wait []packet.Frame
	open atomic.Bool
}

func (p *slowPort) Waiting() (rx, tx int) { return len(p.wait), 0 }
func (p *slowPort) Flush() bool           { return false }
func (p *slowPort) Receive(f []packet.Frame) int {
	if !p.open.Load() {
		return 0
	}
	n := min(1, len(p.wait))
	copy(f, p.wait[:n])
	p.wait = p.wait[n:]
	return n
}

// A move ends also when the kernel refuses a grace period, and the next one
// works on memory that nobody else has.
func TestMoveWithoutGrace(t *testing.T) {
	h := newHands(t, playedOptions{workers: 2, flows: 64})
	broken := errors.New("no memory")
	h.set.grace = func() error { return broken }
	s := h.ownedBy(h.sources(64), 0)
	h.send(s, 0, h.rnd)
	h.owners.Take(0, s.at[0].Bucket) // lost on its way
	m := h.until(h.move(s.at[0].Bucket, 1), 0, 1)
	if !errors.Is(m.err, broken) || m.Flows != 1 || !m.Forced {
		t.Errorf("%+v", m)
	}
	h.send(s, 1, h.rnd)
	h.turn(1)
	h.set.grace = h.graceTime // a busy machine may need it
	if m = h.until(h.move(s.at[0].Bucket, 0), 0, 1); m.err != nil || m.Flows != 1 {
		t.Errorf("back: %+v", m)
	}
	h.send(s, 1, h.rnd)
	h.finish()
}
