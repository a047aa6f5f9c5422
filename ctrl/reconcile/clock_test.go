package reconcile

import "testing"

// Back-off, resync and the age of what was seen go by differences between times
// that this clock gave: they must not change when the host's clock is set.
func TestClockIsMonotonic(t *testing.T) {
	g := newRig(t, nil)
	g.start()
	if now := g.r.now(); now.Round(0) == now {
		t.Errorf("%v has no monotonic part", now)
	}
}
