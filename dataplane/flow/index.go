package flow

import "math/bits"

// index finds keys by their hash. Every key may be in one of two buckets of
// eight; it is in the second only if the first had no room.
type index struct {
	buckets []bucket // len is a power of two, at least 2
	mask    uint32
	shift   uint8
}

// bucket is one cache line: eight tags and what they stand for.
type bucket struct {
	// tags are 16 bits of each key's hash, 0 where the place is free: place
	// i is in bits 16*(i%4) of word i/4.
	tags [2]uint64
	refs [8]uint32
	// spill counts the keys whose first bucket this is and that are in
	// their second: while it is 0, nobody need look there.
	spill uint32
	_     [3]uint32
}

// buckets in use are at most three quarters full.
const maxLoad = bucketSize * 3 / 4

const bucketSize = 8

// bucketsFor returns how many buckets n keys need.
func bucketsFor(n uint64) uint32 {
	return uint32(1) << max(bits.Len64((n+maxLoad-1)/maxLoad-1), 1)
}

func newIndex(buckets []bucket) index {
	n := uint32(len(buckets))
	return index{buckets: buckets, mask: n - 1, shift: uint8(64 - bits.Len32(n-1))}
}

// place returns a hash's first bucket and tag. The low bits of the hash say
// who owns the flow, so a worker sees only some of them: the multiplication
// makes every bit count.
func (x *index) place(hash uint32) (b uint32, tag uint64) {
	h := uint64(hash) * 0x9e3779b97f4a7c15
	return uint32(h>>(x.shift&63)) & x.mask, h>>16&0xffff | 1
}

// other returns the other bucket of a tag that may be in b.
func (x *index) other(b uint32, tag uint64) uint32 {
	return b ^ (uint32(tag)*0x5bd1e995>>8|1)&x.mask
}

const (
	lanes   = 0x0001_0001_0001_0001
	laneTop = 0x8000_8000_8000_8000
)

// match returns a set of places whose tags may equal tag: the first is one for
// sure, further ones nearly. Walk it with nextPlace.
func (k *bucket) match(tag uint64) uint64 {
	t := tag * lanes
	x, y := k.tags[0]^t, k.tags[1]^t
	return ((x-lanes)&^x&laneTop)>>15 | ((y-lanes)&^y&laneTop)>>14
}

// firstPlace returns the lowest place of a set that is not empty.
func firstPlace(set uint64) uint32 {
	at := uint32(bits.TrailingZeros64(set))
	return at>>4&3 | at&1<<2
}

// free returns a free place; ok is false when there is none.
func (k *bucket) free() (place uint32, ok bool) {
	set := k.match(0)
	if set == 0 {
		return 0, false
	}
	return firstPlace(set), true
}

func (k *bucket) tag(place uint32) uint64 { return k.tags[place/4&1] >> (place % 4 * 16) & 0xffff }

// set writes a place; tag 0 frees it.
func (k *bucket) set(place uint32, tag uint64, ref uint32) {
	w, at := &k.tags[place/4&1], place%4*16
	*w = *w&^(0xffff<<at) | tag<<at
	k.refs[place&7] = ref
}

// insert adds a reference by its hash; false means that there is no room,
// which with buckets three quarters full is next to impossible. hashOf tells
// the hash of a reference in the index.
func (x *index) insert(hash, ref uint32, t *Table) bool {
	b, tag := x.place(hash)
	first := &x.buckets[b]
	if p, ok := first.free(); ok {
		first.set(p, tag, ref)
		return true
	}
	second := &x.buckets[x.other(b, tag)]
	if p, ok := second.free(); ok {
		second.set(p, tag, ref)
		first.spill++
		return true
	}
	if p, ok := x.makeRoom(b, t); ok {
		first.set(p, tag, ref)
		return true
	}
	if p, ok := x.makeRoom(x.other(b, tag), t); ok {
		second.set(p, tag, ref)
		first.spill++
		return true
	}
	return false
}

// makeRoom moves one reference of the full bucket b to its other bucket, and
// returns its place.
func (x *index) makeRoom(b uint32, t *Table) (place uint32, ok bool) {
	from := &x.buckets[b]
	for place := range uint32(bucketSize) {
		tag := from.tag(place)
		o := x.other(b, tag)
		to := &x.buckets[o]
		p, ok := to.free()
		if !ok {
			continue
		}
		ref := from.refs[place]
		to.set(p, tag, ref)
		from.set(place, 0, 0)
		if home, _ := x.place(t.hashOf(ref)); home == b {
			from.spill++
		} else {
			to.spill--
		}
		return place, true
	}
	return 0, false
}

// remove takes out a reference that was inserted with hash.
func (x *index) remove(hash, ref uint32) {
	b, tag := x.place(hash)
	first := &x.buckets[b]
	if first.drop(ref) {
		return
	}
	if !x.buckets[x.other(b, tag)].drop(ref) {
		panic("flow: reference is not in the index")
	}
	first.spill--
}

// drop frees the place of a reference; false means that it is not here.
func (k *bucket) drop(ref uint32) bool {
	for p := range uint32(bucketSize) {
		if k.refs[p] == ref && k.tag(p) != 0 {
			k.set(p, 0, 0)
			return true
		}
	}
	return false
}
