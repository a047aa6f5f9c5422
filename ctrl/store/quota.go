package store

import "fmt"

// Limits bound what a space may hold. 0 means no limit.
type Limits struct {
	// Bytes on disk: keys, values and modules, with what the store adds to each
	// (some 100 bytes).
	Bytes int64
	// Objects is the number of keys and modules, in all buckets that are open.
	Objects int
}

// Usage is what a space holds.
type Usage struct {
	Bytes   int64
	Objects int
}

// Limits returns what the space may hold.
func (sp *Space) Limits() Limits {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return sp.limits
}

// SetLimits changes what the space may hold. What it holds beyond stays, but
// nothing is added.
func (sp *Space) SetLimits(l Limits) error {
	if l.Bytes < 0 || l.Objects < 0 {
		return fmt.Errorf("limits of %s: %d bytes, %d objects: they must not be negative", sp.name, l.Bytes, l.Objects)
	}
	if err := sp.store.engine.add(sp.account, l.Bytes); err != nil {
		return err
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.limits = l
	return nil
}

// Usage returns what the space holds.
func (sp *Space) Usage() Usage {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return Usage{Bytes: sp.used(), Objects: sp.objects}
}

// used returns the bytes on disk, without the markers of deletions: who deletes
// has room then. The lock is held.
func (sp *Space) used() int64 {
	used := sp.store.engine.used(sp.account)
	for _, b := range sp.buckets {
		_, markers := b.cache.markers()
		used -= markers
	}
	return max(0, used)
}

// admit says whether size more bytes may be written. Writes under way at the
// same time do not see each other: a space may end up beyond its limit by what
// they write together, which is bounded by MaxValue for each.
func (sp *Space) admit(size int64) error {
	if err := sp.store.disk.check(size); err != nil {
		return err
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.closed {
		return ErrClosed
	}
	if limit := sp.limits.Bytes; limit > 0 && size > 0 {
		if used := sp.used(); used+size > limit {
			return &QuotaError{Space: sp.name, Resource: "bytes", Used: used, Add: size, Limit: limit}
		}
	}
	return nil
}

// claim is the count of an object that is being made, by n at once.
type claim struct {
	n    int
	made bool // count has heard of it
}

// claim counts an object that is about to be made, so that many at once cannot
// pass the limit; those who make the same one share the claim. The caller
// releases it when it is made or not.
func (sp *Space) claim(object string) (release func(), err error) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	c := sp.claims[object]
	if c == nil {
		if l := sp.limits.Objects; l > 0 && sp.objects >= l {
			return nil, &QuotaError{Space: sp.name, Resource: "objects", Used: int64(sp.objects), Add: 1, Limit: int64(l)}
		}
		c = &claim{}
		sp.claims[object] = c
		sp.objects++
	}
	c.n++
	return func() {
		sp.mu.Lock()
		defer sp.mu.Unlock()
		if c.n--; c.n > 0 {
			return
		}
		delete(sp.claims, object)
		if !c.made {
			sp.objects--
		}
	}, nil
}

// count takes in that an object has come (1) or gone (-1).
func (sp *Space) count(object string, change int) {
	if change == 0 {
		return
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if c := sp.claims[object]; change > 0 && c != nil && !c.made {
		c.made = true // counted when it was claimed
		return
	}
	sp.objects += change
}
