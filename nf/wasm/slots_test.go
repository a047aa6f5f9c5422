package wasm

import (
	"encoding/binary"
	"strings"
	"testing"

	"sfc/dataplane/packet"
)

// count returns what flow_counts kept of a flow, as the host sees it.
func count(h *hop, slot int) uint64 {
	return binary.LittleEndian.Uint64(h.cur.Load().slots.mem[8*slot:])
}

// Slots are the host's: they belong to one function, outlive its instances and
// are cleared when a flow has ended.
func TestSlots(t *testing.T) {
	f := newFixture(t, fixtureOptions{group: GroupOptions{Flows: 1000}}, "flow_counts", "flow_counts", "empty")
	descs := f.mem.Descs()
	burst := func() {
		f.fill(packet.BurstSize, 100)
		for k := range descs {
			descs[k].Slot = uint32(k%10) * 111 // the last is 999
		}
		f.group.Process(&f.burst)
		for k := range packet.BurstSize {
			if o := f.burst.Out[k]; o.Verdict != packet.Tx {
				t.Fatalf("packet %d: %+v", k, o)
			}
		}
	}
	expect := func(when string, hop int, want ...uint64) {
		t.Helper()
		for i, n := range want {
			if got := count(f.group.hops[hop], 111*i); got != n {
				t.Errorf("%s: function %d, slot %d: %d packets, want %d", when, hop, 111*i, got, n)
			}
		}
	}
	burst()
	expect("one burst", 0, 7, 7, 7, 7, 6, 6, 6, 6, 6, 6)
	expect("one burst", 1, 7, 7, 7, 7, 6, 6, 6, 6, 6, 6)

	// The first function gets a new instance, as after a fault.
	f.group.replace(1)
	if f.group.suspended != 0 {
		t.Fatal("no spare took over")
	}
	burst()
	expect("a new instance", 0, 14, 14, 14, 14, 12)
	expect("a new instance", 1, 14, 14, 14, 14, 12)

	f.group.FlowEnd([]uint32{0, 999})
	expect("two flows ended", 0, 0, 14, 14, 14, 12, 12, 12, 12, 12, 0)
	expect("two flows ended", 1, 0, 14, 14, 14, 12, 12, 12, 12, 12, 0)
	if f.group.hops[2].cur.Load().slots != nil {
		t.Error("a function without flow state has slots")
	}
	if n := testing.AllocsPerRun(100, func() { f.group.FlowEnd([]uint32{1, 2, 3}) }); n != 0 {
		t.Errorf("%v allocations per flow end", n)
	}
}

func TestSlotsRefused(t *testing.T) {
	rt := openRuntime(t)
	m, err := rt.Compile(module(t, "flow_counts"))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for flows, want := range map[int]string{0: "its path has no flows", 1 << 24: "at most 14680064 do"} {
		_, err := rt.NewGroup(newMemory(t, 64), []Hop{{Name: "counts", Module: m, Config: []byte("{}")}}, GroupOptions{Flows: flows})
		if err == nil || !strings.Contains(err.Error(), "function counts keeps 8 bytes per flow") || !strings.Contains(err.Error(), want) {
			t.Errorf("%d flows: got %v", flows, err)
		}
	}
}

// Many flows end at once: one deadline holds for all that are told in a row,
// however little each of them takes.
func TestFlowEndsShareADeadline(t *testing.T) {
	f := newFixture(t, fixtureOptions{group: GroupOptions{Flows: 1000}}, "slow_flow_end")
	f.group.FlowEnd([]uint32{0})
	if n := f.group.Stats()[0].Overruns; n != 0 {
		t.Fatalf("%d overruns by one flow", n)
	}
	slots := make([]uint32, packet.BurstSize)
	for i := range slots {
		slots[i] = uint32(i)
	}
	// On a busy machine the thread that ticks may come late.
	for try := 0; try < 20 && f.group.Stats()[0].Overruns == 0; try++ {
		f.group.FlowEnd(slots)
	}
	if n := f.group.Stats()[0].Overruns; n != 1 {
		t.Errorf("%d overruns by %d flows, want 1", n, len(slots))
	}
}
