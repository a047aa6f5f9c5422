package keeper

import (
	"fmt"
	"time"
)

// Pace of the supervisor's own life.
const (
	// beatEvery is how often the loop of a minder comes around when nothing
	// happens.
	beatEvery = time.Second
	// beatWait is how long it may be late before the supervisor counts as stuck:
	// what it does in between are short calls of the kernel and of children, and
	// those of children have bounds of their own.
	beatWait = 30 * time.Second
)

// promise notes that the loop comes around again when what is begun now, which
// takes so long at most, is over.
func (m *minder) promise(within time.Duration) {
	m.due.Store(monotonic() + int64(max(within, 0)+beatWait))
}

// epoch is when the clock of promises began.
var epoch = time.Now()

// monotonic is a clock that nobody sets, in ns.
func monotonic() int64 { return int64(time.Since(epoch)) }

// Alive says which part of the supervisor is stuck. Whoever feeds a watchdog asks
// it first.
func (k *Keeper) Alive() error {
	now := monotonic()
	k.mu.Lock() // who holds it for ever is stuck, too, and so is the caller
	defer k.mu.Unlock()
	for _, m := range k.minders {
		select {
		case <-m.over:
			continue
		default:
		}
		if due := m.due.Load(); due != 0 && now > due {
			return fmt.Errorf("nobody minds %s: %v late", m.role, time.Duration(now-due).Round(time.Second))
		}
	}
	return nil
}
