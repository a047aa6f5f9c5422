package packet

// Pool is the list of free chunks of one worker: a stack, so that the chunk
// used last, still warm in the cache, is used next. It has a frame region to
// itself ([NewPool]), or is the worker's part of a [Depot].
//
// Owner: the worker. Not safe for concurrent use.
type Pool struct {
	list  []uint32 // as long as the most that stay here
	top   int      // list[:top] are free
	depot *Depot   // nil: none
	total int
}

// NewPool returns a pool that holds every chunk of a region of the given size
// in bytes.
func NewPool(regionBytes int) *Pool {
	free := allChunks(regionBytes)
	return &Pool{list: free, top: len(free), total: len(free)}
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
	if p.top > 0 || p.fetch() {
		p.top--
		return p.list[p.top], true
	}
	return
}

// fetch is draw for Get, which would not be inlined otherwise.
//
//go:noinline
func (p *Pool) fetch() bool { return p.draw(0) }

// Take takes at most n chunks, in one piece: none only when n is not positive
// or no more than leave chunks are free, as [Pool.Free] counts them. The last
// of them is the one that Get would give first. The list is the pool's own,
// valid until the next call.
func (p *Pool) Take(n, leave int) []uint32 {
	if n <= 0 || p.top == 0 && !p.draw(leave) {
		return nil
	}
	if p.depot != nil {
		leave -= p.depot.Free()
	}
	n = min(n, p.top-max(leave, 0))
	if n <= 0 {
		return nil
	}
	p.top -= n
	return p.list[p.top : p.top+n]
}

// Put gives a chunk back. The chunk must have come from Get or Take of a pool
// of the same region. It panics when more chunks come back than there are.
func (p *Pool) Put(chunk uint32) {
	if p.top == len(p.list) {
		p.spill()
	}
	p.list[p.top] = chunk &^ (ChunkSize - 1)
	p.top++
}

// draw fills an empty pool with a batch out of the depot, which keeps leave
// chunks, and says whether it got any.
func (p *Pool) draw(leave int) bool {
	if p.depot == nil {
		return false
	}
	p.top = p.depot.take(p.list[:min(DepotBatch, len(p.list))], leave)
	return p.top > 0
}

// spill makes room in a full pool: the chunks not used for longest go to the
// depot.
func (p *Pool) spill() {
	if p.depot == nil || p.top+p.depot.Free() >= p.total {
		panic("packet: chunk returned to a full pool")
	}
	n := min(DepotBatch, p.top)
	p.depot.put(p.list[:n])
	p.top = copy(p.list, p.list[n:p.top])
}

// Free returns how many chunks are free to this worker: its own and the
// depot's. Other workers may take the depot's meanwhile.
func (p *Pool) Free() int {
	if p.depot == nil {
		return p.top
	}
	return p.top + p.depot.Free()
}

// Total returns how many chunks the region has.
func (p *Pool) Total() int { return p.total }

// Of says whether the pool is part of the depot.
func (p *Pool) Of(d *Depot) bool { return p.depot == d }
