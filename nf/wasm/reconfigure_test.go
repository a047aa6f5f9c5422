package wasm

import (
	"errors"
	"testing"
	"time"
)

func (b *bed) reconfigure(id int, o ReplaceOptions) *Replacement {
	b.tb.Helper()
	r, err := b.f.group.Reconfigure(0, config(id), o)
	if err != nil {
		b.tb.Fatal(err)
	}
	if err := r.Install(); err != nil {
		b.tb.Fatal(err)
	}
	return r
}

// expectConfig sends one packet of slot 1.
func (b *bed) expectConfig(when string, id int, count uint64) {
	b.tb.Helper()
	if got := b.send([]uint32{1})[0]; got.config != id || got.count != count {
		b.tb.Errorf("%s: configuration %d, packet %d, want %d and %d", when, got.config, got.count, id, count)
	}
}

// A new configuration comes in a new instance, state stays, and a fault brings
// the old one back.
func TestReconfigure(t *testing.T) {
	b := newBed(t, v1, 1, GroupOptions{})
	b.expectConfig("first", 1, 1)
	before := b.f.group.hops[0].cur.Load().current.Load()
	r := b.reconfigure(2, ReplaceOptions{Probation: -1})
	b.expectConfig("second", 2, 2)
	b.settle()
	status(t, r, ReplacementStatus{Accepted, "1.1.0", "1.1.0", "kept", ""})
	if b.f.group.hops[0].cur.Load().current.Load() == before {
		t.Error("the instance is the same")
	}
	b.reconfigure(3, ReplaceOptions{})
	b.expectConfig("third", 3, 3)
	b.send([]uint32{9}, markTrap)
	b.expectConfig("after a fault", 2, 4)
	if _, err := b.f.group.Reconfigure(0, config(configRefuse), ReplaceOptions{}); !errors.Is(err, ErrConfigRefused) {
		t.Errorf("got %v", err)
	}
	b.expectConfig("after a refusal", 2, 5)
}

// With live_configure the instance stays, also for the version after it; its
// spares have the new configuration, and the old one is back after a fault.
func TestLiveConfigure(t *testing.T) {
	live := guest{number: 1, format: 1, live: true}
	b := newBed(t, live, 1, GroupOptions{})
	hop := b.f.group.hops[0]
	b.expectConfig("first", 1, 1)
	before := hop.cur.Load().current.Load()
	r := b.reconfigure(2, ReplaceOptions{Probation: -1})
	b.expectConfig("second", 2, 2)
	if hop.cur.Load().current.Load() != before {
		t.Error("another instance serves")
	}
	b.settle()
	status(t, r, ReplacementStatus{Accepted, "1.1.0", "1.1.0", "kept", ""})
	if s := b.f.group.Stats()[0]; s.Counters["packets"] != 2 {
		t.Errorf("%d packets by the function's own counter", s.Counters["packets"])
	}
	b.send([]uint32{9}, markTrap)
	b.expectConfig("a spare", 2, 3)

	b.reconfigure(3, ReplaceOptions{Probation: time.Hour})
	b.expectConfig("third", 3, 4)
	b.send([]uint32{9}, markTrap)
	b.expectConfig("rolled back", 2, 5)
	b.settle()
	b.expectConfig("rolled back and settled", 2, 6)
	for end := time.Now().Add(20 * time.Second); len(hop.cur.Load().spares) < b.f.group.opts.Spares; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it has no spare")
		}
	}
	if s := b.f.group.Stats()[0]; s.Counters["packets"] != 8 || s.State != Running {
		t.Errorf("%d packets by the function's own counter, %v", s.Counters["packets"], s.State)
	}
}

// An instance that does not take a second configuration, or faults, makes room
// for one that has taken it.
func TestLiveConfigureFails(t *testing.T) {
	live := guest{number: 1, format: 1, live: true}
	for id, why := range map[int]string{configLiveRefuse: "sfc_configure returned 2", configLiveTrap: "unreachable"} {
		b := newBed(t, live, 1, GroupOptions{})
		b.expectConfig("first", 1, 1)
		r := b.reconfigure(id, ReplaceOptions{Probation: time.Hour})
		b.expectConfig("new instance", id, 2)
		status(t, r, ReplacementStatus{Probation, "1.1.0", "1.1.0", "kept", why})
		b.send([]uint32{9}, markTrap)
		b.expectConfig("rolled back", 1, 3)
		b.settle()
		if s := b.f.group.Stats()[0]; s.Counters["packets"] != 4 {
			t.Errorf("%d packets by the function's own counter", s.Counters["packets"])
		}
	}
}
