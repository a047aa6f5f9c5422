package wasm

import (
	"encoding/binary"
	"testing"

	"sfc/chains"
	"sfc/dataplane/packet"
	"sfc/nf"
)

var (
	_ chains.Runner = (*Group)(nil)
	_ chains.Runner = (*PathRunner)(nil)
)

// A path visits the functions in its own order; what is counted and named is
// the function's, not the place's.
func TestRunnerOrder(t *testing.T) {
	f := newFixture(t, fixtureOptions{}, "stamp", "stamp", "drop_all")
	region := f.mem.Frames.Bytes()
	le := binary.LittleEndian
	run := func(r chains.Runner) {
		f.fill(packet.BurstSize, 100)
		r.Process(&f.burst)
	}
	// stamp writes the address where it found the frame and what was there
	// before 8 bytes further at every visit: two visits leave two marks.
	run(f.group.Runner([]int{1}))
	at := f.burst.Frames[3].Bytes(region)
	if got, want := le.Uint32(at[8:]), uint32(nf.FramesStart+f.burst.Frames[3].Pos()); got != want || le.Uint32(at[16:]) == want {
		t.Errorf("a path of one: %x", at[:32])
	}
	run(f.group.Runner([]int{2, 0}))
	if o := f.burst.Out[3]; o.Verdict != packet.Drop || o.Hop != 2 {
		t.Errorf("reversed: %+v, want function 2 to drop it", o)
	}
	run(f.group.Runner(nil))
	if o := f.burst.Out[3]; o.Verdict != packet.Tx || o.Port != 1 {
		t.Errorf("a path of none: %+v", o)
	}
	run(f.group)
	stats := f.group.Stats()
	for i, want := range []uint64{64, 128, 128} {
		if stats[i].Packets != want {
			t.Errorf("function %d: %d packets, want %d", i, stats[i].Packets, want)
		}
	}
	r := f.group.Runner([]int{1, 0})
	if n := testing.AllocsPerRun(100, func() { f.burst.N = 64; r.Process(&f.burst) }); n != 0 {
		t.Errorf("%v allocations per burst", n)
	}
}

func TestRunnerRefusesOrder(t *testing.T) {
	f := newFixture(t, fixtureOptions{}, "empty", "empty")
	for _, order := range [][]int{{2}, {-1}, {0, 1, 0}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("order %v was taken", order)
				}
			}()
			f.group.Runner(order)
		}()
	}
}
