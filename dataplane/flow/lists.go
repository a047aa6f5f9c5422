package flow

// list is a queue of slots, linked through their entries by refs.
type list struct {
	first, last uint32 // refs, 0: none
	n           uint32
}

// push appends a slot.
func (l *list) push(entries []entry, slot uint32) {
	e := &entries[slot]
	e.prev, e.next = l.last, 0
	if l.last != 0 {
		entries[l.last-1].next = slot + 1
	} else {
		l.first = slot + 1
	}
	l.last = slot + 1
	l.n++
}

// unlink takes a slot out.
func (l *list) unlink(entries []entry, slot uint32) {
	e := &entries[slot]
	if e.prev != 0 {
		entries[e.prev-1].next = e.next
	} else {
		l.first = e.next
	}
	if e.next != 0 {
		entries[e.next-1].prev = e.prev
	} else {
		l.last = e.prev
	}
	e.prev, e.next = 0, 0
	l.n--
}

// listOf returns the list that slots of a state are in, nil when in none.
func (t *Table) listOf(s State) *list {
	switch s {
	case ended:
		return &t.endedList
	case leaving:
		return &t.leavingList
	case Opening:
		return &t.opening
	case Closed, Reset:
		return &t.closed
	case unused, Open, Closing:
	}
	return nil
}

// enter brings a slot into a state, and the lists up to it.
func (t *Table) enter(slot uint32, s State) {
	e := &t.entries[slot]
	if l := t.listOf(e.kind.state()); l != nil {
		l.unlink(t.entries, slot)
	}
	k := makeKind(e.kind.class(), s)
	if s == leaving {
		k |= kind(e.kind.state()) << kindWas
	}
	e.kind = k
	if l := t.listOf(s); l != nil {
		l.push(t.entries, slot)
	}
}

// linkBucket adds a slot to its ownership bucket.
func (t *Table) linkBucket(slot, owner uint32) {
	b := owner & uint32(len(t.heads)-1)
	head := &t.heads[b]
	t.links[slot] = link{prev: firstOf | b, next: *head}
	if *head != 0 {
		t.links[*head-1].prev = slot + 1
	}
	*head = slot + 1
}

// unlinkBucket takes a slot out of its ownership bucket.
func (t *Table) unlinkBucket(slot uint32) {
	l := t.links[slot]
	if l.prev&firstOf != 0 {
		t.heads[l.prev&^firstOf] = l.next
	} else {
		t.links[l.prev-1].next = l.next
	}
	if l.next != 0 {
		t.links[l.next-1].prev = l.prev
	}
	t.links[slot] = link{}
}

// append moves the slots of another list to the end of this one.
func (l *list) append(entries []entry, o *list) {
	switch {
	case o.first == 0:
		return
	case l.first == 0:
		*l = *o
	default:
		entries[l.last-1].next, entries[o.first-1].prev = o.first, l.last
		l.last, l.n = o.last, l.n+o.n
	}
	*o = list{}
}
