package wasm

import (
	"bytes"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sfc/dataplane/packet"
)

// A version with another layout makes its own state of what there is: of a
// flow in a burst before it sees it, of the others in the background. Flows
// that end are told it in their new state.
func TestReplaceMigrates(t *testing.T) {
	b := newBed(t, v1, 1, GroupOptions{})
	g := b.f.group
	for range 5 {
		b.send([]uint32{0, 1, 500, 999})
	}
	r := b.swap(v3, ReplaceOptions{Probation: time.Nanosecond})
	status(t, r, ReplacementStatus{Probation, "1.1.0", "1.3.0", "migrated", ""})
	b.expect("in a burst", 3, map[uint32]uint64{1: 6, 500: 6, 600: 1})
	g.FlowEnd([]uint32{0, 1})
	s := g.Stats()[0]
	if s.Counters["ended_packets"] != 5+6 || s.Counters["migrated"] != 3 {
		t.Errorf("counters %v: want flows of 5 and 6 packets to have ended, and 3 migrated", s.Counters)
	}
	if bytes.Count(g.FlowState(0)[:32], []byte{0}) != 32 {
		t.Error("state of ended flows is left")
	}
	b.settle() // by ticks
	status(t, r, ReplacementStatus{Accepted, "1.1.0", "1.3.0", "migrated", ""})
	b.expect("after", 3, map[uint32]uint64{0: 1, 1: 1, 500: 7, 600: 2, 999: 6})
	if n := g.Stats()[0].Counters["migrated"]; n != 4 {
		t.Errorf("%d flows were migrated, want 4", n)
	}

	// And back, with format 1 in the place of format 2.
	b.swap(v2, ReplaceOptions{Probation: -1})
	b.expect("back", 2, map[uint32]uint64{500: 8, 999: 7})
	b.settle()
	b.expect("back and settled", 2, map[uint32]uint64{500: 9, 600: 3, 999: 8})
}

// A fault in sfc_slot_migrate is a fault of the new version, wherever it is
// called; what is told of flows that ended meanwhile holds for both.
func TestRollBackWhileMigrating(t *testing.T) {
	loops := v3
	loops.migrate = "(loop $l (br $l))"
	for _, tt := range []struct {
		name, why string
		to        guest
		provoke   func(b *bed)
	}{
		{"in a burst", "sfc_slot_migrate: wasm trap", v3, func(b *bed) { b.send([]uint32{7, 5}) }},
		{"in the background", "sfc_slot_migrate: wasm trap", v3, func(b *bed) {
			for range 100 {
				b.f.group.Tick(0)
				time.Sleep(5 * time.Millisecond)
			}
		}},
		{"at a flow's end", "sfc_slot_migrate: wasm trap", v3, func(b *bed) { b.f.group.FlowEnd([]uint32{9, 5}) }},
		{"endless", "sfc_slot_migrate: deadline passed", loops, func(b *bed) { b.send([]uint32{5}) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBed(t, v1, 1, GroupOptions{Budget: 5 * time.Millisecond})
			b.send([]uint32{5, 6, 7, 8, 9})
			b.f.group.hops[0].cur.Load().slots.of(5)[0] = countTraps & 0xff
			b.f.group.hops[0].cur.Load().slots.of(5)[1] = countTraps >> 8
			r := b.swap(tt.to, ReplaceOptions{})
			tt.provoke(b)
			status(t, r, ReplacementStatus{RolledBack, "1.1.0", "1.3.0", "migrated", tt.why})
			want := map[uint32]uint64{5: countTraps + 1, 6: 2, 7: 2, 8: 2, 9: 2}
			if tt.name == "at a flow's end" {
				want[5], want[9] = 1, 1
			}
			b.expect("v1 is back", 1, want)
			b.settle()
		})
	}
}

// Migration looks only at slots that were written: those of a large table that
// has few flows take no memory in either version.
func TestMigrationIsSparse(t *testing.T) {
	b := newBed(t, v1, 1, GroupOptions{Flows: 1 << 20})
	h := b.f.group.hops[0]
	b.send([]uint32{0, 1000, 1 << 19, 1<<20 - 1})
	old := h.cur.Load().slots
	b.swap(v3, ReplaceOptions{Probation: time.Hour})
	next := h.cur.Load().slots
	for end := time.Now().Add(20 * time.Second); !h.trial.work.done; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not end")
		}
		b.f.group.Tick(0)
	}
	for _, s := range []*slots{old, next} {
		var st unix.Stat_t
		if err := unix.Fstat(s.region.FD(), &st); err != nil {
			t.Fatal(err)
		}
		if kib := st.Blocks / 2; kib > 32 {
			t.Errorf("slots of %d bytes take %d KiB", s.bytes, kib)
		}
	}
	if n := h.trial.migration.moved(); n != 4 {
		t.Errorf("%d flows were migrated", n)
	}
	b.expect("after", 3, map[uint32]uint64{0: 2, 1000: 2, 1 << 19: 2, 1<<20 - 1: 2})
}

// All flows of a burst share one budget: many that are slow to migrate are as
// late as one that never ends.
func TestMigrationHasOneBudget(t *testing.T) {
	slow := v3
	slow.migrate = "(local.set $s (i32.const 1000000)) (loop $l (br_if $l (local.tee $s (i32.sub (local.get $s) (i32.const 1)))))"
	b := newBed(t, v1, 1, GroupOptions{Budget: 5 * time.Millisecond})
	slots := make([]uint32, packet.BurstSize)
	for k := range slots {
		slots[k] = uint32(k)
	}
	b.send(slots)
	r := b.swap(slow, ReplaceOptions{Probation: time.Hour})
	b.send(slots[:1])
	status(t, r, ReplacementStatus{Probation, "1.1.0", "1.3.0", "migrated", ""})
	b.send(slots)
	status(t, r, ReplacementStatus{RolledBack, "1.1.0", "1.3.0", "migrated", "sfc_slot_migrate: deadline passed"})
}
