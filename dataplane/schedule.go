package dataplane

import (
	"time"

	"sfc/dataplane/packet"
)

// How tenants share a worker's time.
//
// Packets of all tenants come through the same rings, so a worker that falls
// behind loses everybody's. It falls behind when it has had no empty turn for a
// while. Then time is dealt out in periods of 2 ms. At the end of each, what
// the worker measured is charged: the time of a tenant's bursts, and of what
// remains (receiving, sending, dropping) a part by its packets. Every tenant
// gets what it is guaranteed, or what it wants when that is less, and what is
// left over goes to those who want more. Whoever has used up what it has gets
// nothing until the next period: its packets are queued, and what was used too
// much is taken off later. A turn that finds nothing to do serves those who
// wait, at no charge.
//
// Nothing of this happens while one tenant has the worker to itself.

const (
	// sharePeriod is how often time is dealt out.
	sharePeriod = 2 * time.Millisecond
	// shareAfter is how long there is no empty turn before it begins to be,
	// shareUntil how many periods with one it takes to end.
	shareAfter, shareUntil = sharePeriod / 4, 8
	// shareDebt bounds what a tenant may have used too much, in periods.
	shareDebt = 8
	// shareWeight is added to everybody's guarantee, in 1/1000, when what is
	// left over is dealt out: those without any get some of it.
	shareWeight = 10
	// shareSlice is how long a tenant may use time that nobody else wants
	// before the worker looks for others' packets again.
	shareSlice = 100 * time.Microsecond
	// sliceLeast is how many packets that is when nobody knows.
	sliceLeast = 8
)

// schedule is how a worker deals out its time.
type schedule struct {
	// nobody is the share of chains without a tenant.
	nobody Share
	// shares is how many shares chains name: with one there is nothing to do.
	shares int
	active []*Share // that had packets in this period
	queues queues

	on     bool // time is dealt out
	idle   bool // there was an empty turn in this period
	spare  bool // what is processed now is at no charge
	calm   int  // periods in a row that had an empty turn
	number uint64
	start  uint64 // of the period, ns
}

func (s *schedule) setUp(chains int) {
	s.active = make([]*Share, 0, chains+1)
	s.nobody.queue.clear()
	s.queues.setUp()
}

// join notes that a chain names a share, leave that it does no more.
func (s *schedule) join(sh *Share) {
	if sh.chains++; sh.chains == 1 {
		s.shares++
	}
}

func (s *schedule) leave(sh *Share) {
	if sh.chains--; sh.chains == 0 {
		s.shares--
		for i := range s.active {
			if s.active[i] == sh {
				s.active = append(s.active[:i], s.active[i+1:]...)
				break
			}
		}
		sh.listed, sh.spent, sh.divert = false, false, false
		s.on = s.on && s.shares > 1
	}
}

// list notes that a share has packets in this period.
func (s *schedule) list(sh *Share) {
	if sh.listed {
		return
	}
	sh.listed = true
	s.active = append(s.active, sh)
	if sh.period+1 < s.number { // it was away
		sh.balance, sh.demand = max(sh.balance, sh.guaranteed(int64(sharePeriod)), int64(sharePeriod)/8), 0
		sh.spent = false
	}
	sh.period = s.number
}

// charge notes the time of a burst.
func (w *Worker) charge(s *Share, ns, packets uint64) {
	d := &w.sched
	if d.shares < 2 {
		s.busy += timedBursts * ns
		return
	}
	s.busy += ns
	d.list(s)
	s.used += ns
	s.came += packets
	s.ran += packets
	if d.spare {
		s.spare += ns
	} else if d.on && int64(s.used-s.spare) >= s.balance {
		s.spent, s.divert = true, true
	}
}

// share is the scheduler's part of a turn: took is how many packets there were.
// It returns how many it took from the queues.
func (w *Worker) share(took int) (served int) {
	d := &w.sched
	if took == 0 && d.queues.n == 0 {
		d.idle = true
	}
	now := w.now
	if d.on || d.queues.n > 0 { // there may have been no burst
		now = w.clock.Now()
		w.now = now
	}
	if since := now - d.start; since >= uint64(shareAfter) && (!d.on || since >= uint64(sharePeriod)) {
		w.newPeriod(now)
	}
	if d.queues.n == 0 {
		return 0
	}
	for i := len(d.queues.of) - 1; i >= 0; i-- {
		// Those who may go on, whose packets come before newer ones. A slice
		// of each, since the rings fill meanwhile.
		if s := d.queues.of[i]; !s.spent {
			served += w.serve(s, s.slice())
		}
	}
	if took == 0 && served == 0 && d.queues.n > 0 {
		served = w.serveSpare()
	}
	return served
}

