package packet

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

const (
	// DepotBatch is how many chunks move between a depot and a worker's pool
	// at a time: the depot's lock is taken once for so many.
	DepotBatch = 64
	// PoolLimit is how many free chunks a worker keeps to itself at most, out
	// of reach of the others.
	PoolLimit = 4 * DepotBatch
)

// Depot holds the free chunks of a frame region that several workers share.
// Each of them has a [Pool], which exchanges batches with it. As long as there
// is one pool, chunks come and go in the very order of a pool without depot.
//
// Its methods are safe for concurrent use.
type Depot struct {
	mu    sync.Mutex
	free  []uint32
	pools []*Pool
	total int

	// count is len(free), for those who do not hold the lock: as every worker
	// reads it often, it has a cache line to itself.
	_     [64]byte
	count atomic.Int64
	_     [56]byte
}

// NewDepot returns a depot that holds every chunk of a region of the given
// size in bytes.
func NewDepot(regionBytes int) *Depot {
	d := &Depot{free: allChunks(regionBytes)}
	d.total = len(d.free)
	d.count.Store(int64(d.total))
	return d
}

// Pool returns a new, empty pool of the depot, for one worker.
func (d *Depot) Pool() *Pool {
	p := &Pool{list: make([]uint32, min(PoolLimit, d.total)), depot: d, total: d.total}
	d.mu.Lock()
	d.pools = append(d.pools, p)
	d.mu.Unlock()
	return p
}

// Retire takes back all that is free in a pool of the depot, whose worker has
// stopped. The pool is empty afterwards, and no longer counted by Check.
func (d *Depot) Retire(p *Pool) {
	d.put(p.list[:p.top])
	p.top = 0
	d.mu.Lock()
	d.pools = slices.DeleteFunc(d.pools, func(q *Pool) bool { return q == p })
	d.mu.Unlock()
}

// Free returns how many chunks are in the depot itself, not in its pools.
func (d *Depot) Free() int { return int(d.count.Load()) }

// Total returns how many chunks the region has.
func (d *Depot) Total() int { return d.total }

// take moves chunks to dst, at most as many as fit, keeps leave, and returns how
// many it gave.
func (d *Depot) take(dst []uint32, leave int) int {
	if d.Free() <= leave { // nothing to be had: no lock
		return 0
	}
	d.mu.Lock()
	n := max(min(len(dst), len(d.free)-max(leave, 0)), 0)
	rest := len(d.free) - n
	copy(dst, d.free[rest:])
	d.free = d.free[:rest]
	d.count.Store(int64(rest))
	d.mu.Unlock()
	return n
}

// put takes chunks back.
func (d *Depot) put(chunks []uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.free)+len(chunks) > d.total {
		panic("packet: chunk returned to a full depot")
	}
	d.free = append(d.free, chunks...)
	d.count.Store(int64(len(d.free)))
}

// ErrTwice means that a chunk is free twice, or is none of the region's.
var ErrTwice = errors.New("free list is corrupt")

// Check calls visit with every free chunk, the depot's and its pools', and
// fails when one comes twice or is not of the region. The workers have
// stopped.
func (d *Depot) Check(visit func(chunk uint32)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	seen := make([]bool, d.total)
	lists := [][]uint32{d.free}
	for _, p := range d.pools {
		lists = append(lists, p.list[:p.top])
	}
	for i, list := range lists {
		for _, c := range list {
			k := int(c / ChunkSize)
			if c%ChunkSize != 0 || k >= d.total {
				return fmt.Errorf("%w: %#x is no chunk of a region of %d (list %d)", ErrTwice, c, d.total, i)
			}
			if seen[k] {
				return fmt.Errorf("%w: chunk %#x is free twice (list %d)", ErrTwice, c, i)
			}
			seen[k] = true
			visit(c)
		}
	}
	return nil
}
