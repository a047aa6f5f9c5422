package flow

import (
	"testing"

	"sfc/dataplane/packet"
)

// Every bucket of a table moves to another and back: keys, directions, states,
// times and secondary keys come along, slots are new, and each flow is in
// exactly one table at any time.
func TestMoveBuckets(t *testing.T) {
	opts := Options{Max: 2048, Bindings: 1024, Buckets: 16}
	from, to := newRig(t, opts), newRig(t, opts)
	var flows []*sent
	for i := range uint32(1000) {
		s := [...]*sent{
			udp(i+1, 5000, uint16(i), 53),
			udp(5000, i+1, 53, uint16(i)).with(func(s *sent) { s.v6 = true }),
			tcp(i+1, 5000, 9, 80, tcpSYN),
			{src: i + 1, dst: 5000, proto: packet.ProtoICMP, typ: 8, sport: uint16(i), dport: uint16(i)},
			{src: i + 1, dst: 5000, proto: packet.ProtoESP},
		}[i%5]
		flows = append(flows, s)
		from.now += second / 100
		slot := from.one(s).Slot
		if i%2 == 0 {
			from.one(s.back())
		}
		if i%3 == 0 && packet.HasPorts(s.proto) {
			from.t.Bind(slot, s.with(func(s *sent) { s.src, s.sport = 6000, uint16(i) }).tuple())
			from.t.Bind(slot, s.with(func(s *sent) { s.dst, s.dport = 7000, uint16(i) }).tuple())
		}
	}
	to.now = from.now
	before := describeAll(from.t)
	if len(before) != len(flows) {
		t.Fatalf("%d flows described, %d made", len(before), len(flows))
	}
	moved := 0
	for bucket := range uint32(16) {
		for slot := from.t.First(bucket); slot != NoSlot; slot = from.t.First(bucket) {
			owner, _ := from.t.OwnerOf(slot)
			r, ok := from.t.Extract(slot)
			if !ok || r.Owner() != owner || owner&15 != bucket {
				t.Fatalf("bucket %d, slot %d: owner %#x, record says %#x", bucket, slot, owner, r.Owner())
			}
			into := to.t.Insert(&r)
			if into == NoSlot {
				t.Fatal("refused")
			}
			if to.t.Insert(&r) != NoSlot {
				t.Fatal("inserted twice")
			}
			if moved%7 == 0 {
				from.verify()
				to.verify()
			}
			to.t.Arrive(into)
			if left, ok := from.t.Leave(&r); !ok || left != slot {
				t.Fatalf("slot %d: %d left: %v", slot, left, ok)
			}
			if _, ok := from.t.Leave(&r); ok {
				t.Fatal("left twice")
			}
			moved++
		}
		from.verify()
		to.verify()
	}
	if moved != len(flows) || from.t.Live() != 0 || from.t.Pending() != 0 || len(from.drain()) != 0 {
		t.Fatalf("%d moved, %d left", moved, from.t.Live())
	}
	after := describeAll(to.t)
	for tuple, f := range before {
		if after[tuple] != f {
			t.Errorf("before %+v, after %+v", f, after[tuple])
		}
	}
	for _, s := range flows {
		r := to.one(s.back())
		to.want("an answer after the move", r, Found, r.Slot, packet.FlagReverse)
	}
	if _, ok := from.t.Extract(0); ok {
		t.Error("extracted from an empty table")
	}
	// Nothing is lost on the way back, although flows arrive in other order.
	for bucket := range uint32(16) {
		for slot := to.t.First(bucket); slot != NoSlot; slot = to.t.First(bucket) {
			carryOver(t, to.t, from.t, slot)
		}
	}
	if from.t.Live() != uint32(len(flows)) || from.t.Counters().Bindings == 0 {
		t.Errorf("%d flows came back", from.t.Live())
	}
}

// carryOver moves a flow that has nothing but what its table knows.
func carryOver(t failer, from, to *Table, slot uint32) uint32 {
	r, _ := from.Extract(slot)
	into := to.Insert(&r)
	if into == NoSlot {
		t.Fatal("refused")
	}
	to.Arrive(into)
	if _, ok := from.Leave(&r); !ok {
		t.Fatal("it had left before")
	}
	return into
}

// describeAll maps the tuple of every flow to what is known about it.
func describeAll(t *Table) map[Tuple]Flow {
	all := map[Tuple]Flow{}
	for bucket := range uint32(len(t.heads)) {
		for slot := t.First(bucket); slot != NoSlot; slot = t.Next(slot) {
			f, _ := t.Describe(slot)
			all[f.Tuple] = f
		}
	}
	return all
}

// A full table takes moved flows as it takes new ones; secondary keys that are
// another flow's stay behind.
func TestInsertInto(t *testing.T) {
	from := newRig(t, Options{Max: 16, Bindings: 4})
	to := newRig(t, Options{Max: 4, Bindings: 1})
	a := from.one(udp(1, 9, 1, 1)).Slot
	if from.t.Bind(a, udp(200, 9, 1, 1).tuple()) != Bound || from.t.Bind(a, udp(200, 9, 2, 1).tuple()) != Bound {
		t.Fatal("not bound")
	}
	to.one(udp(200, 9, 1, 1)) // has one of the keys
	r, _ := from.t.Extract(a)
	slot := to.t.Insert(&r)
	if f, _ := to.t.Describe(slot); f.N != 1 || to.t.Counters().BindConflicts != 1 {
		t.Errorf("%+v", f)
	}
	for i := range uint32(4) {
		to.one(udp(10+i, 9, 1, 1))
		to.one(udp(9, 10+i, 1, 1))
		to.drain()
	}
	from.one(udp(1, 9, 1, 2))
	for bucket := range uint32(4096) {
		if slot := from.t.First(bucket); slot != NoSlot {
			r, _ := from.t.Extract(slot)
			if to.t.Insert(&r) != NoSlot || sum(to.t.Counters().Refused) == 0 {
				t.Error("inserted into a table full of active flows")
			}
		}
	}
	if from.t.First(4096) != NoSlot || from.t.Next(3) != NoSlot || from.t.Next(NoSlot) != NoSlot {
		t.Error("flows where there are none")
	}
}