// serveSpare lets the tenant with the best balance use time that nobody wants.
func (w *Worker) serveSpare() int {
	d := &w.sched
	best := d.queues.of[0]
	for _, s := range d.queues.of[1:] {
		if s.balance > best.balance {
			best = s
		}
	}
	d.spare = true
	n := w.serve(best, best.slice())
	d.spare = false
	return n
}

// slice is how many packets the share has processed in shareSlice, as far as
// this period tells; at most a burst.
func (s *Share) slice() int {
	if s.used == 0 || s.ran == 0 {
		return sliceLeast
	}
	return max(1, min(packet.BurstSize, int(uint64(shareSlice)*s.ran/s.used)))
}

// newPeriod ends a period and deals out the next one.
func (w *Worker) newPeriod(now uint64) {
	d := &w.sched
	wall := now - d.start
	// A period that was much longer was a pause, not work.
	busy := !d.idle && wall < 64*uint64(sharePeriod)
	switch {
	case !d.on:
		d.on, d.calm = busy && len(d.active) > 1, 0
	case busy:
		d.calm = 0
	default:
		d.calm++
		d.on = d.calm < shareUntil
	}
	if d.on {
		d.deal(int64(wall), busy)
	}
	for _, s := range d.active {
		s.spent = d.on && s.balance <= 0
		s.divert = s.spent || s.queue.n > 0
		s.listed, s.used, s.spare, s.came, s.ran, s.turned = false, 0, 0, 0, 0, 0
	}
	d.active = d.active[:0]
	d.number++
	for _, s := range d.queues.of {
		d.list(s)
	}
	d.start, d.idle = now, false
}

// deal charges a period that took wall ns and deals out as much. Unless it was
// busy throughout, what was not measured was nobody's.
func (d *schedule) deal(wall int64, busy bool) {
	rest, came := wall, int64(0)
	for _, s := range d.active {
		rest -= int64(s.used)
		came += int64(s.came)
	}
	if !busy || rest < 0 {
		rest = 0
	}
	left := wall
	for _, s := range d.active {
		cost := int64(s.used) + rest*int64(s.came)/max(came, 1)
		s.demand = max(cost, (3*s.demand+cost)/4)
		s.balance -= cost - int64(s.spare)
		s.part = 0
		left -= min(s.want(wall), s.guaranteed(wall))
	}
	// First those who want some more, then those who want all there is.
	left = d.share(max(left, 0), wall, false)
	d.share(left, wall, true)
	for _, s := range d.active {
		rate := s.guaranteed(wall) + s.part
		s.balance = max(min(s.balance+rate, 2*rate), -shareDebt*int64(sharePeriod))
	}
}

// want is what a share would use of wall ns: with packets turned away, any
// time.
func (s *Share) want(wall int64) int64 {
	if s.turned > 0 {
		return wall
	}
	return s.demand * 5 / 4
}

// guaranteed is what a share is guaranteed of wall ns.
func (s *Share) guaranteed(wall int64) int64 { return int64(s.perMille.Load()) * wall / 1000 }

// share gives those who want more than they are guaranteed their parts of what
// is left, and returns what nobody wanted: of those whose packets were turned
// away, or of the others.
func (d *schedule) share(left, wall int64, turned bool) int64 {
	weights := int64(0)
	for _, s := range d.active {
		if s.want(wall) > s.guaranteed(wall) && (turned == (s.turned > 0) || !turned) {
			weights += int64(s.perMille.Load()) + shareWeight
		}
	}
	over := left
	for _, s := range d.active {
		more := s.want(wall) - s.guaranteed(wall)
		if more <= 0 || turned != (s.turned > 0) {
			continue
		}
		s.part = min(more, left*(int64(s.perMille.Load())+shareWeight)/max(weights, 1))
		over -= s.part
	}
	return over
}
