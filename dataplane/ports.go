package dataplane

import (
	"slices"

	"golang.org/x/sys/unix"

	"sfc/dataplane/packet"
)

// inPort is a queue that a worker receives from.
type inPort struct {
	Port
	index uint16 // of the port; anyPort when nobody said
	taken uint64 // frames received so far
	due   uint64 // what taken will be when early fragments need not wait longer
}

// anyPort is the port of the queues in Config.Queues.
const anyPort = 0xffff

// txQueue is a port as something to send by, and what leaves by it this turn.
type txQueue struct {
	port   Port
	given  uint64 // frames that the port took so far
	listed bool   // in Worker.filled
	n      int
	frames [packet.BurstSize]packet.Frame
	rxNs   [packet.BurstSize]uint64
	seq    [packet.BurstSize]uint32
	inPort [packet.BurstSize]uint16
	path   [packet.BurstSize]uint16
}

// addPort gives the worker a port, between two bursts: the first of its queues
// is the one to send by.
func (w *Worker) addPort(index uint16, queues []Port) {
	w.tx[index] = &txQueue{port: queues[0]}
	for _, p := range queues {
		w.ports = append(w.ports, inPort{Port: p, index: index})
	}
}

// removePort takes a port away, between two bursts.
func (w *Worker) removePort(index uint16) {
	w.tx[index] = nil
	w.ports = slices.DeleteFunc(w.ports, func(p inPort) bool { return p.index == index })
	w.cfg.Routed &^= 1 << index
	w.listPolls()
}

// waiting returns how many frames wait at the queues of a port: to be received,
// and to leave.
func (w *Worker) waiting(index uint16) (rx, tx int) {
	for i := range w.ports {
		if p := &w.ports[i]; p.index == index {
			p.Flush()
			r, t := p.Waiting()
			rx, tx = rx+r, tx+t
		}
	}
	return rx, tx
}

// listPolls makes the list of what wakes the worker when it sleeps.
func (w *Worker) listPolls() {
	polls := []unix.PollFd{{Fd: int32(w.wakeFD), Events: unix.POLLIN}}
	for i := range w.ports {
		if fd := w.ports[i].PollFD(); fd >= 0 {
			polls = append(polls, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
		}
	}
	w.polls = polls
}
