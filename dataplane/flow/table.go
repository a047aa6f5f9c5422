package flow

import (
	"errors"

	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
)

// NoSlot stands for a packet that has no flow.
const NoSlot = 0xffffffff

// Table is the flow table of one service path on one worker.
//
// Owner: that worker. Not safe for concurrent use.
type Table struct {
	// Hot: used for every packet.
	entries  []entry // by slot
	idx      index
	timeouts [numKinds]int32
	refs     [packet.BurstSize]uint32 // scratch of Lookup
	touched  uint64                   // keeps the compiler from dropping loads

	// Used when flows come and go.
	bindings  []binding
	links     []link   // by slot: the flows of an ownership bucket
	heads     []uint32 // by ownership bucket: ref of its first flow, 0: none
	opening   list
	closed    list
	endedList list // oldest first, for Drain
	// leavingList are the flows that Extract took, until Leave.
	leavingList list
	spare       uint32 // ref of the free slot that was used last, linked by next
	bindSpare   uint32 // number of the free binding that was used last, plus 1
	top         uint32 // slots from here on were never used
	bindTop     uint32
	live        uint32
	pending     uint32 // ended and not drained
	reserve     uint32
	hand        uint32 // where eviction looks next
	floor       int32  // ms
	count       *Counters

	shut bool // see Shut

	// Used by Age.
	sweepAt uint32 // slot to look at next
	sweepNs uint64
	agedNs  uint64
	credit  uint64 // slots due to be looked at, times sweepNs

	// What flows hold outside the table.
	ledger       *steer.Ledger // nil: nothing
	pins, claims *steer.Pins   // nil: none
	chain        uint16
	serial       uint32 // of the flow made last

	secret [2]uint64
	mem    *memory
	head   *header
}

// entry is a slot's flow: one cache line.
type entry struct {
	key  key
	hash uint32
	seen uint32 // time of the last packet in ms, modulo 2^32
	bind uint32 // number of its first binding, plus 1
	// prev and next are refs of neighbours in the list that the state calls
	// for, 0: none.
	prev, next uint32
	cookie     uint16
	kind       kind
	bits       uint8
}

// binding is a secondary key of a flow.
type binding struct {
	key  key
	hash uint64
	slot uint32 // NoSlot: free
	next uint32 // number plus 1 of the flow's next binding, or of the next free one
	swap uint8  // a packet of the flow's direction has the key's higher end as its source
	_    [7]byte
}

// link connects the flows of an ownership bucket by refs. prev of the first
// is firstOf | bucket.
type link struct{ prev, next uint32 }

const firstOf = 1 << 31

// A ref is what the index holds, in [1, Max] slot+1, above that Max+1 and the
// number of a binding; 0 is nothing.
func (t *Table) slots() uint32 { return uint32(len(t.entries)) }

// hashOf returns the hash a ref was inserted with.
func (t *Table) hashOf(ref uint32) uint32 {
	if ref <= t.slots() {
		return t.entries[ref-1].hash
	}
	return uint32(t.bindings[ref-1-t.slots()].hash)
}

// New maps and returns an empty table. Nothing is allocated after that. Close
// gives the memory back.
func New(opts Options) (*Table, error) {
	t, err := newTable(&opts)
	if err != nil {
		return nil, err
	}
	if t.head.magic != 0 {
		return nil, errors.Join(errors.New("flow table: there is a table in the memory: restore it, or clear the memory"), t.Detach())
	}
	t.head.write(&opts)
	if t.ledger != nil {
		t.ledger.Head.Room = opts.Bindings
	}
	return t, nil
}

