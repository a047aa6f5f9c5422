package packet

// Pool is the list of free chunks of a frame region: a stack, so that the
// chunk used last, still warm in the cache, is used next.
//
// Owner: the worker that owns the region. Not safe for concurrent use.
type Pool struct {
	free  []uint32
	total int
}

// NewPool returns a pool that holds every chunk of a region of the given size
// in bytes.
func NewPool(regionBytes int) *Pool {
	n := regionBytes / ChunkSize
	p := &Pool{free: make([]uint32, n), total: n}
	for i := range p.free {
		p.free[i] = uint32(n-1-i) * ChunkSize
	}
	return p
}

// Get takes a chunk; ok is false when none is free.
func (p *Pool) Get() (chunk uint32, ok bool) {
	n := len(p.free)
	if n == 0 {
		return 0, false
	}
	chunk = p.free[n-1]
	p.free = p.free[:n-1]
	return chunk, true
}

// Put gives a chunk back. The chunk must have come from Get.
func (p *Pool) Put(chunk uint32) {
	if len(p.free) == p.total {
		panic("packet: chunk returned to a full pool")
	}
	p.free = append(p.free, chunk&^(ChunkSize-1))
}

// Free returns how many chunks are free.
func (p *Pool) Free() int { return len(p.free) }

// Total returns how many chunks the region has.
func (p *Pool) Total() int { return p.total }
