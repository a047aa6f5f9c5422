package steer

// MaxClaims is how many keys of a table of claims a flow may hold, and
// MaxBinds how many tuples it may have besides its own.
const (
	MaxClaims = 2
	MaxBinds  = 2
)

// IdentBit is set in the Ident of every flow.
const IdentBit = 1 << 31

// HolderSize is the size in bytes of a [Holder].
const HolderSize = 24

// Ledger says what each flow of one table holds in [Pins], by slot. The flow
// table keeps it; functions' imports, in C, look into it to know what they
// may give a flow, and enter claims. So whatever a function did before it was
// stopped is known to the table, and given back when the flow ends.
//
// Owner: the worker, whose thread runs both. Not safe for concurrent use.
type Ledger struct {
	Head *LedgerHead
	// Flows is indexed by slot.
	Flows []Holder
}

// LedgerHead is what holds for all flows of a table: struct sfc_ledger_head of
// nf/wasm/pins.h.
type LedgerHead struct {
	// Room is how many more tuples the table can take.
	Room uint32
	_    [15]uint32
}

// Holder is a flow as far as others give it something: struct sfc_holder of
// nf/wasm/pins.h.
type Holder struct {
	// Ident tells the flow from others of the same bucket, also those that
	// come from another table. 0: the slot has no flow.
	Ident uint32
	// Bucket is the flow's ownership bucket.
	Bucket uint16
	// Binds counts the tuples that the table has for the flow, Pending those
	// that functions asked for during the burst under way.
	Binds, Pending uint8
	// Claims are the keys it holds, 0: none.
	Claims [MaxClaims]uint64
}

// NewLedger makes a ledger of the Go heap.
func NewLedger(slots int) *Ledger {
	return &Ledger{Head: new(LedgerHead), Flows: make([]Holder, slots)}
}

// Ident makes a flow's Ident of its hash and a number that its table gives
// each flow anew.
func Ident(hash uint32, serial uint32) uint32 {
	return uint32((uint64(hash)<<32|uint64(serial))*0x9e3779b97f4a7c15>>32) | IdentBit
}

// Claim notes that the flow holds a key; false when it holds MaxClaims others.
func (h *Holder) Claim(key uint64) bool {
	free := -1
	for i, k := range h.Claims {
		switch k {
		case key:
			return true
		case 0:
			free = i
		}
	}
	if free < 0 {
		return false
	}
	h.Claims[free] = key
	return true
}
