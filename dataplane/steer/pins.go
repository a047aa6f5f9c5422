package steer

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
)

// Geometry of [Pins]: a bucket is two cache lines, an entry may lie in its
// home bucket or one of the reach behind it. The last reach buckets are nobody's
// home.
const (
	pinBucketBytes = 128
	pinEntries     = 5
	pinReach       = 11
	minPinBuckets  = pinReach + 1
	pinPage        = 32 // buckets of 4 KiB
	maxPinBuckets  = 1 << 20
)

// PinStatus is the answer to [Pins.Insert] and [Pins.Add].
type PinStatus uint8

const (
	// PinOK: the key is there now, and one more holds it.
	PinOK PinStatus = iota
	// PinHeld: the key was there with this value already ([Pins.Add]).
	PinHeld
	// PinTaken: the key is there with another value.
	PinTaken
	// PinFull: no room near the key's home, or the share is used up.
	PinFull
)

// String returns the status's stable name.
func (s PinStatus) String() string {
	return [...]string{"ok", "held", "taken", "full"}[s&3]
}

// Pins is a hash table from 64-bit keys to 64-bit values with a count of
// those who hold each, in memory that the steering program, workers in Go and
// functions' imports in C share.
//
// Two tables are made of it. In the first a key is the hash of a tuple that
// belongs to a flow besides its own, and the value says which bucket owns the
// flow ([PinKey], [PinValue]): the steering program looks there first. The
// second holds what functions claim for their flows, such as the external
// address and port of a translation.
//
// Memory: any number of buckets, little-endian, as in struct sfc_pins of
// nf/wasm/pins.h and map pins of bpf/steer_maps.h:
//
//	u32 lock          held by a writer of a key whose home this is
//	u32 spill         entries that looked for a place here and lie further on
//	5 * entry
//	    u64 key       0: nothing to read here
//	    u64 value
//	    u32 refs      how many hold it; guarded by the lock of the key's home
//	    u32 gen       odd while the entry is in use, even while it is free
//
// The home of a key is the bucket (key >> 32) * homes >> 32, where homes is the
// number of buckets less the reach. Keys are hashes with a secret: whoever
// chooses what is hashed cannot choose where it goes.
//
// A writer takes the lock of the key's home, which covers the life of every
// entry with that home, wherever it lies. A place is taken by making gen odd,
// so that writers with other homes can want the same one. The key is written
// last and cleared first, and a reader, which takes no lock, sees by gen
// whether what it read belonged together. (The steering program reads the key
// again instead. It could be fooled by an entry that goes and comes back
// between two of its instructions; the packet would reach a worker that does
// not own its flow, which knows what to do with it.)
//
// Safe for concurrent use.
type Pins struct {
	buckets []pinBucket
	homes   uint64
	share   *pinShare
}

// pinBucket is a bucket, see [Pins].
type pinBucket struct {
	lock  atomic.Uint32
	spill atomic.Uint32
	e     [pinEntries]pinEntry
}

type pinEntry struct {
	key   atomic.Uint64
	value atomic.Uint64
	refs  atomic.Uint32
	gen   atomic.Uint32
}

// pinShare is the account of those who use a table together: struct
// sfc_pin_share of nf/wasm/pins.h.
type pinShare struct {
	live  atomic.Uint64 // entries made through it
	most  uint64        // it may have
	taken atomic.Uint64 // refusals
	full  atomic.Uint64
}

// PinsSize returns the bytes of memory for so many entries, whole pages. At that
// number 55 of 100 places are taken, and no key in a million finds none within
// reach. No table is larger than 128 MiB, 5.2 million places.
func PinsSize(entries int) int {
	buckets := min((entries*20/11+pinEntries-1)/pinEntries+pinReach, maxPinBuckets)
	return (buckets + pinPage - 1) / pinPage * pinPage * pinBucketBytes
}

