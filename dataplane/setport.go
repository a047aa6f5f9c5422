package dataplane

import (
	"errors"
	"fmt"
	"time"
)

// portPatience is how long a port that is removed may take to send what it was
// given, and its frames to be received: what takes longer is a link that is
// down.
const portPatience = 50 * time.Millisecond

// AddPort gives every worker a port, each between two bursts: queues returns
// those of a worker, the first of which it sends by as well. Frames for a
// routed port get the addresses of their next hop (Config.Routes). It returns
// when all workers have it; after an error none has. Paths may name a port as
// their egress before it is there: their packets are dropped as port_gone.
//
// It works before Start too, but not while Start or Run begins.
func (s *Set) AddPort(index int, routed bool, queues func(worker int) []Port) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return fmt.Errorf("add port %d: %w", index, ErrStopped)
	}
	lists := make([][]Port, len(s.workers))
	for i, w := range s.workers {
		lists[i] = queues(i)
		if err := w.checkPort(index, routed, lists[i]); err != nil {
			return fmt.Errorf("add port %d to worker %d: %w", index, i, err)
		}
	}
	if err := s.each(func(w *Worker) {
		w.addPort(uint16(index), lists[w.cfg.Index])
		if routed {
			w.cfg.Routed |= 1 << index
		}
		w.listPolls()
	}); err != nil {
		_ = s.each(func(w *Worker) { w.removePort(uint16(index)) }) // those that have stopped use none
		return fmt.Errorf("add port %d: %w", index, err)
	}
	return nil
}

// checkPort checks a port that is to be added.
func (w *Worker) checkPort(index int, routed bool, queues []Port) error {
	switch {
	case index < 0 || index >= len(w.tx):
		return fmt.Errorf("there can be %d ports", len(w.tx))
	case w.tx[index] != nil:
		return ErrExists
	case routed && w.cfg.Routes == nil:
		return errors.New("it is routed, and the worker has no routes")
	case len(queues) == 0:
		return errors.New("it has no queues")
	}
	for i, q := range queues {
		if q == nil {
			return fmt.Errorf("queue %d is missing", i)
		}
	}
	return nil
}

// RemovePort takes a port from all workers, after what lies in its rings has
// been received or has left, for which it waits 50 ms at most: rx and tx are
// how many frames were still there. Nobody uses its queues afterwards, and
// packets that are to leave by it are dropped as port_gone. Steering has
// stopped sending to its sockets before.
//
// A port that came with further queues in Config.Queues stays.
func (s *Set) RemovePort(index int) (rx, tx int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch first := s.workers[0]; {
	case s.stopped:
		return 0, 0, fmt.Errorf("remove port %d: %w", index, ErrStopped)
	case s.paused:
		return 0, 0, fmt.Errorf("remove port %d: %w", index, ErrPaused)
	case index < 0 || index >= len(first.tx) || first.tx[index] == nil:
		return 0, 0, fmt.Errorf("remove port %d: %w", index, ErrAbsent)
	case first.cfg.Queues > 0 && index < len(first.cfg.Ports)-first.cfg.Queues:
		return 0, 0, fmt.Errorf("remove port %d: it came with the workers, which have %d queues of nobody knows which port: add ports by AddPort", index, first.cfg.Queues)
	}
	for end := time.Now().Add(portPatience); ; time.Sleep(removeLook) {
		counts := make([][2]int, len(s.workers))
		if err := s.each(func(w *Worker) {
			r, t := w.waiting(uint16(index))
			counts[w.cfg.Index] = [2]int{r, t}
		}); err != nil {
			return 0, 0, fmt.Errorf("remove port %d: %w", index, err)
		}
		rx, tx = 0, 0
		for _, c := range counts {
			rx, tx = rx+c[0], tx+c[1]
		}
		if rx+tx == 0 || time.Now().After(end) || !s.running() {
			break
		}
	}
	if err := s.each(func(w *Worker) { w.removePort(uint16(index)) }); err != nil {
		return rx, tx, fmt.Errorf("remove port %d: %w", index, err)
	}
	return rx, tx, nil
}
