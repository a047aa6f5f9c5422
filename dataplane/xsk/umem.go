package xsk

import (
	"fmt"
	"slices"

	"sfc/dataplane/packet"
)

// UMEM is memory that AF_XDP sockets receive into and send from. All sockets
// of one worker share one, so that a frame received on one port leaves on
// another without a copy.
//
// Owner: the worker goroutine, with every socket opened on it: the free list
// has no lock.
type UMEM struct {
	mem  []byte
	pool *packet.Pool

	// where says for each chunk which socket holds it and on which side (see
	// Socket.mark); 0 when it is free or in the worker's hands. It costs a
	// byte store per hand-over, and lets Close give back exactly what the
	// kernel kept.
	where []uint8

	// owed is how many free chunks the sockets together still need to have
	// their reserve in the fill ring.
	owed int

	sockets []*Socket // open ones, by their id; nil where one was closed
}

// maxSockets is how many sockets the record of chunks can tell apart.
const maxSockets = 127

// NewUMEM describes memory to be registered by the first socket. The caller
// keeps mem mapped until every socket is closed; pool must be the free list of
// exactly this memory. The length is a multiple of [packet.ChunkSize], below 4
// GiB, and mem starts on a page, as any mapping does.
func NewUMEM(mem []byte, pool *packet.Pool) (*UMEM, error) {
	switch {
	case len(mem) == 0 || len(mem)%packet.ChunkSize != 0:
		return nil, fmt.Errorf("UMEM of %d bytes: want a positive multiple of %d", len(mem), packet.ChunkSize)
	case uint64(len(mem)) > 1<<32:
		return nil, fmt.Errorf("UMEM of %d bytes: want at most %d", len(mem), uint64(1)<<32)
	case !pageAligned(mem):
		return nil, fmt.Errorf("UMEM of %d bytes does not start on a page: map it", len(mem))
	case pool.Total()*packet.ChunkSize != len(mem):
		return nil, fmt.Errorf("UMEM of %d chunks: its pool has %d", len(mem)/packet.ChunkSize, pool.Total())
	}
	return &UMEM{mem: mem, pool: pool, where: make([]uint8, pool.Total())}, nil
}

// Bytes returns the memory.
func (u *UMEM) Bytes() []byte { return u.mem }

// Pool returns the free list.
func (u *UMEM) Pool() *packet.Pool { return u.pool }

// open returns a socket of this UMEM that is open, or nil.
func (u *UMEM) open() *Socket {
	for _, s := range u.sockets {
		if s != nil {
			return s
		}
	}
	return nil
}

// add gives the socket an id and notes the reserve that is due to it.
func (u *UMEM) add(xsk *Socket) error {
	xsk.id = slices.Index(u.sockets, nil)
	switch {
	case xsk.id >= 0:
		u.sockets[xsk.id] = xsk
	case len(u.sockets) == maxSockets:
		return fmt.Errorf("UMEM has %d sockets: no more fit", maxSockets)
	default:
		xsk.id = len(u.sockets)
		u.sockets = append(u.sockets, xsk)
	}
	xsk.owed = xsk.reserve
	u.owed += xsk.owed
	return nil
}

// remove takes the socket out and its chunks back into the pool.
func (u *UMEM) remove(xsk *Socket) {
	for i, w := range u.where {
		if w == xsk.mark(rxSide) || w == xsk.mark(txSide) {
			u.where[i] = 0
			u.pool.Put(uint32(i) * packet.ChunkSize)
		}
	}
	u.owed -= xsk.owed
	xsk.owed = 0
	u.sockets[xsk.id] = nil
}