// NewPins makes an empty table in mem, which is 8-byte aligned and has
// PinsSize(n) bytes for some n; what mem held before is gone. Its share is
// everything: see [Pins.Share].
func NewPins(mem []byte) (*Pins, error) {
	p, err := pinsIn(mem)
	if err != nil {
		return nil, err
	}
	clear(mem)
	return p, nil
}

// pinsIn is a table as it is in mem.
func pinsIn(mem []byte) (*Pins, error) {
	n := len(mem) / pinBucketBytes
	if n < minPinBuckets || n > maxPinBuckets || len(mem)%pinBucketBytes != 0 {
		return nil, fmt.Errorf("pins: %d bytes: want buckets of %d bytes, %d to %d of them, as PinsSize says", len(mem), pinBucketBytes, minPinBuckets, maxPinBuckets)
	}
	buckets, ok := pinBucketsOf(mem)
	if !ok {
		return nil, errors.New("pins: memory is not aligned to 8 bytes")
	}
	return &Pins{buckets: buckets, homes: uint64(n - pinReach), share: &pinShare{most: uint64(n * pinEntries)}}, nil
}

// Share returns the same table with an account of its own, for at most most
// entries at a time: one per chain, so that no tenant can fill the table for
// the others. What was inserted through a share is released through it.
func (p *Pins) Share(most int) *Pins {
	return &Pins{buckets: p.buckets, homes: p.homes, share: &pinShare{most: uint64(max(most, 0))}}
}

// PinKey is the key of a tuple of a chain; hash is its
// [sfc/dataplane/packet.FlowHash64].
func PinKey(hash uint64, chain uint16) uint64 {
	return nonZero(hash + uint64(chain)*0x9e3779b97f4a7c15)
}

// PinValue says that a tuple belongs to a flow of a chain, whose own tuple is
// in a bucket. The steering program reads chain and bucket; ident tells flows
// of the same bucket apart.
func PinValue(ident uint32, chain, bucket uint16) uint64 {
	return uint64(ident)<<32 | uint64(chain)<<16 | uint64(bucket)
}

// PinOwner returns what the steering program reads of a value.
func PinOwner(value uint64) (chain, bucket uint16) { return uint16(value >> 16), uint16(value) }

// nonZero makes a hash a key: 0 means that there is none.
func nonZero(key uint64) uint64 {
	if key == 0 {
		return 1
	}
	return key
}

// Insert gives a key a value and holds it; one more holds it when it had the
// same value before.
func (p *Pins) Insert(key, value uint64) PinStatus { return p.insert(key, value, 1) }

// Add is Insert for keys that only one may hold: when the key has the value
// already nothing changes, and the answer is PinHeld.
func (p *Pins) Add(key, value uint64) PinStatus { return p.insert(key, value, 0) }

func (p *Pins) insert(key, value uint64, more uint32) PinStatus {
	key = nonZero(key)
	home := p.home(key)
	b := p.lock(home)
	s := p.insertLocked(home, key, value, more)
	b.lock.Store(0)
	switch s {
	case PinTaken:
		p.share.taken.Add(1)
	case PinFull:
		p.share.full.Add(1)
	case PinOK, PinHeld:
	}
	return s
}

func (p *Pins) insertLocked(home, key, value uint64, more uint32) PinStatus {
	if e, _ := p.find(home, key); e != nil {
		switch {
		case e.value.Load() != value:
			return PinTaken
		case e.refs.Load() == 0: // see OpenPins
			return p.hold(e)
		case more == 0:
			return PinHeld
		case e.refs.Load() == ^uint32(0):
			return PinFull
		}
		e.refs.Add(more)
		return PinOK
	}
	if p.share.live.Add(1) > p.share.most {
		p.share.live.Add(^uint64(0))
		return PinFull
	}
	e, d := p.place(home)
	if e == nil {
		p.share.live.Add(^uint64(0))
		return PinFull
	}
	p.spill(home, d, 1)
	e.value.Store(value)
	e.refs.Store(1)
	e.key.Store(key)
	return PinOK
}

