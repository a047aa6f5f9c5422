// Package steer holds the tables that the steering program in the kernel and
// the workers share: which worker owns which flows ([Owners]), and which other
// tuples belong to a flow (pins). They are plain memory, so that a BPF array
// mapped into the process serves as well as memory of its own.
package steer

import (
	"errors"
	"fmt"
	"sync/atomic"
)

// Limits of [Owners].
const (
	// Buckets is the number of ownership buckets of a chain. A flow's bucket
	// is the low bits of its hash. RSS++ and FAJITA move groups of this kind;
	// a million flows are about a thousand per bucket.
	Buckets = 1024
	// MaxWorkers is how many workers can own buckets.
	MaxWorkers = 64

	countShift = 8 // of a word: worker below, count above
	one        = 1 << countShift
)

// Owners says for every bucket of every chain which worker owns its flows, and
// counts the packets that were sent to that worker since it does. Worker and
// count are one 64-bit word, so who sends a packet (the steering program, or a
// worker that hands one on) reads the owner and is counted in the same atomic
// addition. Whoever changes the owner learns from the same exchange exactly how
// many packets the one before it has to expect: no grace period is needed to
// know that the last of them has come.
//
// The last row, [Owners.Odd], is for what tells its flow only to user space:
// fragments and ICMP errors. It spreads them over the workers by their
// addresses and never changes.
//
// Memory: chains+1 rows of Buckets words, little-endian, as in map owners of
// bpf/steer_maps.h. Safe for concurrent use.
type Owners struct {
	words           []atomic.Uint64
	chains, workers int
}

// OwnersSize returns the bytes of memory that a table of so many chains needs.
func OwnersSize(chains int) int { return (chains + 1) * Buckets * 8 }

// NewOwners makes a table in mem, which is 8-byte aligned and has
// OwnersSize(chains) bytes, and deals the buckets of every row out to workers
// in turn.
func NewOwners(mem []byte, chains, workers int) (*Owners, error) {
	o, err := ownersIn(mem, chains, workers)
	if err != nil {
		return nil, err
	}
	for row := range chains + 1 {
		o.Deal(uint16(row))
	}
	return o, nil
}

// OpenOwners is a table that another process made in mem, and may have left
// while it exchanged owners: who owns what stays, and so do the counts, which the
// steering program goes on with. A worker that starts to count at 0 then lacks
// what came before; when such a bucket moves for the first time, the set finds
// out by other means that nothing more will come.
//
// mended is how many words named a worker that there is not: their buckets are
// dealt out anew. So is the row for packets that are odd.
func OpenOwners(mem []byte, chains, workers int) (o *Owners, mended int, err error) {
	if o, err = ownersIn(mem, chains, workers); err != nil {
		return nil, 0, err
	}
	for i := range chains * Buckets {
		if w := &o.words[i]; w.Load()&(one-1) >= uint64(workers) {
			w.Store(o.dealt(i % Buckets))
			mended++
		}
	}
	o.Deal(o.Odd())
	return o, mended, nil
}

// Deal deals the buckets of a chain out to the workers in turn, and forgets how
// many packets there were: for a chain that begins, while nobody sends any.
func (o *Owners) Deal(chain uint16) {
	for b := range Buckets {
		o.word(chain, uint16(b)).Store(o.dealt(b))
	}
}

func (o *Owners) dealt(bucket int) uint64 { return uint64(bucket % o.workers) }

// ownersIn is a table as it is in mem.
func ownersIn(mem []byte, chains, workers int) (*Owners, error) {
	switch {
	case workers < 1 || workers > MaxWorkers:
		return nil, fmt.Errorf("owners: %d workers, want 1 to %d", workers, MaxWorkers)
	case len(mem) != OwnersSize(chains):
		return nil, fmt.Errorf("owners: %d bytes for %d chains, want %d", len(mem), chains, OwnersSize(chains))
	}
	words, ok := wordsOf(mem)
	if !ok {
		return nil, errors.New("owners: memory is not aligned to 8 bytes")
	}
	return &Owners{words: words, chains: chains, workers: workers}, nil
}

// Odd is the row for packets whose flow only user space can tell.
func (o *Owners) Odd() uint16 { return uint16(o.chains) }

// Bucket returns the bucket of a flow hash.
func Bucket(hash uint32) uint16 { return uint16(hash & (Buckets - 1)) }

func (o *Owners) word(chain, bucket uint16) *atomic.Uint64 {
	return &o.words[int(chain)*Buckets+int(bucket&(Buckets-1))]
}

// Owner returns the worker that owns a bucket.
func (o *Owners) Owner(chain, bucket uint16) int {
	return int(o.word(chain, bucket).Load() & (one - 1))
}

// Take returns the worker that owns a bucket, and counts one more packet that
// it has to expect.
func (o *Owners) Take(chain, bucket uint16) int {
	return int((o.word(chain, bucket).Add(one) - one) & (one - 1))
}

// Flip gives a bucket to a worker. It returns how many packets of the bucket
// were sent, since the bucket was given to it, to the worker that had it.
func (o *Owners) Flip(chain, bucket uint16, to int) (sent uint64) {
	return o.word(chain, bucket).Swap(uint64(to)) >> countShift
}

// Sent returns how many packets of a bucket were sent to its owner since the
// bucket was given to it.
func (o *Owners) Sent(chain, bucket uint16) uint64 {
	return o.word(chain, bucket).Load() >> countShift
}
