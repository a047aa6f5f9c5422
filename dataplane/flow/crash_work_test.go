package flow

import (
	"encoding/binary"

	"sfc/dataplane/steer"
)

// work is one random step. It says beforehand which flows it is about.
func (s *subject) work() func() {
	switch s.rng.IntN(10) {
	case 0:
		return s.workAge()
	case 1:
		return s.workMove()
	case 2:
		return s.workBind()
	case 3:
		return s.workClaim()
	case 4:
		s.touch(0)
		return s.drain
	default:
		return s.workPackets()
	}
}

// touch says what the next step is about.
func (s *subject) touch(flows uint64) { binary.LittleEndian.PutUint64(s.mem[atTouched:], flows) }

// workPackets is a burst of packets for one worker.
func (s *subject) workPackets() func() {
	s.now += s.rng.Uint32N(100)
	binary.LittleEndian.PutUint32(s.mem[atClock:], s.now)
	worker, n, flows := -1, 0, uint64(0)
	var which [4]uint32
	for range which {
		i := s.rng.Uint32N(subjectTuples)
		q := s.query(i, s.rng.IntN(2) == 0)
		if w := s.owner(steer.Bucket(q.hash)); worker < 0 || w == worker {
			worker, s.qs[n], which[n], flows = w, q, i, flows|1<<i
			n++
		}
	}
	s.touch(flows)
	return func() {
		s.tables[worker].Lookup(&s.qs, n, &s.out)
		for k := range n {
			if r := &s.out[k]; r.Status == Created { // the function meets a new flow
				gen := s.mem[atGen+8*which[k]:]
				binary.LittleEndian.PutUint32(gen, binary.LittleEndian.Uint32(gen)+1)
				binary.LittleEndian.PutUint64(s.state(worker, r.Slot), uint64(which[k]+1)<<32|uint64(binary.LittleEndian.Uint32(gen)))
			}
		}
	}
}

func (s *subject) drain() {
	for w, t := range s.tables {
		for n := t.Drain(s.slots[:]); n > 0; n = t.Drain(s.slots[:]) {
			for _, slot := range s.slots[:n] {
				clear(s.state(w, slot))
			}
		}
	}
}

// workAge lets time pass, which some flows do not survive.
func (s *subject) workAge() func() {
	s.now += s.rng.Uint32N(1500)
	binary.LittleEndian.PutUint32(s.mem[atClock:], s.now)
	flows := uint64(0)
	for i := range uint32(subjectTuples) {
		if w, slot, ok := s.find(i); ok && s.tables[w].expired(&s.tables[w].entries[slot], s.now) {
			flows |= 1 << i
		}
	}
	s.touch(flows)
	return func() {
		for _, t := range s.tables {
			t.agedNs = uint64(s.now)*1e6 - uint64(shortTimeouts.OtherOneWay)*10
			t.Age(uint64(s.now)*1e6, int(t.slots()))
		}
	}
}

// workMove gives the bucket of a flow to the other worker, as dataplane's
// workers do.
func (s *subject) workMove() func() {
	i := s.rng.Uint32N(subjectTuples)
	q := s.query(i, false)
	bucket := steer.Bucket(q.hash)
	from := s.owner(bucket)
	to := 1 - from
	s.touch(1 << i) // all tuples are in buckets of their own
	return func() {
		s.mem[atOwner+int(bucket)] = byte(to)
		for slot := s.tables[from].First(uint32(bucket)); slot != NoSlot; slot = s.tables[from].First(uint32(bucket)) {
			r, _ := s.tables[from].Extract(slot)
			parcel := binary.LittleEndian.Uint64(s.state(from, slot))
			into := s.tables[to].Insert(&r)
			for n := s.tables[to].Drain(s.slots[:]); n > 0; n = s.tables[to].Drain(s.slots[:]) {
				for _, slot := range s.slots[:n] {
					clear(s.state(to, slot))
				}
			}
			if into != NoSlot {
				binary.LittleEndian.PutUint64(s.state(to, into), parcel)
				s.tables[to].Arrive(into)
			}
			s.tables[from].Leave(&r)
			clear(s.state(from, slot))
		}
	}
}

// workBind gives a flow a further tuple, half of the time as the imports of
// functions do: steering first.
func (s *subject) workBind() func() {
	i, j := s.rng.Uint32N(subjectTuples), s.rng.Uint32N(subjectBound)
	w, slot, ok := s.find(i)
	s.touch(1 << i)
	if !ok {
		return func() {}
	}
	t, tuple := s.tables[w], boundTuple(i, j)
	if s.rng.IntN(2) == 0 {
		return func() { t.Bind(slot, &tuple) }
	}
	k, _, _ := tuple.normalise()
	key := steer.PinKey(k.hash64(secret), t.chain)
	var raw [TupleSize]byte
	copy(raw[:], AppendTuple(nil, &tuple))
	h := &t.ledger.Flows[slot]
	if h.Binds >= MaxBindings || t.BindRoom() == 0 {
		return func() {}
	}
	return func() {
		if s.pins.Add(key, steer.PinValue(h.Ident, t.chain, h.Bucket)) == steer.PinOK {
			h.Pending++
			t.Adopt(slot, h.Ident, &raw)
		}
	}
}

// workClaim lets a flow claim a key for itself.
func (s *subject) workClaim() func() {
	i, j := s.rng.Uint32N(subjectTuples), s.rng.Uint32N(subjectBound)
	w, slot, ok := s.find(i)
	s.touch(1 << i)
	if !ok {
		return func() {}
	}
	t, key := s.tables[w], claimKey(j)
	if t.ledger.Flows[slot].Claims[0] != 0 && t.ledger.Flows[slot].Claims[1] != 0 {
		return func() {}
	}
	return func() {
		if s.claims.Add(key, uint64(i)+1) == steer.PinOK {
			t.Claim(slot, key)
		}
	}
}
