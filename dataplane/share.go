package dataplane

import (
	"fmt"
	"sync/atomic"
)

// Share is a tenant's part of one worker's time. All chains of the tenant on
// that worker name it, and none on another one does.
//
// While the worker has time for everything nobody is limited. When it has not
// (see schedule.go), a tenant that has used up its part, and what others leave
// of theirs, waits: its packets are queued, up to QueueShare of them, and
// dropped beyond: over_share.
type Share struct {
	perMille atomic.Uint32 // of the worker's time that is guaranteed

	// The worker's:

	chains int    // that name it
	busy   uint64 // ns in its chains so far
	over   uint64 // packets dropped as over_share so far
	// divert says that its packets are queued, not processed.
	divert bool
	// spent says that it has used up what it has in this period.
	spent bool
	// listed says that it is in schedule.active: had packets in this period,
	// which is number period.
	listed bool
	period uint64
	used   uint64 // ns charged in this period
	spare  uint64 // of these, ns that nobody else wanted
	came   uint64 // packets in this period, those queued twice
	ran    uint64 // packets processed in this period
	turned uint64 // of these, packets that were queued or dropped
	// balance is what it may use in this period, in ns: negative when it has
	// used more before.
	balance int64
	demand  int64 // ns that it wants in a period, as far as one can tell
	part    int64 // ns of what is left over that it gets

	queue queue
}

// NewShare makes a tenant's part of a worker's time: so many thousandths, 0 to
// 1000, are guaranteed.
func NewShare(perMille int) (*Share, error) {
	s := new(Share)
	if err := s.Guarantee(perMille); err != nil {
		return nil, err
	}
	s.queue.clear()
	return s, nil
}

// Guarantee changes what is guaranteed. Anyone may call it.
func (s *Share) Guarantee(perMille int) error {
	if perMille < 0 || perMille > 1000 {
		return fmt.Errorf("share of %d/1000 of a worker's time: want 0 to 1000", perMille)
	}
	s.perMille.Store(uint32(perMille))
	return nil
}

// Usage is what a tenant used.
type Usage struct {
	// BusyNs is the time in its chains; while it is the worker's only tenant,
	// eight times that of every eighth burst.
	BusyNs uint64
	// OverShare counts packets dropped because the tenant used up its time
	// while others needed theirs.
	OverShare uint64
}

// Usage returns what tenants used on a worker, by their shares there. One that
// no chain names any more keeps what it used.
func (s *Set) Usage(worker int, shares []*Share) ([]Usage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Usage, len(shares))
	err := s.workers[worker].ask(func() {
		for i, sh := range shares {
			out[i] = Usage{BusyNs: sh.busy, OverShare: sh.over}
		}
	})
	return out, err
}
