package flow

import "sfc/dataplane/steer"

// restoreBindings gives flows their bindings back, and the others to those that
// are free.
func (t *Table) restoreBindings(r *Restored) {
	for first := uint32(0); first < t.bindTop; first += restoreStage {
		stage := t.bindings[first:min(first+restoreStage, t.bindTop)]
		sum, x := t.touched, t.idx
		for i := range stage {
			b, _ := x.place(uint32(stage[i].hash))
			sum += x.buckets[b].tags[0]
		}
		t.touched = sum
		for i := range stage {
			b, n := &stage[i], first+uint32(i)+1
			switch {
			case b.hash == 0:
				t.freeBinding(n)
			case !t.restoreBinding(b, n):
				t.freeBinding(n)
				r.LostBinds++
			default:
				t.count.Bindings++
			}
		}
	}
	r.Bindings = int(t.count.Bindings)
}

// restoreBinding gives a flow its binding number n - 1; false when it is none.
func (t *Table) restoreBinding(b *binding, n uint32) bool {
	if b.slot >= t.top || b.swap > 1 || !b.key.plausible() || b.hash != b.key.hash64(t.secret) {
		return false
	}
	e := &t.entries[b.slot]
	s := e.kind.state()
	if s < leaving || e.bind != 0 && t.bindings[e.bind-1].next != 0 {
		return false
	}
	if s != leaving && (t.find(&b.key, uint32(b.hash)) != 0 || !t.idx.insert(uint32(b.hash), t.slots()+n, t)) {
		return false
	}
	b.next, e.bind = e.bind, n
	return true
}

// restoreHolders enters what flows hold outside of the table, as far as that
// can be had.
func (t *Table) restoreHolders(r *Restored) {
	if t.ledger == nil {
		return
	}
	for first := uint32(0); first < t.top; first += restoreStage {
		end := min(first+restoreStage, t.top)
		t.touchHeld(first, end)
		for slot := first; slot < end; slot++ {
			h := &t.ledger.Flows[slot]
			switch s := t.entries[slot].kind.state(); {
			case s < leaving:
				if *h != (steer.Holder{}) {
					*h = steer.Holder{}
				}
			case s > leaving:
				t.restoreHolder(slot, h, r)
			default:
				t.mendHolder(slot, h)
			}
		}
	}
	t.ledger.Head.Room = uint32(t.BindRoom())
}

// touchHeld loads what flows hold outside of the table.
func (t *Table) touchHeld(first, end uint32) {
	var claims [restoreStage * steer.MaxClaims]uint64
	var pins [restoreStage * MaxBindings]uint64
	nc, np := 0, 0
	for slot := first; slot < end; slot++ {
		for _, k := range t.ledger.Flows[slot].Claims {
			claims[nc] = k
			nc++
		}
		for n := t.entries[slot].bind; n != 0; n = t.bindings[n-1].next {
			pins[np] = steer.PinKey(t.bindings[n-1].hash, t.chain)
			np++
		}
	}
	if t.claims != nil {
		t.touched += t.claims.Touch(claims[:nc])
	}
	if t.pins != nil {
		t.touched += t.pins.Touch(pins[:np])
	}
}

// mendHolder makes the account of a flow one that can be.
func (t *Table) mendHolder(slot uint32, h *steer.Holder) {
	e := &t.entries[slot]
	if h.Ident&steer.IdentBit == 0 {
		t.serial++
		h.Ident = steer.Ident(e.hash, t.serial)
	}
	h.Bucket, h.Binds, h.Pending = steer.Bucket(e.hash), 0, 0
	for n := e.bind; n != 0; n = t.bindings[n-1].next {
		h.Binds++
	}
}

// restoreHolder lets a flow hold what its account says.
func (t *Table) restoreHolder(slot uint32, h *steer.Holder, r *Restored) {
	t.mendHolder(slot, h)
	r.LostClaims += t.holdClaims(&h.Claims)
	e := &t.entries[slot]
	prev := &e.bind
	for n := *prev; n != 0; n = *prev {
		b := &t.bindings[n-1]
		if s := t.pin(slot, b.hash); s == steer.PinOK {
			prev = &b.next
			continue
		}
		t.idx.remove(uint32(b.hash), t.slots()+n)
		*prev = b.next
		t.freeBinding(n)
		t.count.Bindings--
		h.Binds--
		r.Bindings--
		r.LostBinds++
	}
}

// holdClaims enters claims again, and strikes those that nobody knows.
func (t *Table) holdClaims(keys *[steer.MaxClaims]uint64) (lost int) {
	for i, k := range keys {
		if k != 0 && (t.claims == nil || !t.claims.Hold(k)) {
			keys[i] = 0
			lost++
		}
	}
	return lost
}
