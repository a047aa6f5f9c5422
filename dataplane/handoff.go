package dataplane

import (
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
	"sfc/dataplane/ring"
)

// item is a packet outside a burst: handed to another worker, or held.
type item struct {
	frame packet.Frame
	meta  packet.Meta
	// query is the packet's flow when known is set.
	query flow.Query
	known bool
}

// Bounds of the rings from one worker to another: only what steering cannot
// know goes that way.
const (
	handoffSlots = 1024 // to one worker, from all others together
	handoffLeast = 64   // from each of them
)

// handoffRing returns the size of one ring among so many workers.
func handoffRing(workers int) int {
	share := max(handoffSlots/max(workers-1, 1), handoffLeast)
	return 1 << (bits.Len(uint(share)) - 1)
}

// MaxKept is how many packets one of so many workers may have beside the burst
// in hand and what lies in its ports: those it holds, those whose tenants have
// to wait, and those that others handed to it.
func MaxKept(workers int) int {
	return MaxHeld + maxEarly + MaxQueued + (workers-1)*handoffRing(workers)
}

// peers are the other workers on the same ports, by index; entries for the
// worker itself are nil.
type peers struct {
	workers []*Worker
	in, out []*ring.Ring[item]
	taken   []uint64 // packets taken so far, by worker
	batch   [packet.BurstSize]item
}

// waiting says whether another worker has handed something over.
func (p *peers) waiting() bool {
	for _, r := range p.in {
		if r != nil && r.Len() > 0 {
			return true
		}
	}
	return false
}

// handTo gives a packet that was counted for a worker to it.
func (w *Worker) handTo(owner int, it *item) {
	if owner == w.cfg.Index {
		w.arrived(it)
		return
	}
	if owner >= len(w.peers.out) || !w.peers.out[owner].Push(it) {
		w.drop(it, packet.ReasonHandoffFull)
		return
	}
	w.local.HandedOut++
	if to := w.peers.workers[owner]; to.asleep.Load() {
		to.wake()
	}
}

// handedOver takes what other workers handed to this one.
func (w *Worker) handedOver() (total int) {
	for from, r := range w.peers.in {
		if r == nil || r.Len() == 0 {
			continue
		}
		n := r.Pop(w.peers.batch[:])
		w.peers.taken[from] += uint64(n)
		for i := range n {
			w.arrived(&w.peers.batch[i])
		}
		w.local.HandedIn += uint64(n)
		total += n
		w.finish()
	}
	return total
}

// arrived takes a packet that was counted for this worker.
func (w *Worker) arrived(it *item) {
	l := w.lane(it.meta.Path)
	if l == nil {
		w.drop(it, packet.ReasonNoPath)
		return
	}
	if l.chain.count(it.meta.Bucket) {
		w.place(l, it)
		return
	}
	w.foreign(it)
}

// drop drops a packet that is in no burst.
func (w *Worker) drop(it *item, r packet.Reason) {
	if l := w.lane(it.meta.Path); l != nil {
		if len(l.chain.probes) > 0 {
			w.probeDrop(l.chain, it.frame, &it.meta, r)
		}
		a := &l.chain.account
		a.Packets++
		a.Bytes += uint64(it.frame.Len)
		a.drop(r)
	}
	w.dropEngine(it.frame, r)
	if w.cfg.Observer != nil {
		w.cfg.Observer.Dropped(it.meta, r)
	}
}

// Errors about whether workers run.
var (
	// ErrStopped means that the worker does not run, or not any more.
	ErrStopped = errors.New("worker has stopped")
	// ErrStarted means that the workers run already.
	ErrStarted = errors.New("workers were started before")
)

// inboxRoom is how many pieces of work an inbox takes before it grows.
const inboxRoom = 16

// inbox is work for a worker, from any goroutine.
type inbox struct {
	full   atomic.Bool
	mu     sync.Mutex
	closed bool
	list   []func()
	work   []func() // the worker's: what it has taken out
}

// post leaves f for the worker to run between two bursts; false when it has
// stopped. The worker's thread runs f: f must be quick and must not block.
func (w *Worker) post(f func()) bool {
	w.inbox.mu.Lock()
	defer w.inbox.mu.Unlock()
	if w.inbox.closed {
		return false
	}
	w.inbox.list = append(w.inbox.list, f)
	w.inbox.full.Store(true)
	if w.asleep.Load() {
		w.wake()
	}
	return true
}

// run does what is in the inbox.
func (b *inbox) run() {
	b.mu.Lock()
	b.list, b.work = b.work[:0], b.list
	b.full.Store(false)
	b.mu.Unlock()
	for _, f := range b.work {
		f()
	}
	clear(b.work)
}

// close runs what is left and takes no more.
func (b *inbox) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.run()
}

// Do runs f on the worker's thread between two bursts, and returns how long
// packets had to wait for it. It must not be called from there. With ErrStopped
// f was not run, and the worker touches nothing any more, or not yet.
func (w *Worker) Do(f func()) (time.Duration, error) {
	if !w.started.Load() {
		return 0, fmt.Errorf("worker %d: %w", w.cfg.Index, ErrStopped)
	}
	done := make(chan time.Duration, 1)
	if !w.post(func() {
		start := time.Now()
		f()
		done <- time.Since(start)
	}) {
		_ = w.ended() // its own error is Stop's to tell
		return 0, fmt.Errorf("worker %d: %w", w.cfg.Index, ErrStopped)
	}
	return <-done, nil
}