// newTable maps a table as it is in the memory, which nothing has been read of.
func newTable(opts *Options) (*Table, error) {
	opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	buckets := bucketsFor(uint64(opts.Max) + uint64(opts.Bindings))
	own := opts.ownBytes()
	if opts.Memory == nil {
		own += opts.keptBytes()
	}
	mem, err := mapMemory(own, opts.Sparse)
	if err != nil {
		return nil, err
	}
	kept := mem
	if opts.Memory != nil {
		kept = &memory{free: opts.Memory}
	}
	t := &Table{
		mem:      mem,
		head:     &take[header](kept, 1)[0],
		entries:  take[entry](kept, opts.Max),
		idx:      newIndex(take[bucket](mem, buckets)),
		bindings: take[binding](kept, opts.Bindings),
		links:    take[link](mem, opts.Max),
		heads:    take[uint32](mem, opts.Buckets),
		timeouts: opts.timeouts(),
		reserve:  min(packet.BurstSize, opts.Max/4),
		floor:    ms(opts.IdleFloor),
		sweepNs:  uint64(opts.Sweep),
		secret:   opts.Key,
		pins:     opts.Pins,
		claims:   opts.Claims,
		chain:    opts.Chain,
	}
	t.count = &t.head.count
	if n := opts.holders(); n > 0 {
		t.ledger = &steer.Ledger{Head: &take[steer.LedgerHead](kept, 1)[0], Flows: take[steer.Holder](kept, n)}
	}
	return t, nil
}

// Close gives the table's memory back, and what its flows hold outside. The
// table must not be used afterwards, except for Close, Detach and Counters. In
// memory of the caller's it is no table any more: to use it for another, clear
// it.
func (t *Table) Close() error {
	t.giveBackAll()
	t.head.magic = 0
	return t.Detach()
}

// Detach gives back what memory the table has besides Options.Memory, and
// leaves that as it is, with all that its flows hold outside: [Restore] goes on
// from there. Without Options.Memory nothing is left. The table must not be used
// afterwards, except for Close, Detach and Counters.
func (t *Table) Detach() error {
	count := *t.count
	t.count, t.head = &count, new(header)
	t.ledger, t.top, t.leavingList = nil, 0, list{}
	t.entries, t.bindings, t.links, t.heads, t.idx.buckets = nil, nil, nil, nil, nil
	return t.mem.unmap()
}

// ownBytes is the size of what a table makes anew when it is restored.
func (o *Options) ownBytes() int {
	buckets := bucketsFor(uint64(o.Max) + uint64(o.Bindings))
	return bytesFor[bucket](buckets) + bytesFor[link](o.Max) + bytesFor[uint32](o.Buckets)
}

// TableBytes returns what [Table.Bytes] of a table of these options is, Memory
// included: all that it may come to fill, however little a sparse one has yet.
func TableBytes(opts Options) int {
	opts.withDefaults()
	return opts.keptBytes() + opts.ownBytes()
}

// Bytes returns the size of the table's memory in bytes.
func (t *Table) Bytes() int {
	return bytesFor[header](1) + bytesFor[entry](t.slots()) + bytesFor[bucket](uint32(len(t.idx.buckets))) +
		bytesFor[binding](uint32(len(t.bindings))) + bytesFor[link](t.slots()) + bytesFor[uint32](uint32(len(t.heads))) +
		t.ledgerBytes()
}

// Max returns the number of slots.
func (t *Table) Max() uint32 { return t.slots() }

// Live returns the number of flows.
func (t *Table) Live() uint32 { return t.live }

// Pending returns how many slots wait for Drain.
func (t *Table) Pending() uint32 { return t.pending }

// Flow is what Describe tells of a flow.
type Flow struct {
	// Tuple is that of the flow's first packet.
	Tuple Tuple
	State State
	Class Class
	// SeenMs is the time of the last packet in ms, modulo 2^32.
	SeenMs uint32
	// Bound are the secondary keys in the same direction, N of them.
	Bound [MaxBindings]Tuple
	N     int
}

// Describe tells of the flow in a slot; ok is false when there is none.
func (t *Table) Describe(slot uint32) (f Flow, ok bool) {
	if slot >= t.top || !t.entries[slot].kind.live() {
		return f, false
	}
	e := &t.entries[slot]
	f = Flow{Tuple: e.key.tuple(e.bits & startSwap), State: e.kind.state(), Class: e.kind.class(), SeenMs: e.seen}
	for n := e.bind; n != 0; n = t.bindings[n-1].next {
		b := &t.bindings[n-1]
		f.Bound[f.N] = b.key.tuple(b.swap)
		f.N++
	}
	return f, true
}
