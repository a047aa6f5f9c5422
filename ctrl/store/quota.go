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
	return Usage{Bytes: sp.store.engine.used(sp.account), Objects: sp.objects}
}

// admit says whether size more bytes may be written. Writes under way at the
// same time do not see each other: a space may end up beyond its limit by what
// they write together, which is bounded by MaxValue for each.
func (sp *Space) admit(size int64) error {
	if err := sp.store.disk.check(size); err != nil {
		return err
	}
	sp.mu.Lock()
	limit, closed := sp.limits.Bytes, sp.closed
	sp.mu.Unlock()
	if closed {
		return ErrClosed
	}
	if limit > 0 && size > 0 {
		if used := sp.store.engine.used(sp.account); used+size > limit {
			return &QuotaError{Space: sp.name, Resource: "bytes", Used: used, Add: size, Limit: limit}
		}
	}
	return nil
}

// claim counts an object that is about to be made, so that many at once cannot
// pass the limit. The caller releases it when it is made or not: one that was
// made was taken over by count.
func (sp *Space) claim(object string) (release func(), err error) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if l := sp.limits.Objects; l > 0 && sp.objects >= l {
		return nil, &QuotaError{Space: sp.name, Resource: "objects", Used: int64(sp.objects), Add: 1, Limit: int64(l)}
	}
	sp.objects++
	sp.claims[object]++
	return func() {
		sp.mu.Lock()
		defer sp.mu.Unlock()
		if sp.unclaim(object) {
			sp.objects--
		}
	}, nil
}

// unclaim ends one claim on an object, if there is one. The lock is held.
func (sp *Space) unclaim(object string) bool {
	n := sp.claims[object]
	switch n {
	case 0:
		return false
	case 1:
		delete(sp.claims, object)
	default:
		sp.claims[object] = n - 1
	}
	return true
}

// count takes in that an object has come (1) or gone (-1).
func (sp *Space) count(object string, change int) {
	if change == 0 {
		return
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if change > 0 && sp.unclaim(object) {
		return // counted when it was claimed
	}
	sp.objects += change
}
