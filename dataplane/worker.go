// Package dataplane is the engine: workers that take bursts of frames from
// ports, run them along service paths and send them on.
package dataplane

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sfc/chains"
	"sfc/dataplane/cpu"
	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
)

// Port is where a worker takes frames from and gives them to: an AF_XDP socket
// (dataplane/xsk), or memory. All ports of a worker share one frame region and
// one pool of free chunks. Only the worker's goroutine calls these methods;
// none of them allocates or blocks.
type Port interface {
	// Receive fills f with frames, each with its [packet.Meta] in front, and
	// returns how many. The worker owns their chunks.
	Receive(f []packet.Frame) int
	// Transmit takes a prefix of f and returns its length. The chunks return
	// to the pool when the frames are sent.
	Transmit(f []packet.Frame) int
	// Flush tells the kernel of new frames and takes back the chunks of sent
	// ones. It returns whether frames still wait.
	Flush() bool
	// Refill gives the port free chunks to receive into.
	Refill()
	// PollFD is readable when there is something to receive; -1 if the port
	// always or never has.
	PollFD() int
	// Census says where the port's chunks are.
	Census() packet.Census
}

// Stack takes packets for the kernel's network stack (verdict Pass).
type Stack interface {
	// Inject hands over a copy of frame; false when the stack did not take it.
	Inject(frame []byte) bool
}

// Observer sees every burst. It runs on the worker's goroutine and must not
// keep what it is given. A worker without one pays nothing for it.
type Observer interface {
	// Received is called before the path runs; it may change b.TimeNs and
	// b.NowNs.
	Received(b *packet.Burst)
	// Decided is called when outcomes are known and the bytes still there:
	// b.Frames lie in region. Only TxFull can change an outcome after it.
	Decided(b *packet.Burst, region []byte)
	// Sent is called after the frames of a turn went to their ports: the
	// XDP receive times of those that left, and the time now.
	Sent(rxNs []uint64, nowNs uint64)
	// TxFull is called for every packet that found its egress ring full.
	TxFull(seq uint32, inPort uint16)
	// Unknown is called for every frame whose metadata names no path: it was
	// dropped as no_path. Steering never sends one, but functions of a port
	// that is theirs alone can overwrite what waits there.
	Unknown(seq uint32)
}

// Path is a service path as one worker runs it.
type Path struct {
	Runner chains.Runner
	// Descs are the path's descriptors, shared with its functions.
	Descs *[packet.BurstSize]packet.Desc
	// Arena is the path's own frame region when the ports carry several
	// tenants: packets are copied into it and back. At least BurstSize chunks.
	// Nil when the worker's region itself is shared with the functions.
	Arena []byte
	// Flows is the path's flow table on this worker; nil when no function
	// keeps flow state. Whoever made it closes it after the worker stopped.
	Flows *flow.Table
	// Egress is the index of the port that packets leave by.
	Egress uint16
}

// Config describes a [Worker].
type Config struct {
	// Core to pin the worker's thread to; -1 leaves it to the scheduler.
	Core int
	// Ports by port index.
	Ports []Port
	// Region is the frame region of all ports, Pool its free chunks.
	Region []byte
	Pool   *packet.Pool
	// Paths by path index.
	Paths []Path
	// GuestBase is the guest address of Region and Arena (nf.FramesStart).
	GuestBase uint32
	// Tuples reads the tuples of packets of paths with Flows, with the same
	// secret.
	Tuples *flow.Reader
	// Stack takes packets with verdict Pass. Nil drops them: stack_full.
	Stack Stack
	// Observer sees every burst; nil for none.
	Observer Observer
	// PacketTime says that the Observer sets b.NowNs from packets: then the
	// periodic calls of functions follow that clock, and stop without traffic.
	PacketTime bool
	// Spin is how long to look for more after the last packet before sleeping
	// in poll. More than 1,000 packets a second keep a worker awake at the
	// default of 1 ms; without any it sleeps.
	Spin time.Duration
}

func (c *Config) validate() error {
	switch {
	case len(c.Ports) == 0:
		return errors.New("worker has no ports")
	case len(c.Region) == 0 || c.Pool == nil:
		return errors.New("worker has no frame region or pool")
	}
	for i, p := range c.Paths {
		switch {
		case p.Flows != nil && c.Tuples == nil:
			return fmt.Errorf("path %d has flows, the worker has no reader of tuples", i)
		case p.Runner == nil || p.Descs == nil:
			return fmt.Errorf("path %d has no runner or no descriptors", i)
		case int(p.Egress) >= len(c.Ports):
			return fmt.Errorf("path %d leaves by port %d, the worker has %d ports", i, p.Egress, len(c.Ports))
		case p.Arena != nil && len(p.Arena) < packet.BurstSize*packet.ChunkSize:
			return fmt.Errorf("path %d: arena of %d bytes, a burst needs %d", i, len(p.Arena), packet.BurstSize*packet.ChunkSize)
		}
	}
	return nil
}

