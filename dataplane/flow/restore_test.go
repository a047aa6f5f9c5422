package flow

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
)

func dupOf(fd int) (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0) }

// memoryOf gives options memory.
func memoryOf(o Options) Options {
	o.Key = secret
	o.Memory = make([]byte, MemoryBytes(o))
	return o
}

// restore replaces the rig's table by what its memory says.
func (g *rig) restore(o Options) Restored {
	g.tb.Helper()
	if err := g.t.Detach(); err != nil {
		g.tb.Fatal(err)
	}
	var r Restored
	var err error
	if g.t, r, err = Restore(o); err != nil {
		g.tb.Fatal(err)
	}
	g.verify()
	return r
}

// reopen makes pins and claims those of a next process.
func (s *shared) reopen(t *testing.T) {
	t.Helper()
	for i, p := range []**steer.Pins{&s.pins, &s.claims} {
		var err error
		if *p, _, err = steer.OpenPins(s.mem[i]); err != nil {
			t.Fatal(err)
		}
	}
}

// A table that is restored at rest is what it was: flows in their slots, in
// their states, found by all their tuples; ended ones wait for Drain, in vain
// nobody; counters go on.
func TestRestore(t *testing.T) {
	s := newShared(t, 100)
	opts := memoryOf(s.options(Options{Max: 64, Bindings: 16}))
	g := newRig(t, opts)
	udpSlot := g.one(udp(1, 9, 1, 1)).Slot
	s.load(t, g, udpSlot, 1)
	g.one(tcp(1, 9, 1, 80, tcpSYN))
	g.one(tcp(9, 1, 80, 1, tcpSYN|tcpACK).with(func(s *sent) { s.seq = 5 }))
	g.one(tcp(1, 9, 1, 80, tcpACK).with(func(s *sent) { s.ack = 6 }))
	v6 := g.one(udp(3, 9, 1, 1).with(func(s *sent) { s.v6 = true })).Slot
	reset := g.one(tcp(4, 9, 1, 80, tcpRST)).Slot
	g.one(tcp(4, 9, 1, 80, tcpSYN)) // replaces it
	ping := &sent{src: 7, dst: 9, proto: packet.ProtoICMP, typ: 8, sport: 5, dport: 5}
	g.one(ping)
	before, count, held := describeAll(g.t), g.t.Counters(), g.t.Ledger().Flows[udpSlot]

	// What steering has stays, but nobody holds it until the table says so.
	s.reopen(t)
	opts = s.options(opts)
	r := g.restore(opts)
	if want := (Restored{Flows: 5, Bindings: 1, Ended: 1}); r != want {
		t.Errorf("%+v, want %+v", r, want)
	}
	if after := describeAll(g.t); len(after) != len(before) {
		t.Errorf("%d flows, want %d", len(after), len(before))
	} else {
		for tuple, f := range before {
			if after[tuple] != f {
				t.Errorf("before %+v, after %+v", f, after[tuple])
			}
		}
	}
	if after := g.t.Counters(); after != count {
		t.Errorf("counters %+v, then %+v", count, after)
	}
	if after := g.t.Ledger().Flows[udpSlot]; after != held {
		t.Errorf("%+v, then %+v", held, after)
	}
	g.want("by its own tuple", g.one(udp(9, 1, 1, 1)), Found, udpSlot, packet.FlagReverse)
	g.want("by its further one", g.one(udp(200, 9, 1, 1)), Found, udpSlot, 0)
	g.want("of IPv6", g.one(udp(3, 9, 1, 1).with(func(s *sent) { s.v6 = true })), Found, v6, 0)
	if slots := g.drain(); !slices.Equal(slots, []uint32{reset}) {
		t.Errorf("drained %v, want %v", slots, reset)
	}
	if slots := slices.Collect(g.t.Vacant()); !slices.Equal(slots, []uint32{reset}) {
		t.Errorf("vacant %v, want %v", slots, reset)
	}
	g.verify()
}

