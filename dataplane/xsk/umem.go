package xsk

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"sfc/dataplane/packet"
)

// UMEM is memory that AF_XDP sockets receive into and send from. All ports,
// queues and workers of a data plane share one, so that a frame received on
// one port leaves on another without a copy, and goes from one worker to
// another as a number.
type UMEM struct {
	mem   []byte
	depot *packet.Depot

	record

	// owed is how many free chunks the queues together still need to have
	// their reserve in the fill ring.
	owed atomic.Int64

	// mu guards what follows. No worker takes it.
	mu      sync.Mutex
	sockets []*Socket // open ones, by their id; nil where one was closed
	queues  []*queue  // the same
}

// holder is a value in UMEM.where: an id in the upper bits, and in the lower
// two what it is the id of.
type holder uint16

const (
	// inFill: a queue, in its fill ring, by the kernel or in an RX ring.
	inFill holder = 1 + iota
	// inTx: a socket, in its TX ring, by the kernel or in the completion ring.
	inTx
	// inLateTx: a queue; the socket that sent the frame was closed before the
	// chunk came back.
	inLateTx
)

func (h holder) of(id int) uint16 { return uint16(id<<2) | uint16(h) }

// maxHolders is how many sockets the record of chunks can tell apart.
const maxHolders = 1 << 14

// ErrInUse means that a UMEM still has open sockets.
var ErrInUse = errors.New("UMEM has open sockets")

// NewUMEM describes memory to be registered by the first socket. The caller
// keeps mem mapped until every socket is closed, and closes the UMEM then;
// depot must be the free list of exactly this memory. The length is a multiple
// of [packet.ChunkSize], at most 4 GiB, and mem starts on a page, as any
// mapping does.
func NewUMEM(mem []byte, depot *packet.Depot) (*UMEM, error) {
	if err := checkMemory(mem, depot); err != nil {
		return nil, err
	}
	record, err := newRecord(depot.Total())
	if err != nil {
		return nil, fmt.Errorf("UMEM: %w", err)
	}
	return &UMEM{mem: mem, depot: depot, record: record}, nil
}

// checkMemory returns what is wrong with the memory of a UMEM.
func checkMemory(mem []byte, depot *packet.Depot) error {
	switch {
	case len(mem) == 0 || len(mem)%packet.ChunkSize != 0:
		return fmt.Errorf("UMEM of %d bytes: want a positive multiple of %d", len(mem), packet.ChunkSize)
	case uint64(len(mem)) > 1<<32:
		return fmt.Errorf("UMEM of %d bytes: want at most %d", len(mem), uint64(1)<<32)
	case !pageAligned(mem):
		return fmt.Errorf("UMEM of %d bytes does not start on a page: map it", len(mem))
	case depot.Total()*packet.ChunkSize != len(mem):
		return fmt.Errorf("UMEM of %d chunks: its depot has %d", len(mem)/packet.ChunkSize, depot.Total())
	}
	return nil
}

// Close gives the record of chunks back, after every socket is closed. Closing
// again does nothing.
func (u *UMEM) Close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.where == nil {
		return nil
	}
	if u.open() != nil {
		return fmt.Errorf("close UMEM of %d chunks: %w: close them first", len(u.where), ErrInUse)
	}
	return u.record.close()
}

// Bytes returns the memory.
func (u *UMEM) Bytes() []byte { return u.mem }

// Depot returns the free list.
func (u *UMEM) Depot() *packet.Depot { return u.depot }

// open returns a socket of this UMEM that is open, or nil.
func (u *UMEM) open() *Socket {
	for _, s := range u.sockets {
		if s != nil {
			return s
		}
	}
	return nil
}

// queue returns the queue of an interface of the calling thread's network
// namespace, if a socket serves it: only there does an interface index name the
// same interface.
func (u *UMEM) queue(ifindex int, number uint32) *queue {
	here := threadNetNS()
	for _, q := range u.queues {
		if q != nil && q.ifindex == ifindex && q.number == number && (q.netns == here || q.netns == 0 || here == 0) {
			return q
		}
	}
	return nil
}

// place puts v where nil is, or at the end, and returns its index.
func place[T any](list []*T, v *T, most int, what string) ([]*T, int, error) {
	i := slices.Index(list, nil)
	switch {
	case i >= 0:
		list[i] = v
	case len(list) == most:
		return list, 0, fmt.Errorf("UMEM has %d %s: no more fit", len(list), what)
	default:
		i = len(list)
		list = append(list, v)
	}
	return list, i, nil
}
