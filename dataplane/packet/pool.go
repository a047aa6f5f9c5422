package packet

// Pool is the list of free chunks of one worker: a stack, so that the chunk
// used last, still warm in the cache, is used next. It has a frame region to
// itself ([NewPool]), or is the worker's part of a [Depot].
//
// Owner: the worker. Not safe for concurrent use.
type Pool struct {
	free  []uint32 // its capacity is the most that stay here
	depot *Depot   // nil: none
	total int
}

// NewPool returns a pool that holds every chunk of a region of the given size
// in bytes.
func NewPool(regionBytes int) *Pool {
	free := allChunks(regionBytes)
	return &Pool{free: free, total: len(free)}
}

// allChunks lists the chunks of a region, so that the first is the last.
func allChunks(regionBytes int) []uint32 {
	n := regionBytes / ChunkSize
	free := make([]uint32, n)
	for i := range free {
		free[i] = uint32(n-1-i) * ChunkSize
	}
	return free
}

// Get takes a chunk; ok is false when none is free.
func (p *Pool) Get() (chunk uint32, ok bool) {
	n := len(p.free)
	if n == 0 {
		if !p.draw(0) {
			return 0, false
		}
		n = len(p.free)
	}
	chunk = p.free[n-1]
	p.free = p.free[:n-1]
	return chunk, true
}

// Take takes at most n chunks, in one piece: none only when n is not positive
// or no more than leave chunks are free, as [Pool.Free] counts them. The last
// of them is the one that Get would give first. The list is the pool's own,
// valid until the next call.
func (p *Pool) Take(n, leave int) []uint32 {
	if n <= 0 || len(p.free) == 0 && !p.draw(leave) {
		return nil
	}
	if p.depot != nil {
		leave -= p.depot.Free()
	}
	n = min(n, len(p.free)-max(leave, 0))
	if n <= 0 {
		return nil
	}
	rest := len(p.free) - n
	taken := p.free[rest:]
	p.free = p.free[:rest]
	return taken
}

// Put gives a chunk back. The chunk must have come from Get or Take of a pool
// of the same region. It panics when more chunks come back than there are.
func (p *Pool) Put(chunk uint32) {
	if len(p.free) == cap(p.free) {
		p.spill()
	}
	p.free = append(p.free, chunk&^(ChunkSize-1))
}

// draw fills an empty pool with a batch out of the depot, which keeps leave
// chunks, and says whether it got any.
func (p *Pool) draw(leave int) bool {
	if p.depot == nil {
		return false
	}
	p.free = p.depot.take(p.free, min(DepotBatch, cap(p.free)), leave)
	return len(p.free) > 0
}

// spill makes room in a full pool.
func (p *Pool) spill() {
	if p.depot == nil || len(p.free)+p.depot.Free() >= p.total {
		panic("packet: chunk returned to a full pool")
	}
	rest := max(len(p.free)-DepotBatch, 0)
	p.depot.put(p.free[rest:])
	p.free = p.free[:rest]
}

// Free returns how many chunks are free to this worker: its own and the
// depot's. Other workers may take the depot's meanwhile.
func (p *Pool) Free() int {
	if p.depot == nil {
		return len(p.free)
	}
	return len(p.free) + p.depot.Free()
}

// Total returns how many chunks the region has.
func (p *Pool) Total() int { return p.total }

// Of says whether the pool is part of the depot.
func (p *Pool) Of(d *Depot) bool { return p.depot == d }
