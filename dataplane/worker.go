// Package dataplane is the engine: workers that take bursts of frames from
// ports, run them along service paths and send them on.
package dataplane

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sfc/chains"
	"sfc/dataplane/cpu"
	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
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
	cfg    Config
	clock  Clock
	lanes  []lane
	chains []chain
	// flows says that a chain keeps flow state.
	flows bool
	// active are the lanes that have packets this turn.
	active []*lane
	rx     [packet.BurstSize]packet.Frame
	taken  []uint64 // frames received so far, by port
	tx     []txQueue
	sentNs []uint64
	local  Counters
	now    uint64 // when the last burst was taken
	early  earlyFragments
	moves  moving // what has to do with flows that change hands
	peers  peers  // the other workers of the set

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

// chain is what the paths of a chain have in common.
type chain struct {
	index  uint16
	runner chains.Runner // of the first path: it ticks, and has the flows
	flows  *flow.Table
	pins   *steer.Pins
	binder Binder
	// open is the lane whose burst lies in the chain's descriptors.
	open *lane
	// lookup is what looking flows up needs; nil without.
	lookup *flowLookup
	// buckets says what this worker has to do with the flows of each bucket;
	// nil when it is the only one.
	buckets *[steer.Buckets]bucketWord
	// nextTick is when the chain's periodic call is due.
	nextTick uint64
}

// lane is a path and the burst under way on it.
type lane struct {
	Path
	chain  *chain
	active bool // in Worker.active
	b      packet.Burst
	// umem is where each packet lies in the worker's region when the path has
	// an arena of its own.
	umem [packet.BurstSize]packet.Frame
}

// txQueue is what leaves by one port this turn.
type txQueue struct {
	given  uint64 // frames that the port took so far
	n      int
	frames [packet.BurstSize]packet.Frame
	rxNs   [packet.BurstSize]uint64
	seq    [packet.BurstSize]uint32
	inPort [packet.BurstSize]uint16
}

// NewWorker makes a worker; Start runs it.
func NewWorker(cfg Config) (*Worker, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Spin == 0 {
		cfg.Spin = time.Millisecond
	}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("worker: eventfd: %w", err)
	}
	w := &Worker{
		cfg: cfg, clock: NewClock(), wakeFD: fd,
		lanes:  make([]lane, len(cfg.Paths)),
		chains: make([]chain, len(cfg.Paths)),
		active: make([]*lane, 0, len(cfg.Paths)),
		taken:  make([]uint64, len(cfg.Ports)),
		tx:     make([]txQueue, len(cfg.Ports)-cfg.Queues),
		sentNs: make([]uint64, 0, packet.BurstSize),
		polls:  []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}},
		done:   make(chan struct{}),
		inbox:  inbox{list: make([]func(), 0, inboxRoom), work: make([]func(), 0, inboxRoom)},
	}
	for i, p := range cfg.Paths {
		w.lanes[i].Path = p
		w.lanes[i].b.Path = uint16(i)
		w.lanes[i].chain = &w.chains[p.Chain]
		w.chains[p.Chain].setUp(p, cfg.Owners, cfg.Index)
		w.flows = w.flows || p.Flows != nil
	}
	w.moves.setUp(cfg.Owners != nil)
	for _, p := range cfg.Ports {
		if fd := p.PollFD(); fd >= 0 {
			w.polls = append(w.polls, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
		}
	}
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
