package xsk

import (
	"fmt"
	"math/bits"

	"sfc/dataplane/packet"
)

// Sizing says for what a UMEM and its rings are to be large enough.
type Sizing struct {
	// Queues is the number of queues of all ports together, Workers how many
	// sockets each of them has. At least 1.
	Queues, Workers int
	// Held is how many chunks a worker may hold beside the burst in hand, for
	// instance while flows move. Default 0.
	Held int
	// RingSize is the size wanted for each ring. Default 2048.
	RingSize uint32
	// MaxBytes is the largest region allowed. Default: 4 GiB.
	MaxBytes int
}

// napiBudget is how many frames the kernel receives before it shows which fill
// descriptors it took: NAPI_POLL_WEIGHT. See Options.FillRing.
const napiBudget = 64

// regionStep is what Size rounds to, in chunks: 2 MiB, a huge page.
const regionStep = 2 << 20 / packet.ChunkSize

// Size returns how many chunks the region needs, and the options for all its
// sockets: rings of the size wanted, or smaller ones so that the region is not
// too large. The fill target is half of a ring, and a ring more for each
// further worker: workers that stand still may fill their RX rings while the
// others sleep and put nothing into the fill ring, and there is still something
// in it for the frames that wake these up.
//
// With so many chunks workers that stand still take nothing from the others.
// Each of those may have a full RX and a full TX ring at every queue, a pool
// full of free chunks and a burst in hand; there is still enough for the fill
// rings to reach their target, and for as many frames as a ring holds to be
// sent at every queue.
func (s Sizing) Size() (chunks int, opts Options, err error) {
	if s.Queues < 1 || s.Workers < 1 || s.Held < 0 {
		return 0, opts, fmt.Errorf("size of a UMEM for %d queues, %d workers, %d held: want at least 1, 1 and 0", s.Queues, s.Workers, s.Held)
	}
	opts.RingSize = s.RingSize
	if opts.RingSize == 0 {
		opts.RingSize = defaultRing
	}
	most := s.MaxBytes
	if most == 0 {
		most = 1 << 32
	}
	for ; opts.RingSize >= minRing; opts.RingSize /= 2 {
		opts.FillTarget = opts.RingSize/2 + uint32(s.Workers-1)*opts.RingSize
		opts.FillRing = max(opts.RingSize, uint32(1)<<bits.Len32(opts.FillTarget+napiBudget-1))
		if opts.RingSize > minRing && opts.FillRing > maxRing {
			continue
		}
		if err := opts.withDefaults(0).validate(); err != nil {
			return 0, opts, err
		}
		chunks = s.chunks(int(opts.RingSize), int(opts.FillTarget))
		if chunks*packet.ChunkSize <= most {
			return chunks, opts, nil
		}
	}
	return 0, opts, fmt.Errorf("%d queues with %d workers need %d MiB even with rings of %d, at most %d MiB are allowed: use fewer",
		s.Queues, s.Workers, chunks*packet.ChunkSize>>20, minRing, most>>20)
}

func (s Sizing) chunks(ring, target int) int {
	queue := target + ring + (s.Workers-1)*2*ring
	worker := packet.PoolLimit + packet.BurstSize + s.Held
	n := s.Queues*queue + s.Workers*worker
	return (n + regionStep - 1) / regionStep * regionStep
}
