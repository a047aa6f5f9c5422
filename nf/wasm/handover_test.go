package wasm

import (
	"bytes"
	"testing"
	"time"
)

// take takes a flow out of its slot.
func (b *bed) take(slot uint32) []byte {
	record := bytes.Repeat([]byte{0xee}, b.f.group.FlowBytes())
	b.f.group.TakeFlow(slot, record)
	b.f.group.ClearFlow(slot)
	return record
}

// A flow moves from one worker to another whatever versions they run: its
// state is read, migrated or, where nothing else is left, given up and counted.
// What the version before had kept of it goes along while that may come back.
func TestMoveBetweenVersions(t *testing.T) {
	onTrial := ReplaceOptions{Probation: time.Hour}
	same := func(b *bed) {}
	trial := func(b *bed) { b.swap(v3, onTrial) }
	accepted := func(b *bed) { b.swap(v3, ReplaceOptions{Probation: -1}); b.settle() }
	reset := func(b *bed) { b.swap(v3, ReplaceOptions{ResetState: true, Probation: time.Hour}) }
	v2shared := func(b *bed) { b.swap(v2, onTrial) }
	stateless := func(b *bed) { b.swap(guest{number: 4}, onTrial) }
	touch := func(b *bed) { b.send([]uint32{5}) } // on the source, once it has its version
	leave := func(b *bed) {}
	for _, tt := range []struct {
		name     string
		from, to func(b *bed)
		touch    func(b *bed)
		count    uint64 // of the next packet, after 3 before
		lost     uint64
		back     uint64 // of the next packet after a fault of the version on probation; 0: none is
	}{
		{"alike", same, same, leave, 4, 0, 0},
		{"shared layout", same, v2shared, leave, 4, 0, 5},
		{"from a shared layout", v2shared, same, touch, 5, 0, 0},
		{"to a trial", same, trial, leave, 4, 0, 4},
		{"from a trial, not migrated", trial, same, leave, 4, 0, 0},
		{"from a trial, migrated", trial, same, touch, 4, 0, 0},
		{"between trials, not migrated", trial, trial, leave, 4, 0, 4},
		{"between trials, migrated", trial, trial, touch, 5, 0, 4},
		{"to an accepted version", same, accepted, leave, 4, 0, 0},
		{"from a trial to an accepted version", trial, accepted, touch, 5, 0, 0},
		{"from an accepted version to a trial", accepted, trial, touch, 5, 0, 1},
		{"from an accepted version", accepted, same, touch, 1, 1, 0},
		{"to a reset", same, reset, leave, 1, 0, 4},
		{"to one without state", same, stateless, leave, 0, 0, 4},
		{"from one without state", stateless, same, touch, 4, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			src, dst := newBed(t, v1, 1, GroupOptions{}), newBed(t, v1, 1, GroupOptions{})
			for range 3 {
				src.send([]uint32{5, 6})
			}
			tt.from(src)
			tt.touch(src)
			tt.to(dst)
			record := src.take(5)
			cur, old := src.f.group.hops[0].slots()
			for _, s := range []*slots{cur, old} {
				if s != nil && bytes.Count(s.of(5), []byte{0}) != s.bytes {
					t.Error("state is left in the slot")
				}
			}
			dst.f.group.GiveFlow(77, record)
			if got := dst.send([]uint32{77})[0].count; got != tt.count {
				t.Errorf("the next packet is number %d, want %d", got, tt.count)
			}
			if s := dst.f.group.Stats()[0]; s.StateLost != tt.lost {
				t.Errorf("%d flows lost their state, want %d", s.StateLost, tt.lost)
			}
			if tt.back == 0 {
				return
			}
			dst.send([]uint32{1}, markTrap)
			if got := dst.send([]uint32{77})[0].count; got != tt.back {
				t.Errorf("rolled back: the next packet is number %d, want %d", got, tt.back)
			}
		})
	}
}

// A flow that sfc_slot_migrate traps at is taken in, and the version goes back;
// once there is none to go back to, the flow starts anew.
func TestMoveThatTraps(t *testing.T) {
	src := newBed(t, v1, 1, GroupOptions{})
	bad := func() []byte {
		s := src.f.group.hops[0].cur.Load().slots.of(5)
		s[0], s[1] = countTraps&0xff, countTraps>>8
		return src.take(5)
	}
	dst := newBed(t, v1, 1, GroupOptions{})
	r := dst.swap(v3, ReplaceOptions{Probation: time.Hour})
	dst.f.group.GiveFlow(9, bad())
	status(t, r, ReplacementStatus{RolledBack, "1.1.0", "1.3.0", "migrated", "sfc_slot_migrate"})
	dst.expect("v1 is back", 1, map[uint32]uint64{9: countTraps + 1})

	dst = newBed(t, v1, 1, GroupOptions{})
	dst.swap(v3, ReplaceOptions{Probation: -1})
	dst.settle()
	dst.f.group.GiveFlow(9, bad())
	dst.expect("a spare of v3", 3, map[uint32]uint64{9: 1})
	if s := dst.f.group.Stats()[0]; s.Traps != 1 {
		t.Errorf("%d traps", s.Traps)
	}
}

// Taking and giving allocates nothing, with a version on probation or not.
func TestMoveDoesNotAllocate(t *testing.T) {
	b := newBed(t, v1, 3, GroupOptions{})
	b.send([]uint32{5})
	for _, when := range []string{"one version", "on probation"} {
		if when == "on probation" {
			b.swap(v3, ReplaceOptions{Probation: time.Hour})
		}
		record := make([]byte, b.f.group.FlowBytes())
		if n := testing.AllocsPerRun(100, func() {
			b.f.group.TakeFlow(5, record)
			b.f.group.GiveFlow(6, record)
			b.f.group.ClearFlow(5)
			b.f.group.TakeFlow(6, record)
			b.f.group.GiveFlow(5, record)
			b.f.group.ClearFlow(6)
		}); n != 0 {
			t.Errorf("%s: %v allocations", when, n)
		}
	}
	b.expect("at last, by the third function", 1, map[uint32]uint64{5: 2})
}