// Worker runs the chains of one core:
//
//	XSK rx -> group by path -> service path -> verdicts -> XSK tx | stack | drop
//	   ^                                                     |
//	   +--------- fill <------- pool <------- completion <---+
//
// One goroutine on one thread owns everything below; the others only read
// counters, and stop it.
type Worker struct {
	cfg   Config
	clock Clock
	lanes []lane
	// active are the lanes that have packets this turn.
	active []*lane
	rx     [packet.BurstSize]packet.Frame
	tx     []txQueue
	sentNs []uint64
	local  Counters
	now    uint64 // when the last burst was taken

	polls         []unix.PollFd
	wakeFD        int
	started, stop atomic.Bool
	done          chan struct{}
	shared        sharedCounters
	err           error
}

// lane is a path and the burst under way on it.
type lane struct {
	Path
	b packet.Burst
	// nextTick is when the path's periodic call is due.
	nextTick uint64
	// umem is where each packet lies in the worker's region when the path has
	// an arena of its own.
	umem [packet.BurstSize]packet.Frame
	// flows is what looking flows up needs; nil without.
	flows *flowLookup
}

// txQueue is what leaves by one port this turn.
type txQueue struct {
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
		active: make([]*lane, 0, packet.BurstSize),
		tx:     make([]txQueue, len(cfg.Ports)),
		sentNs: make([]uint64, 0, packet.BurstSize),
		polls:  []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}},
		done:   make(chan struct{}),
	}
	for i, p := range cfg.Paths {
		w.lanes[i].Path = p
		w.lanes[i].b.Path = uint16(i)
		if p.Flows != nil {
			w.lanes[i].flows = new(flowLookup)
		}
	}
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
	if !w.started.Load() {
		if !w.stop.Swap(true) {
			unix.Close(w.wakeFD)
		}
		return nil
	}
	if !w.stop.Swap(true) {
		one := [8]byte{1}
		_, _ = unix.Write(w.wakeFD, one[:]) // without it the worker sleeps until the next tick
		<-w.done
		unix.Close(w.wakeFD)
	}
	<-w.done
	return w.err
}

// Run runs the worker on the caller's goroutine, unpinned and without
// sleeping, until done returns true; it is called after every turn. A worker
// is started once, by Start or Run.
func (w *Worker) Run(done func() bool) {
	w.started.Store(true)
	defer func() { // also when done panics
		w.shared.publish(&w.local)
		w.stop.Store(true)
		unix.Close(w.wakeFD)
		close(w.done)
	}()
	for w.turn(); !done(); w.turn() {
	}
}

// spinCheck is how many empty turns pass between two looks at the clock.
const spinCheck = 16

// tickEvery is the period of chains.Runner.Tick.
const tickEvery = 100 * time.Millisecond

// run returns when stop is set. One turn handles at most BurstSize packets of
// each port. It does not allocate, lock, log, or read the clock per packet.
func (w *Worker) run() {
	empty, publish := 0, uint64(0)
	for !w.stop.Load() {
		if n := w.turn(); n > 0 {
			empty = 0
			if w.now >= publish {
				publish = w.now + uint64(tickEvery)
				w.shared.publish(&w.local)
				w.quietTick() // of paths that have no traffic while others do
			}
		} else if empty++; empty%spinCheck == 0 {
			if w.clock.Now()-w.now > uint64(w.cfg.Spin) {
				w.sleep()
				empty = 0
			} else {
				// A softirq thread of this core may hold the next packet.
				_, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) // never fails
			}
		}
	}
	for _, p := range w.cfg.Ports {
		p.Flush()
	}
	w.shared.publish(&w.local)
}

// turn takes one burst from every port through its paths.
func (w *Worker) turn() int {
	w.local.Turns++
	total := 0
	for _, p := range w.cfg.Ports {
		n := p.Receive(w.rx[:])
		if n == 0 {
			continue
		}
		p.Refill() // before processing, so that the kernel never runs dry
		w.sort(w.rx[:n])
		for _, l := range w.active {
			w.runLane(l)
		}
		w.active = w.active[:0]
		w.transmit()
		total += n
	}
	if total == 0 {
		for _, p := range w.cfg.Ports {
			p.Flush()
			p.Refill()
		}
	}
	w.local.Received += uint64(total)
	return total
}

// quietTick runs the periodic calls that are due without traffic.
func (w *Worker) quietTick() {
	if w.cfg.PacketTime {
		return
	}
	now := w.clock.Now()
	for i := range w.lanes {
		if l := &w.lanes[i]; l.tick(now) {
			l.age(now, idleSweep)
		}
	}
}

// tick runs the path's periodic call when it is due, and says whether it was.
func (l *lane) tick(now uint64) bool {
	if now < l.nextTick {
		return false
	}
	l.nextTick = now + uint64(tickEvery)
	l.Runner.Tick(now)
	return true
}

// sleep waits in poll until a port has frames, Stop is called, or it is time
// for a tick.
func (w *Worker) sleep() {
	for _, p := range w.cfg.Ports {
		if p.Flush() {
			return
		}
	}
	w.quietTick()
	w.local.Sleeps++
	w.shared.publish(&w.local)
	_, _ = unix.Poll(w.polls, int(tickEvery/time.Millisecond)) // an error is an early end of sleep
}
