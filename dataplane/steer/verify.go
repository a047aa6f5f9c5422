package steer

import (
	"errors"
	"fmt"
)

// ErrPinsCorrupt means that a table contradicts itself.
var ErrPinsCorrupt = errors.New("pin table is corrupt")

// Verify checks the whole table, while nobody uses it: locks are free, every
// key lies once and within reach of its home, and the counts add up. It returns
// how many entries there are, of all shares.
func (p *Pins) Verify() (entries int, err error) {
	spill := make([]uint32, len(p.buckets))
	for i := range p.buckets {
		b := &p.buckets[i]
		if b.lock.Load() != 0 {
			return 0, fmt.Errorf("%w: bucket %d is locked", ErrPinsCorrupt, i)
		}
		for k := range b.e {
			e := &b.e[k]
			key, used := e.key.Load(), e.gen.Load()&1 == 1
			if (key != 0) != used {
				return 0, fmt.Errorf("%w: bucket %d entry %d: key %#x, in use: %v", ErrPinsCorrupt, i, k, key, used)
			}
			if !used {
				continue
			}
			home := p.home(key)
			far := uint64(i) - home
			if e.refs.Load() == 0 || far > pinReach {
				return 0, fmt.Errorf("%w: key %#x in bucket %d, home %d: held by %d", ErrPinsCorrupt, key, i, home, e.refs.Load())
			}
			for d := range far {
				spill[home+d]++
			}
			if _, ok := p.Lookup(key); !ok {
				return 0, fmt.Errorf("%w: key %#x in bucket %d is not found", ErrPinsCorrupt, key, i)
			}
			if at, _ := p.find(home, key); at != e {
				return 0, fmt.Errorf("%w: key %#x is there twice", ErrPinsCorrupt, key)
			}
			entries++
		}
	}
	for i, n := range spill {
		if have := p.buckets[i].spill.Load(); have != n {
			return 0, fmt.Errorf("%w: bucket %d: %d entries spilled, counted %d", ErrPinsCorrupt, i, n, have)
		}
	}
	return entries, nil
}
