package flow

import (
	"fmt"

	"sfc/dataplane/steer"
)

// Ledger returns what others need to know of the table's flows to give them
// something, and where functions' claims are entered; nil when the table was
// made with neither Bindings nor Claims. It is the table's memory: valid until
// Close.
func (t *Table) Ledger() *steer.Ledger { return t.ledger }

// BindRoom returns how many more secondary keys the table has room for.
func (t *Table) BindRoom() int { return len(t.bindings) - int(t.count.Bindings) }

// Claim notes that the flow in a slot holds a key of Options.Claims, until it
// ends: whoever inserted it there says so here. False when there is no flow in
// the slot, or it holds steer.MaxClaims others.
func (t *Table) Claim(slot uint32, key uint64) bool {
	if t.claims == nil || slot >= t.top || !t.entries[slot].kind.live() {
		return false
	}
	return t.ledger.Flows[slot].Claim(key)
}

// enroll opens the account of a new flow.
func (t *Table) enroll(slot uint32) {
	if t.ledger == nil {
		return
	}
	t.serial++
	hash := t.entries[slot].hash
	t.ledger.Flows[slot] = steer.Holder{Ident: steer.Ident(hash, t.serial), Bucket: steer.Bucket(hash)}
}

// strike closes the account of a flow that leaves the table.
func (t *Table) strike(slot uint32) {
	if t.ledger != nil {
		t.ledger.Flows[slot] = steer.Holder{}
	}
}

// giveBack releases what a flow holds outside of the table.
func (t *Table) giveBack(slot uint32) {
	if t.ledger == nil {
		return
	}
	for n := t.entries[slot].bind; n != 0; n = t.bindings[n-1].next {
		t.unpin(t.bindings[n-1].hash)
	}
	t.unclaim(&t.ledger.Flows[slot].Claims)
}

// giveBackAll is giveBack of every flow.
func (t *Table) giveBackAll() {
	if t.pins == nil && t.claims == nil {
		return
	}
	for slot := range t.top {
		if t.entries[slot].kind.live() {
			t.giveBack(slot)
		}
	}
}

// pin tells steering who owns the flow that a tuple belongs to.
func (t *Table) pin(slot uint32, hash uint64) steer.PinStatus {
	if t.pins == nil {
		return steer.PinOK
	}
	h := &t.ledger.Flows[slot]
	return t.pins.Add(steer.PinKey(hash, t.chain), steer.PinValue(h.Ident, t.chain, h.Bucket))
}

// unpin takes back what pin said.
func (t *Table) unpin(hash uint64) {
	if t.pins != nil {
		t.pins.Release(steer.PinKey(hash, t.chain))
	}
}

// unclaim releases keys that a flow holds.
func (t *Table) unclaim(keys *[steer.MaxClaims]uint64) {
	if t.claims == nil {
		return
	}
	for i, k := range keys {
		if k != 0 {
			t.claims.Release(k)
			keys[i] = 0
		}
	}
}

// note brings the ledger up to what the table has bound for a flow.
func (t *Table) note(slot uint32, binds int) {
	t.ledger.Head.Room = uint32(t.BindRoom())
	h := &t.ledger.Flows[slot]
	h.Binds = uint8(int(h.Binds) + binds)
}

// ledgerBytes is the size of the ledger's memory.
func (t *Table) ledgerBytes() int {
	if t.ledger == nil {
		return 0
	}
	return bytesFor[steer.LedgerHead](1) + bytesFor[steer.Holder](uint32(len(t.ledger.Flows)))
}

// verifyLedger checks what flows hold outside of the table.
func (t *Table) verifyLedger() error {
	if t.ledger == nil {
		return nil
	}
	if int(t.ledger.Head.Room) != t.BindRoom() {
		return fmt.Errorf("ledger: room for %d bindings, counted %d", t.ledger.Head.Room, t.BindRoom())
	}
	for slot := range t.top {
		h := &t.ledger.Flows[slot]
		switch s := t.entries[slot].kind.state(); {
		case s == leaving:
			continue
		case s < Opening:
			if *h != (steer.Holder{}) {
				return fmt.Errorf("ledger: slot %d has no flow and holds %+v", slot, *h)
			}
			continue
		}
		if h.Ident&steer.IdentBit == 0 || h.Bucket != steer.Bucket(t.entries[slot].hash) {
			return fmt.Errorf("ledger: flow in slot %d: %+v", slot, *h)
		}
		if err := t.verifyHolder(slot, h); err != nil {
			return err
		}
	}
	return nil
}

// verifyHolder checks that what a flow holds is there.
func (t *Table) verifyHolder(slot uint32, h *steer.Holder) error {
	binds := uint8(0)
	for n := t.entries[slot].bind; n != 0; n = t.bindings[n-1].next {
		binds++
		if t.pins == nil {
			continue
		}
		want := steer.PinValue(h.Ident, t.chain, h.Bucket)
		if v, ok := t.pins.Lookup(steer.PinKey(t.bindings[n-1].hash, t.chain)); !ok || v != want {
			return fmt.Errorf("ledger: a tuple of slot %d is pinned to %#x (%v), want %#x", slot, v, ok, want)
		}
	}
	if binds != h.Binds {
		return fmt.Errorf("ledger: slot %d has %d bindings, counted %d", slot, binds, h.Binds)
	}
	for _, k := range h.Claims {
		if k == 0 {
			continue
		}
		if _, ok := t.claims.Lookup(k); !ok {
			return fmt.Errorf("ledger: slot %d holds key %#x, which is nobody's", slot, k)
		}
	}
	return nil
}