// Which memory is which table's.
func TestRestoreRefuses(t *testing.T) {
	opts := memoryOf(Options{Max: 16, Bindings: 4})
	if _, _, err := Restore(opts); !errors.Is(err, ErrNoTable) {
		t.Errorf("memory of zeros: %v", err)
	}
	table, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(opts); err == nil {
		t.Error("made over another table")
	}
	for name, change := range map[string]func(o *Options){
		"no memory":    func(o *Options) { o.Memory = nil },
		"other size":   func(o *Options) { o.Max = 8 },
		"bindings":     func(o *Options) { o.Bindings = 2 },
		"no bindings":  func(o *Options) { o.Bindings = 0 },
		"other secret": func(o *Options) { o.Key[1]++ },
	} {
		o := opts
		change(&o)
		if _, _, err := Restore(o); !errors.Is(err, ErrNoTable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, mem := range map[string][]byte{
		"short":       opts.Memory[:len(opts.Memory)-1],
		"not aligned": make([]byte, len(opts.Memory)+4096)[8:],
	} {
		o := opts
		o.Memory = mem
		if _, err := New(o); err == nil {
			t.Errorf("%s: no error", name)
		}
		if _, _, err := Restore(o); err == nil || errors.Is(err, ErrNoTable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := table.Close(); err != nil {
		t.Error(err)
	}
	if _, _, err := Restore(opts); !errors.Is(err, ErrNoTable) {
		t.Errorf("a table that was closed: %v", err)
	}
}

// When a full table is restored, those that had their last packet first are
// still the first to go.
func TestRestoreKeepsOrder(t *testing.T) {
	opts := memoryOf(Options{Max: 64})
	g := newRig(t, opts)
	order := rand.New(rand.NewPCG(1, 1)).Perm(40)
	for _, i := range order {
		g.now += 3 * second
		g.one(udp(uint32(i+1), 9, 1, 1))
	}
	// Slots are in the order of age: mix them.
	for i := range 40 {
		g.now += 3 * second
		if i%3 != 0 {
			g.one(udp(uint32(i+1), 9, 1, 1))
		}
	}
	g.restore(opts)
	var seen []uint32
	for ref := g.t.opening.first; ref != 0; ref = g.t.entries[ref-1].next {
		seen = append(seen, g.t.entries[ref-1].seen)
	}
	if len(seen) != 40 || !slices.IsSorted(seen) {
		t.Errorf("%d flows, last seen at %v", len(seen), seen)
	}
}

// Flows of buckets that are another worker's by now go there, with what they
// hold and what functions keep; the owner's own ones stay.
func TestReconcile(t *testing.T) {
	s := newShared(t, 1000)
	base := s.options(Options{Max: 256, Bindings: 128, Buckets: steer.Buckets})
	a, b := memoryOf(base), memoryOf(base)
	from, to := newRig(t, a), newRig(t, b)
	for i := range uint16(100) {
		s.load(t, from, from.one(udp(1, 9, i, 1)).Slot, i)
	}
	all := describeAll(from.t)
	state := [2]map[uint32]uint16{{}, {}}
	for tuple := range all {
		state[0][slotOf(from.t, tuple)] = tuple.SrcPort
	}
	// A quarter of them is somewhere on its way.
	n := 0
	for _, f := range all {
		slot := slotOf(from.t, f.Tuple)
		switch n++; n % 8 {
		case 0: // in a parcel
			from.t.Extract(slot)
		case 1: // functions' state has not come
			r, _ := from.t.Extract(slot)
			to.t.Insert(&r)
		case 2: // has come; was not forgotten
			r, _ := from.t.Extract(slot)
			into := to.t.Insert(&r)
			state[1][into] = state[0][slot]
			to.t.Arrive(into)
		}
	}
	s.reopen(t)
	a, b = s.options(a), s.options(b)
	ra, rb := from.restore(a), to.restore(b)
	if ra.Leaving != 38 || rb.Arriving != 13 || rb.Flows != 13 {
		t.Errorf("%+v and %+v", ra, rb)
	}
	got := Reconcile([]*Table{from.t, to.t}, func(uint16) int { return 1 }, func(w int, slot uint32, v int, into uint32) {
		if into != NoSlot {
			state[v][into] = state[w][slot]
		}
		delete(state[w], slot)
	})
	if want := (Reconciled{Moved: 87, Arrived: 13}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	from.verify()
	to.verify()
	if from.t.Live() != 0 || len(state[0]) != 0 || s.pins.Sweep() != 0 || s.claims.Sweep() != 0 {
		t.Errorf("%d flows stayed, with state %v", from.t.Live(), state[0])
	}
	s.want(t, "reconciled", 100, 200)
	for tuple, f := range describeAll(to.t) {
		if state[1][slotOf(to.t, tuple)] != tuple.SrcPort || f != all[tuple] {
			t.Errorf("%+v has state %d, was %+v", f, state[1][slotOf(to.t, tuple)], all[tuple])
		}
	}
}

// slotOf is the slot of a flow.
func slotOf(t *Table, tuple Tuple) uint32 {
	k, _, _ := tuple.normalise()
	return t.find(&k, k.hash(secret)) - 1
}

// A flow that finds no room where it belongs is over, and holds nothing.
func TestReconcileRefuses(t *testing.T) {
	s := newShared(t, 100)
	small := memoryOf(s.options(Options{Max: 1, Bindings: 4}))
	from, to := newRig(t, memoryOf(s.options(Options{Max: 16, Bindings: 4}))), newRig(t, small)
	s.load(t, from, from.one(udp(1, 9, 1, 1)).Slot, 1)
	to.one(udp(2, 9, 1, 1))
	to.one(udp(9, 2, 1, 1)) // is open, so not to be evicted
	cleared := 0
	got := Reconcile([]*Table{from.t, to.t}, func(uint16) int { return 1 }, func(_ int, _ uint32, _ int, into uint32) {
		if into != NoSlot {
			t.Error("it found a slot")
		}
		cleared++
	})
	if (got != Reconciled{Refused: 1}) || cleared != 1 {
		t.Errorf("%+v, %d cleared", got, cleared)
	}
	from.verify()
	to.verify()
	s.want(t, "refused", 0, 0)
}
