// Package dataplane is the engine: workers that take bursts of frames from
// ports, run them along service paths and send them on.
package dataplane

import (
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"sfc/dataplane/cpu"
	"sfc/dataplane/packet"
)

// Worker runs the chains of one core:
//
//	XSK rx -> group by path -> service path -> verdicts -> XSK tx | stack | drop
//	   ^                                                     |
//	   +--------- fill <------- pool <------- completion <---+
//
// One goroutine on one thread owns everything below; the others only read
// counters, leave work in its inbox, and stop it. Several workers on the same
// ports are a [Set].
type Worker struct {
	cfg   Config
	clock Clock
	// lanes and chains by index, nil where there is none; list has the chains
	// that there are, in any order.
	lanes  []*lane
	chains []*chain
	list   []*chain
	// ticked is how far the periodic calls of the chains have come, in list.
	ticked int
	// tickAgain is when the next round of them may begin: with many chains one
	// takes several turns, between which the worker must not begin another.
	tickAgain uint64
	// draining are the chains that have more ended flows to tell of.
	draining []*chain
	// flows says that a chain keeps flow state.
	flows bool
	// active are the lanes that have packets this turn.
	active []*lane
	rx     [packet.BurstSize]packet.Frame
	ports  []inPort   // what is received from
	tx     []*txQueue // by port index, nil where there is none
	filled []*txQueue // those that have frames this turn
	sentNs []uint64
	local  Counters
	now    uint64 // when the last burst was taken
	// mark is when the burst before ended, of those that are finished one after
	// the other; else 0.
	mark  uint64
	sched schedule
	phase phase
	early earlyFragments
	moves moving // what has to do with flows that change hands
	peers peers  // the other workers of the set

	inbox         inbox
	polls         []unix.PollFd
	waking        sync.Mutex
	wakeFD        int // -1 once it is closed; waking guards it
	started, stop atomic.Bool
	asleep        atomic.Bool
	done          chan struct{}
	shared        sharedCounters
	err           error
}

// NewWorker makes a worker; Start runs it.
func NewWorker(cfg Config) (*Worker, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	w := &Worker{
		cfg: cfg, clock: NewClock(),
		lanes:    make([]*lane, cfg.MaxPaths),
		chains:   make([]*chain, cfg.MaxChains),
		list:     make([]*chain, 0, cfg.MaxChains),
		ticked:   noTicks,
		draining: make([]*chain, 0, cfg.MaxChains),
		active:   make([]*lane, 0, cfg.MaxPaths),
		tx:       make([]*txQueue, cfg.MaxPorts),
		filled:   make([]*txQueue, 0, cfg.MaxPorts),
		sentNs:   make([]uint64, 0, packet.BurstSize),
		done:     make(chan struct{}),
		inbox:    inbox{list: make([]func(), 0, inboxRoom), work: make([]func(), 0, inboxRoom)},
	}
	w.moves.setUp(cfg.Owners != nil)
	w.sched.setUp(cfg.MaxChains)
	byChain := make(map[uint16][]IndexedPath)
	for i, p := range cfg.Paths {
		byChain[p.Chain] = append(byChain[p.Chain], IndexedPath{uint16(i), p})
	}
	for _, paths := range byChain {
		w.install(w.newChain(paths))
	}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("worker: eventfd: %w", err)
	}
	w.wakeFD = fd
	own := len(cfg.Ports) - cfg.Queues
	for i, p := range cfg.Ports[:own] {
		if p != nil {
			w.addPort(uint16(i), []Port{p})
		}
	}
	for _, p := range cfg.Ports[own:] {
		w.ports = append(w.ports, inPort{Port: p, index: anyPort})
	}
	w.listPolls()
	return w, nil
}

// Start runs the worker on a thread of its own, which ends with it. When the
// core cannot be pinned the error is returned by Stop too.
func (w *Worker) Start() error {
	w.started.Store(true)
	ready := make(chan error, 1)
	go func() {
		defer close(w.done)
		if w.cfg.Core >= 0 {
			if err := cpu.Pin(w.cfg.Core); err != nil {
				w.err = err
				w.end()
				ready <- err
				return
			}
		}
		ready <- nil
		w.run()
	}()
	return <-ready
}

// Stop ends the worker after the turn under way and waits for it. It may be
// called again, and for a worker that was never started.
func (w *Worker) Stop() error {
	w.halt()
	err := w.ended()
	w.closeWake()
	return err
}

// halt tells the worker to end.
func (w *Worker) halt() {
	if !w.stop.Swap(true) && w.started.Load() {
		w.wake() // without it the worker sleeps until the next tick
	}
}

// ended waits until the worker has ended.
func (w *Worker) ended() error {
	if !w.started.Load() {
		return nil
	}
	<-w.done
	return w.err
}
