package dataplane

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sfc/dataplane/packet"
)

// Counters are a worker's own. Received + HandedIn = Sent + Passed + Dropped +
// HandedOut at any quiet moment.
type Counters struct {
	Turns  uint64 // turns of the loop
	Sleeps uint64 // times it slept in poll

	Received uint64 // frames taken from ports
	Sent     uint64 // frames given to ports
	Passed   uint64 // frames given to the kernel's stack
	Dropped  uint64 // frames dropped, for whatever reason

	HandedOut uint64 // packets given to the workers that have their flows
	HandedIn  uint64 // packets that other workers gave to this one
	Held      uint64 // packets that had to wait: their flow, or first fragment, was on its way

	// Engine counts the drops that no function decided, by reason; they are
	// part of Dropped.
	Engine [packet.NumReasons]uint64
}

// add adds another worker's counters.
func (c *Counters) add(o *Counters) {
	c.Turns += o.Turns
	c.Sleeps += o.Sleeps
	c.Received += o.Received
	c.Sent += o.Sent
	c.Passed += o.Passed
	c.Dropped += o.Dropped
	c.HandedOut += o.HandedOut
	c.HandedIn += o.HandedIn
	c.Held += o.Held
	for r, n := range o.Engine {
		c.Engine[r] += n
	}
}

// sharedCounters is the copy that others may read: the worker writes it when
// it goes to sleep, every 100 ms, and when it stops.
type sharedCounters struct {
	mu sync.Mutex
	c  Counters
}

func (s *sharedCounters) publish(c *Counters) {
	s.mu.Lock()
	s.c = *c
	s.mu.Unlock()
}

// Counters returns the worker's counters, at most 100 ms old; exact after
// Stop.
func (w *Worker) Counters() Counters {
	w.shared.mu.Lock()
	defer w.shared.mu.Unlock()
	return w.shared.c
}

// ErrChunks means that chunks of a frame region are lost or counted twice.
var ErrChunks = errors.New("chunks do not add up")

// Verify checks, after Stop, that every chunk of the region is accounted for:
// free + fill + rx + tx + completion = total (a stopped worker holds none).
func (w *Worker) Verify() error {
	var sum packet.Census
	for i := range w.ports {
		c := w.ports[i].Census()
		sum.Fill += c.Fill
		sum.Rx += c.Rx
		sum.Tx += c.Tx
		sum.Completion += c.Completion
	}
	free, total := w.cfg.Pool.Free(), w.cfg.Pool.Total()
	if free+sum.Fill+sum.Rx+sum.Tx+sum.Completion != total {
		return fmt.Errorf("%w: free %d + fill %d + rx %d + tx %d + completion %d, total %d",
			ErrChunks, free, sum.Fill, sum.Rx, sum.Tx, sum.Completion, total)
	}
	return nil
}

// Clock reads CLOCK_MONOTONIC, the clock of bpf_ktime_get_ns, through the
// runtime's vDSO path.
type Clock struct {
	start  time.Time
	offset uint64 // CLOCK_MONOTONIC at start, in ns
}

// NewClock returns a clock.
func NewClock() Clock {
	var ts unix.Timespec
	start := time.Now()
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // fails only for a clock that is not there
	return Clock{start: start, offset: uint64(ts.Nano())}
}

// Now returns CLOCK_MONOTONIC in ns.
func (c Clock) Now() uint64 { return c.offset + uint64(time.Since(c.start)) }
