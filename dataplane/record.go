package dataplane

import (
	"sync/atomic"

	"sfc/dataplane/packet"
)

// Point is a place where packets can be seen.
type Point uint8

const (
	// AtIngress is before the first function.
	AtIngress Point = iota
	// AtHop is what a function made of a packet: see [Record.Before].
	AtHop
	// AtEgress is on the way out of a port, next hop's addresses written, or to
	// the kernel's stack (Verdict says which).
	AtEgress
	// AtDrop is where a packet was dropped, by a function or the engine.
	AtDrop

	numPoints
)

// Record is a packet seen at a point. It has no pointers but its bytes, which
// are the probe's: both are valid until the visit ends.
type Record struct {
	// TimeNs is the packet's arrival at AtIngress, elsewhere the time of its
	// burst's run; CLOCK_MONOTONIC.
	TimeNs uint64
	// TookNs is how long the function ran, all packets of the run together, of
	// which there were Burst; at AtEgress and AtDrop how long it is since the
	// packet arrived.
	TookNs uint64
	// Seq and InPort tell one packet from another: see packet.Meta.
	Seq    uint32
	InPort uint16
	// Slot is the packet's flow, Bucket the flow's bucket; packet.NoSlot: none.
	Slot   uint32
	Bucket uint16

	Worker uint16
	Chain  uint16
	Path   uint16
	Point  Point
	// Hop is the index of the function in the chain that decided;
	// packet.HopEngine when none did.
	Hop     uint8
	Verdict packet.Verdict
	// Fault says that Reason is a packet.Reason although a function decided:
	// it is what the function did wrong.
	Fault  bool
	Burst  uint16
	Reason uint16
	// OutPort is the egress port at AtHop (as far as it is decided) and
	// AtEgress.
	OutPort uint16
	// Len is the length of the frame, at AtHop after the function.
	Len uint16
	// BeforeLen is that before the function, at AtHop.
	BeforeLen uint16
	// Data is the beginning of the frame. Before is that before the function,
	// at AtHop.
	Data, Before []byte
}

// records passes records from a worker to whoever reads them: a ring of fixed
// size that is written and read in place.
type records struct {
	slots []Record
	room  [][]byte // of each slot's bytes: two snaps
	mask  uint32
	snap  int

	_    [64]byte // the sides do not share a cache line
	head atomic.Uint32
	lost atomic.Uint64 // records that found no room
	seen atomic.Uint64 // packets that the filter chose, full or not
	_    [64]byte
	tail atomic.Uint32
	_    [64]byte
}

func (r *records) setUp(slots, snap int) {
	r.slots, r.room, r.mask, r.snap = make([]Record, slots), make([][]byte, slots), uint32(slots-1), snap
	all := make([]byte, 2*slots*snap)
	for i := range r.room {
		r.room[i] = all[2*i*snap:][: 2*snap : 2*snap]
	}
}

// reserve returns a record to write, or nil when the ring is full. commit gives
// it to the reader.
func (r *records) reserve() *Record {
	h := r.head.Load()
	if h-r.tail.Load() > r.mask {
		r.lost.Store(r.lost.Load() + 1) // only the worker writes it
		return nil
	}
	return &r.slots[h&r.mask]
}

func (r *records) commit() { r.head.Store(r.head.Load() + 1) }

// put copies the beginnings of frames into the record that was reserved.
func (r *records) put(rec *Record, data, before []byte) {
	room := r.room[r.head.Load()&r.mask]
	n := copy(room[:r.snap], data)
	m := copy(room[r.snap:], before)
	rec.Data, rec.Before = room[:n], room[r.snap:][:m]
}

// visit calls f with every record that waits, in order, and returns how many.
func (r *records) visit(f func(*Record)) int {
	t, n := r.tail.Load(), 0
	for ; t != r.head.Load(); n++ {
		f(&r.slots[t&r.mask])
		t++
		r.tail.Store(t)
	}
	return n
}
