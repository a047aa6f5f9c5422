package dataplane

import (
	"time"

	"golang.org/x/sys/unix"
)

// Run runs the worker on the caller's goroutine, unpinned and without
// sleeping, until done returns true; it is called after every turn. A worker
// is started once, by Start or Run.
func (w *Worker) Run(done func() bool) {
	w.started.Store(true)
	defer func() { // also when done panics
		w.end()
		w.stop.Store(true)
		close(w.done)
		w.closeWake()
	}()
	for w.turn(); !done(); w.turn() {
	}
}

// spinCheck is how many empty turns pass between two looks at the clock.
const spinCheck = 16

// tickEvery is the period of chains.Runner.Tick.
const tickEvery = 100 * time.Millisecond

// clockTurns is how many busy turns pass at most between two looks at the
// clock: what a worker receives may all be for others, and then no burst of its
// own makes it look.
const clockTurns = 256

// run returns when stop is set. One turn handles at most BurstSize packets of
// each port. It does not allocate, lock, log, or read the clock per packet.
func (w *Worker) run() {
	empty, publish := 0, uint64(0)
	for !w.stop.Load() {
		if n := w.turn(); n > 0 {
			empty = 0
			if w.local.Turns%clockTurns == 0 {
				w.now = w.clock.Now()
			}
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
	w.end()
}

// turn takes one burst from every port through its paths, then does what other
// workers and the inbox ask for.
func (w *Worker) turn() int {
	w.local.Turns++
	if w.phase != working {
		return w.paused()
	}
	total := 0
	for i := range w.ports {
		p := &w.ports[i]
		n := p.Receive(w.rx[:])
		if n == 0 {
			continue
		}
		p.Refill() // before processing, so that the kernel never runs dry
		p.taken += uint64(n)
		w.sort(w.rx[:n])
		w.finish()
		total += n
	}
	w.local.Received += uint64(total)
	total += w.aside()
	if w.sched.shares > 1 || w.sched.queues.n > 0 {
		total += w.share(total)
	}
	if total == 0 {
		w.tidy()
	}
	return total
}

// paused is a turn of a worker that settles, or is parked.
func (w *Worker) paused() int {
	if w.phase == settling {
		return w.settle()
	}
	if w.inbox.full.Load() {
		w.inbox.run()
	}
	return 0
}

// aside is the part of a turn that is not about frames from ports: what other
// workers handed over, flows that change hands, early fragments, the inbox. It
// returns how many packets it took.
func (w *Worker) aside() int {
	took := w.handedOver()
	if t := w.moves.leaving; t != nil {
		w.settleMove(t)
	}
	if w.early.n > 0 {
		took += w.expireEarly()
	}
	if w.ticked != noTicks {
		w.moreTicks()
	}
	if w.inbox.full.Load() {
		w.inbox.run()
	}
	return took
}

// tidy is what a turn without packets is used for.
func (w *Worker) tidy() {
	for i := range w.ports {
		w.ports[i].Flush()
		w.ports[i].Refill()
	}
	for i := len(w.draining) - 1; i >= 0; i-- {
		w.drain(w.draining[i]) // which may take it off the list
	}
}

// finish runs the bursts that were sorted and sends what comes of them.
func (w *Worker) finish() {
	for _, l := range w.active {
		l.active = false
		w.runLane(l)
	}
	w.active = w.active[:0]
	w.mark = 0
	w.transmit()
}

// tickChunk is how many chains a turn looks at for periodic calls that are due:
// a thousand of them at once would keep packets waiting.
const tickChunk = 32

// noTicks is Worker.ticked when no round of periodic calls is under way.
const noTicks = -1

// quietTick begins to run the periodic calls that are due without traffic.
// Turns go on with it.
func (w *Worker) quietTick() {
	if w.cfg.PacketTime {
		return
	}
	now := w.clock.Now()
	if w.ticked != noTicks || now < w.tickAgain {
		return
	}
	w.tickAgain = now + uint64(tickEvery)/2
	w.ticked = 0
	w.moreTicks()
}

// moreTicks goes on with the periodic calls.
func (w *Worker) moreTicks() {
	now, end := w.clock.Now(), min(w.ticked+tickChunk, len(w.list))
	for ; w.ticked < end; w.ticked++ {
		if c := w.list[w.ticked]; c.tick(now) {
			w.age(c, now, idleSweep)
		}
	}
	if w.ticked >= len(w.list) {
		w.ticked = noTicks
	}
}

// tick runs the chain's periodic call when it is due, and says whether it was.
func (c *chain) tick(now uint64) bool {
	if now < c.nextTick {
		return false
	}
	c.nextTick = now + uint64(tickEvery)
	c.runner.Tick(now)
	return true
}

// napTime is how long the worker sleeps while a port does not get rid of what it
// has to send.
const napTime = time.Millisecond

// sleep waits in poll until a port has frames, somebody wakes the worker, or it
// is time for a tick.
func (w *Worker) sleep() {
	if w.phase == settling {
		return
	}
	timeout := tickEvery
	if w.phase == working {
		w.quietTick()
		w.shared.publish(&w.local)
		if w.ticked != noTicks {
			return // the rest of them, and then again
		}
		timeout = w.mayRest()
	}
	// Whoever leaves something for this worker looks at asleep afterwards, so
	// one of the two sees the other.
	w.asleep.Store(true)
	defer w.asleep.Store(false)
	if timeout == 0 || w.stop.Load() || w.inbox.full.Load() || w.peers.waiting() || w.moves.leaving != nil {
		return
	}
	w.local.Sleeps++
	polls := w.polls
	if w.phase == parked {
		polls = polls[:1] // frames may wait
	}
	_, _ = unix.Poll(polls, int(timeout/time.Millisecond)) // an error is an early end of sleep
	if w.polls[0].Revents != 0 {
		var count [8]byte
		_, _ = unix.Read(int(w.polls[0].Fd), count[:]) // nothing there is fine
	}
}

// mayRest returns how long there is nothing to do, in whole milliseconds,
// unless something comes.
func (w *Worker) mayRest() time.Duration {
	rest := tickEvery
	if len(w.draining) > 0 {
		return 0
	}
	for i := range w.ports {
		if w.ports[i].Flush() {
			rest = napTime
		}
	}
	if w.early.n > 0 {
		rest = min(rest, w.earlyRest())
	}
	return rest
}

// wake ends the worker's sleep.
func (w *Worker) wake() {
	w.waking.Lock()
	defer w.waking.Unlock()
	if w.wakeFD >= 0 {
		one := [8]byte{1}
		_, _ = unix.Write(w.wakeFD, one[:]) // a counter that is full wakes as well
	}
}

// closeWake closes the descriptor that wakes the worker, which has ended.
func (w *Worker) closeWake() {
	w.waking.Lock()
	defer w.waking.Unlock()
	if w.wakeFD >= 0 {
		unix.Close(w.wakeFD)
		w.wakeFD = -1
	}
}
