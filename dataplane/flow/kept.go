package flow

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
)

// What a table keeps in Options.Memory, and in which order it is written.
//
// A process may be killed between any two stores, and [Restore] has to make of
// its memory a table in which every flow is one that there was. So each fact
// there has one store that makes it so, after all that belongs to it is
// written, and that takes it back before any of it is overwritten:
//
//   - a flow is there by its entry's kind, written last by enter; end and
//     Extract write it first;
//   - a binding is there by its hash, which fits no other key; write and erase
//     do that.
//
// Where the next free slot is, what a list or the index holds: none of that is
// believed. Index, ownership buckets and their lists are not even kept.
//
// Stores reach memory in the order of the machine's instructions, however the
// process ends: who was killed has either executed one or not. Go's compiler
// keeps the order of stores to memory that it cannot see through; those that
// make a fact come after a call, or are atomic. TestKilledBetweenAnyTwo goes
// through a table's work instruction by instruction.

// ErrNoTable means that memory holds no table such as is asked for.
var ErrNoTable = errors.New("memory holds no such flow table")

// Of [header].
const (
	magic   = 0x656c626174776f66 // "fowtable"
	version = 1
)

// header is what a table's memory begins with. magic is written last.
type header struct {
	magic    uint64
	version  uint32
	max      uint32 // slots
	bindings uint32
	holders  uint32
	// check tells the secret, which all hashes hang on, from others.
	check uint64
	// top and bindTop: slots and bindings from here on were never used. They
	// are raised before the first of them is.
	top, bindTop uint32
	_            [3]uint64
	count        Counters
}

// write makes the memory a table's.
func (h *header) write(o *Options) {
	*h = header{version: version, max: o.Max, bindings: o.Bindings, holders: o.holders(), check: checkOf(o.Key)}
	atomic.StoreUint64(&h.magic, magic)
}

// fits says whether the memory is a table of these options.
func (h *header) fits(o *Options) error {
	switch {
	case h.magic != magic:
		return fmt.Errorf("%w: no table was made there, or it was closed", ErrNoTable)
	case h.version != version:
		return fmt.Errorf("%w: layout %d, want %d", ErrNoTable, h.version, version)
	case h.max != o.Max || h.bindings != o.Bindings || h.holders != o.holders():
		return fmt.Errorf("%w: %d slots, %d bindings and %d holders, want %d, %d and %d", ErrNoTable,
			h.max, h.bindings, h.holders, o.Max, o.Bindings, o.holders())
	case h.check != checkOf(o.Key):
		return fmt.Errorf("%w: it was made with another secret", ErrNoTable)
	}
	return nil
}

// checkOf is a hash with the secret of what is nobody's tuple.
func checkOf(secret [2]uint64) uint64 {
	return packet.FlowHash64(secret, &packet.Info{Flags: packet.FlagIPv4})
}

// keptBytes is the size of what a table keeps.
func (o *Options) keptBytes() int {
	n := bytesFor[header](1) + bytesFor[entry](o.Max) + bytesFor[binding](o.Bindings)
	if h := o.holders(); h > 0 {
		n += bytesFor[steer.LedgerHead](1) + bytesFor[steer.Holder](h)
	}
	return n
}

// MemoryBytes returns how much Options.Memory a table of these options needs,
// in whole pages.
func MemoryBytes(opts Options) int {
	opts.withDefaults()
	page := os.Getpagesize()
	return (opts.keptBytes() + page - 1) / page * page
}

func (o *Options) checkMemory() error {
	if o.Memory == nil {
		return nil
	}
	if need := MemoryBytes(*o); len(o.Memory) < need {
		return fmt.Errorf("flow table: %d bytes of memory: %d are needed, see MemoryBytes", len(o.Memory), need)
	}
	if !lineAligned(o.Memory) {
		return errors.New("flow table: memory is not aligned to 64 bytes")
	}
	return nil
}
