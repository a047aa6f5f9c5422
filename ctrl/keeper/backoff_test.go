package keeper

import (
	"testing"
	"time"
)

// Whatever the clock does, a child that dies is started again within the longest
// wait, and what a jump made of the deaths before is over with their window.
func TestBackoffWhenTheClockJumps(t *testing.T) {
	b := Backoff{}.withDefaults()
	start := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC) // without a monotonic part
	for name, jump := range map[string]time.Duration{"forward": 30 * 24 * time.Hour, "back": -30 * 24 * time.Hour} {
		var d deaths
		now := start
		for i := range 40 {
			if i == 20 {
				now = now.Add(jump)
			}
			wait, _ := d.add(now, b)
			if wait < 0 || wait > b.Max {
				t.Fatalf("%s, death %d: it waits %v", name, i, wait)
			}
			now = now.Add(wait)
		}
		if _, alarm := d.add(now.Add(31*24*time.Hour), b); alarm {
			t.Errorf("%s: there is an alarm long after", name)
		}
	}
	// The daemon's own times have a monotonic part: a jump does not count at all.
	if m := newMinder(&Keeper{}, "x"); m.status.Since.Round(0) == m.status.Since {
		t.Error("the time has no monotonic part")
	}
}
