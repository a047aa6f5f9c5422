package steer

// OpenPins is a table that another process made in mem, which it may have left
// while it wrote. What is there stays, so that the steering program, which
// reads it all the time, still finds it; but nobody holds any of it. So:
//
//  1. everybody who has an entry says so, with Insert or Add, or with Hold when
//     the value is not known. Of two who believe that a key is theirs, the value
//     says who is right;
//  2. Sweep frees what nobody asked for.
//
// dropped is how many entries were not whole.
func OpenPins(mem []byte) (p *Pins, dropped int, err error) {
	if p, err = pinsIn(mem); err != nil {
		return nil, 0, err
	}
	spill := make([]uint32, len(p.buckets))
	for i := range p.buckets {
		b := &p.buckets[i]
		if b.lock.Load() != 0 {
			b.lock.Store(0)
		}
		for k := range b.e {
			e := &b.e[k]
			key := e.key.Load()
			switch {
			case e.gen.Load()&1 == 0:
				if key != 0 {
					e.key.Store(0)
				}
				continue
			case key == 0 || !p.sound(key, i, k):
				e.key.Store(0)
				e.gen.Add(1)
				dropped++
				continue
			}
			e.refs.Store(0)
			for at := p.home(key); at < uint64(i); at++ {
				spill[at]++
			}
		}
	}
	for i, n := range spill {
		if p.buckets[i].spill.Load() != n {
			p.buckets[i].spill.Store(n)
		}
	}
	return p, dropped, nil
}

// sound says whether a key may lie in a place: within reach of its home, and
// nowhere else before it, where those that lie are sound already.
func (p *Pins) sound(key uint64, bucket, place int) bool {
	home := p.home(key)
	if uint64(bucket)-home > pinReach {
		return false
	}
	for at := home; at <= uint64(bucket); at++ {
		e := p.buckets[at].e[:]
		if at == uint64(bucket) {
			e = e[:place]
		}
		for i := range e {
			if e[i].key.Load() == key {
				return false
			}
		}
	}
	return true
}

// Touch loads the homes of keys, so that the waits for them overlap when all of
// them are to be held. What it returns is of no use.
func (p *Pins) Touch(keys []uint64) (sum uint64) {
	for _, k := range keys {
		sum += p.buckets[p.home(k)].e[0].key.Load()
	}
	return sum
}

// Hold says that one more holds a key, whatever its value: false when the key is
// not there, or the share is used up.
func (p *Pins) Hold(key uint64) bool {
	key = nonZero(key)
	home := p.home(key)
	b := p.lock(home)
	e, _ := p.find(home, key)
	ok := e != nil && p.hold(e) == PinOK
	b.lock.Store(0)
	return ok
}

// hold is one more holder of an entry whose home is locked.
func (p *Pins) hold(e *pinEntry) PinStatus {
	switch e.refs.Load() {
	case ^uint32(0):
		return PinFull
	case 0: // see OpenPins
		if p.share.live.Add(1) > p.share.most {
			p.share.live.Add(^uint64(0))
			return PinFull
		}
	}
	e.refs.Add(1)
	return PinOK
}

// Sweep frees the entries that nobody holds, and returns how many there were.
// Only [OpenPins] makes any.
func (p *Pins) Sweep() (freed int) {
	for i := range p.buckets {
		for k := range p.buckets[i].e {
			e := &p.buckets[i].e[k]
			key := e.key.Load()
			if key == 0 || e.refs.Load() != 0 {
				continue
			}
			home := p.home(key)
			b := p.lock(home)
			if e.key.Load() == key && e.refs.Load() == 0 {
				e.key.Store(0)
				e.gen.Add(1)
				p.spill(home, uint64(i)-home, ^uint32(0))
				freed++
			}
			b.lock.Store(0)
		}
	}
	return freed
}