// place takes a free place: at home, so that most readers need not look
// further; else where most are free, so that none fills up early.
func (p *Pins) place(home uint64) (*pinEntry, uint64) {
	for {
		best, most := uint64(0), p.buckets[home].free()
		for d := uint64(1); d <= pinReach && (best != 0 || most == 0); d++ {
			if n := p.buckets[home+d].free(); n > most {
				best, most = d, n
			}
		}
		if most == 0 {
			return nil, 0
		}
		b := &p.buckets[home+best]
		for i := range b.e {
			e := &b.e[i]
			if g := e.gen.Load(); g&1 == 0 && e.gen.CompareAndSwap(g, g+1) {
				return e, best
			}
		}
		// Writers with other homes took them meanwhile. Each round is one in
		// which others got on.
	}
}

// free returns how many places are free.
func (b *pinBucket) free() (n int) {
	for i := range b.e {
		n += int(^b.e[i].gen.Load() & 1)
	}
	return n
}

// Release says that one of those who hold a key does not any more; the key is
// gone with the last. A key that is not there is none of the caller's: false.
func (p *Pins) Release(key uint64) bool {
	key = nonZero(key)
	home := p.home(key)
	b := p.lock(home)
	e, d := p.find(home, key)
	if e != nil && e.refs.Add(^uint32(0)) == 0 {
		e.key.Store(0)
		e.gen.Add(1)
		p.spill(home, d, ^uint32(0))
		p.share.live.Add(^uint64(0))
	}
	b.lock.Store(0)
	return e != nil
}

// Lookup returns the value of a key.
func (p *Pins) Lookup(key uint64) (value uint64, ok bool) {
	key = nonZero(key)
	home := p.home(key)
	for d := uint64(0); d <= pinReach; d++ {
		b := &p.buckets[home+d]
		for i := range b.e {
			e := &b.e[i]
			if e.key.Load() != key {
				continue
			}
			// The key once more: within one generation the value is written
			// before it.
			g := e.gen.Load()
			if g&1 == 0 || e.key.Load() != key {
				continue
			}
			value = e.value.Load()
			if e.gen.Load() == g {
				return value, true
			}
		}
		if b.spill.Load() == 0 {
			break
		}
	}
	return 0, false
}

// Live returns how many entries were made through this share and are there.
func (p *Pins) Live() int { return int(p.share.live.Load()) }

// Refused returns how often an entry was refused to this share: because the
// key had another value, and because there was no room.
func (p *Pins) Refused() (taken, full uint64) { return p.share.taken.Load(), p.share.full.Load() }

func (p *Pins) home(key uint64) uint64 { return key >> 32 * p.homes >> 32 }

// spins is how often a writer looks at a lock before it lets others run: a
// critical section is some fifty instructions, unless its thread was
// interrupted in the middle of it.
const spins = 200

// lock takes the lock of a bucket.
func (p *Pins) lock(home uint64) *pinBucket {
	b := &p.buckets[home]
	for n := 0; !b.lock.CompareAndSwap(0, 1); n++ {
		if n%spins == spins-1 {
			runtime.Gosched()
		}
	}
	return b
}

// find returns the entry of a key whose home is locked, and how far from home
// it lies.
func (p *Pins) find(home, key uint64) (*pinEntry, uint64) {
	for d := uint64(0); d <= pinReach; d++ {
		b := &p.buckets[home+d]
		for i := range b.e {
			if b.e[i].key.Load() == key {
				return &b.e[i], d
			}
		}
		if b.spill.Load() == 0 {
			break
		}
	}
	return nil, 0
}

// spill adds to the counts of the buckets that an entry at distance d from its
// home passed over.
func (p *Pins) spill(home, d uint64, n uint32) {
	for i := range d {
		p.buckets[home+i].spill.Add(n)
	}
}
