package flow

import "sfc/dataplane/steer"

// Reconciled says what [Reconcile] did.
type Reconciled struct {
	// Moved flows were not in the table of their bucket's owner, or nowhere but
	// on their way there.
	Moved int
	// Arrived flows had come where they went; what was left of them where they
	// came from is gone.
	Arrived int
	// Refused flows found no room where they belong, or another flow with their
	// tuple: they are over.
	Refused int
}

// Reconcile brings every flow of a chain into the table where it belongs, after
// a process ended while some were on their way: each is in one table then.
// tables are those of all workers, each just restored or new; owner says which
// of them has the flows of a bucket. Tables beyond the workers there are now,
// whose flows go to others, are closed by the caller afterwards.
//
// carry is called for each flow that changes its slot: it puts what functions
// keep in slot of table from into the empty slot into of table to, and clears
// the former. When into is NoSlot, it only clears. What is left over in vacant
// slots is to be cleared before (see [Table.Vacant]).
//
// The process may be killed at any time here, too.
func Reconcile(tables []*Table, owner func(bucket uint16) int, carry func(from int, slot uint32, to int, into uint32)) (r Reconciled) {
	for from, t := range tables {
		for t.leavingList.first != 0 {
			slot := t.leavingList.first - 1
			to := owner(steer.Bucket(t.entries[slot].hash))
			if known(tables, &t.entries[slot]) {
				r.Arrived++
				carry(from, slot, to, NoSlot)
				t.leave(slot)
				continue
			}
			rec := t.resume(slot)
			r.count(settle(tables, &rec, from, to, carry))
		}
		for bucket := range uint32(len(t.heads)) {
			if len(t.heads) >= steer.Buckets && owner(steer.Bucket(bucket)) == from {
				continue
			}
			next := uint32(0)
			for slot := t.First(bucket); slot != NoSlot; slot = next {
				next = t.Next(slot)
				to := owner(steer.Bucket(t.entries[slot].hash))
				if to == from {
					continue
				}
				rec, _ := t.Extract(slot)
				r.count(settle(tables, &rec, from, to, carry))
			}
		}
	}
	return r
}

func (r *Reconciled) count(ok bool) {
	if ok {
		r.Moved++
	} else {
		r.Refused++
	}
}

// settle puts a flow that is leaving a table into its owner's.
func settle(tables []*Table, rec *Record, from, to int, carry func(from int, slot uint32, to int, into uint32)) bool {
	into := tables[to].Insert(rec)
	carry(from, rec.slot, to, into)
	if into != NoSlot {
		tables[to].Arrive(into)
	}
	tables[from].leave(rec.slot)
	return into != NoSlot
}

// known says whether a flow's tuple finds a flow in any table.
func known(tables []*Table, e *entry) bool {
	for _, t := range tables {
		if t.find(&e.key, e.hash) != 0 {
			return true
		}
	}
	return false
}

// resume is the record of a flow that was leaving when its process ended. What
// it held outside of tables it holds again, as far as that can be had.
func (t *Table) resume(slot uint32) Record {
	r := t.record(slot)
	r.kind, r.owns = makeKind(r.kind.class(), r.kind.was()), true
	t.holdClaims(&r.claims)
	kept := uint8(0)
	for i := range r.bound[:r.nbound] {
		if t.pin(slot, r.bound[i].hash) == steer.PinOK {
			r.bound[kept] = r.bound[i]
			kept++
		}
	}
	r.nbound = kept
	return r
}
