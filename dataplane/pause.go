package dataplane

import (
	"errors"
	"fmt"
	"time"

	"sfc/dataplane/packet"
)

// A pause is for handing over: another process takes the sockets, the tables
// and the frame region as they are. So nothing may be in anybody's hands: what
// was received is sent, passed or dropped, and what was not lies in the RX
// rings.

// phase is what a worker does.
type phase uint8

const (
	working  phase = iota
	settling       // it finishes what it has, and receives nothing
	parked         // it does nothing but what its inbox asks for
)

// ErrPaused means that the workers are paused.
var ErrPaused = errors.New("workers are paused")

// pausePatience is how long frames may take to leave before a pause: what takes
// longer is a link that is down.
const pausePatience = 100 * time.Millisecond

// PauseReport says how workers came to rest.
type PauseReport struct {
	Took time.Duration
	// Unsent is how many frames still lie in TX rings, whose links are down:
	// they stay there.
	Unsent int
	// Dropped is how many packets were dropped as handover: they waited for
	// flows that nobody brought.
	Dropped int
}

// Pause lets all workers finish what they have: packets handed over, held,
// queued, waiting for a first fragment or in a TX ring. They receive nothing
// from then on, give the kernel no chunks and take none back, until Resume. What
// is in the RX rings stays there. Moves and removals are refused meanwhile. Stop
// ends paused workers without another look at their rings. With [ErrBusy] they
// did not get through within a second, and go on.
func (s *Set) Pause() (r PauseReport, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopped || !s.running():
		return r, fmt.Errorf("pause: %w", ErrStopped)
	case s.paused:
		return r, fmt.Errorf("pause: %w", ErrPaused)
	}
	start := time.Now()
	s.paused = true
	if err := s.each(func(w *Worker) { w.phase = settling }); err != nil {
		return r, fmt.Errorf("pause: %w", err)
	}
	for {
		rest, err := s.unsettled()
		if err != nil {
			return r, fmt.Errorf("pause: %w", err)
		}
		r.Unsent = rest.tx
		if rest == (unsettled{}) || time.Since(start) > pausePatience && rest.inHand == 0 {
			break
		}
		if time.Since(start) > removeTime {
			s.paused = false
			err := s.each(func(w *Worker) { w.phase = working })
			return r, errors.Join(fmt.Errorf("pause: %w: the workers did not finish what they had", ErrBusy), err)
		}
		time.Sleep(removeLook)
	}
	dropped := make([]int, len(s.workers))
	err = s.each(func(w *Worker) { dropped[w.cfg.Index] = w.park() })
	for _, n := range dropped {
		r.Dropped += n
	}
	r.Took = time.Since(start)
	if err != nil {
		return r, fmt.Errorf("pause: %w", err)
	}
	return r, nil
}

// Resume lets paused workers go on.
func (s *Set) Resume() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopped:
		return fmt.Errorf("resume: %w", ErrStopped)
	case !s.paused:
		return nil
	}
	s.paused = false
	if err := s.each(func(w *Worker) { w.phase = working }); err != nil {
		return fmt.Errorf("resume: %w", err)
	}
	return nil
}

// unsettled is what keeps workers from resting: packets that they will finish
// by themselves, and frames that have to leave.
type unsettled struct{ inHand, tx int }

// unsettled returns that of all workers.
func (s *Set) unsettled() (sum unsettled, err error) {
	rest := make([]unsettled, len(s.workers))
	handed := make([]int64, len(s.workers)) // given and not taken
	err = s.each(func(w *Worker) {
		rest[w.cfg.Index], handed[w.cfg.Index] = w.unsettled(), int64(w.local.HandedOut-w.local.HandedIn)
	})
	under := int64(0)
	for i := range rest {
		sum.inHand += rest[i].inHand
		sum.tx += rest[i].tx
		under += handed[i]
	}
	if under != 0 { // also when one was asked before another gave it something
		sum.inHand++
	}
	return sum, err
}

// unsettled returns what this worker has.
func (w *Worker) unsettled() (rest unsettled) {
	rest.inHand = w.early.n + w.sched.queues.n + len(w.draining)
	if w.peers.waiting() {
		rest.inHand++
	}
	for i := range w.ports {
		p := &w.ports[i]
		p.Flush()
		_, tx := p.Waiting()
		rest.tx += tx
	}
	return rest
}

// settle is a turn of a worker that finishes what it has. It returns how many
// packets it took.
func (w *Worker) settle() int {
	took := w.aside()
	for w.early.n > 0 { // first fragments may lie in RX rings, and stay there
		w.early.take(w, 0)
		took++
	}
	w.finish()
	for len(w.sched.queues.of) > 0 {
		took += w.serve(w.sched.queues.of[0], packet.BurstSize)
	}
	for i := len(w.draining) - 1; i >= 0; i-- {
		w.drain(w.draining[i])
	}
	for i := range w.ports {
		w.ports[i].Flush()
	}
	return took
}

// park lets the worker rest, and returns how many packets it dropped.
func (w *Worker) park() (dropped int) {
	w.phase = parked
	m := &w.moves
	dropped = len(m.held)
	for i := range m.held {
		w.drop(&m.held[i], packet.ReasonHandover)
	}
	m.held, m.since = m.held[:0], m.since[:0]
	w.shared.publish(&w.local)
	return dropped
}
