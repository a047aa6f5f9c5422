package xsk

import (
	"fmt"
	"time"

	"sfc/dataplane/packet"
)

// Recovery says what became of the chunks of a UMEM that was adopted.
type Recovery struct {
	// Free chunks are in the depot.
	Free int
	// Rx and Tx chunks are the sockets': to receive into or received, and to
	// send or sent.
	Rx, Tx int
	// Kept is how many of these may be nobody's: the process before was killed
	// while it gave a batch to the kernel, and what the kernel holds could not
	// be told apart. They are free again when their queue is closed.
	Kept int
	// InFlight is how many frames the kernel was still sending when the wait
	// for them ended.
	InFlight int
	// Waited is how long the kernel was waited for.
	Waited time.Duration
}

const (
	// settleTime bounds the wait for frames that the kernel is sending.
	settleTime = 50 * time.Millisecond
	// settlePause is how long one look at the rings is from the next.
	settlePause = 50 * time.Microsecond
	// snapshots bounds how often a queue's receiving rings are looked at until
	// nothing moves meanwhile.
	snapshots = 100
)

// recover finds out where each chunk is, from the rings and from the record that
// a killed process left. A chunk is always in one place only, as that process
//
//   - puts a chunk into a slot of a ring, marks it in the record, and only then
//     shows the slot to the kernel;
//   - unmarks a chunk that it takes out of a ring, shows the kernel that the slot
//     is free, and only then uses the chunk for anything else.
//
// So what a ring has is that ring's, marked or not; what is not in a ring and not
// marked is free; and what is not in a ring and marked is the kernel's, on its way
// from ring to ring, or of a batch that was never shown to it. How many the
// kernel has follows from the rings' indices; see resolve.
func (u *UMEM) recover(settle time.Duration) (did Recovery, err error) {
	begin := time.Now()
	f := finder{u: u, seen: make([]uint16, len(u.where))}
	if err := f.settle(begin.Add(settle)); err != nil {
		return did, err
	}
	for _, q := range u.queues {
		if q == nil {
			continue
		}
		if err := f.find(q); err != nil {
			return did, err
		}
	}
	did.Waited = time.Since(begin)
	if err := f.compare(); err != nil {
		return did, err
	}
	for _, q := range u.queues {
		if q != nil {
			f.resolve(q, &did)
			f.count(q, &did)
		}
	}
	did.Free = u.restock()
	return did, nil
}

// finder finds chunks.
type finder struct {
	u *UMEM
	// seen is the holder in whose ring a chunk is, 0 when it is in none.
	seen []uint16
	// lost are the chunks that are marked and in no ring, by queue and side.
	lost map[lostKey][]uint32
	// rxHolds is how many chunks the kernel has of a queue to receive into,
	// -1 when that cannot be told.
	rxHolds map[*queue]int
}

type lostKey struct {
	queue *queue
	side  side
}

// settle takes what was sent out of the completion rings, and waits until the
// kernel sends nothing any more.
func (f *finder) settle(end time.Time) error {
	for {
		quiet := true
		for _, q := range f.u.queues {
			if q == nil {
				continue
			}
			for _, s := range q.sockets {
				if s.tx.waiting() > 0 {
					s.send()
				}
			}
			if err := f.drain(q); err != nil {
				return err
			}
			n, exact := q.inFlight()
			quiet = quiet && exact && n == 0
		}
		if quiet || time.Now().After(end) {
			return nil
		}
		time.Sleep(settlePause)
	}
}

// inFlight returns how many frames the kernel took out of the TX rings and has
// not put into the completion ring, and whether that is exact. The caller has
// drained the latter.
func (q *queue) inFlight() (n int, exact bool) {
	comp := q.sockets[0].comp.consumer.Load() // first: frames only come in meanwhile
	sum := q.sockets[0].umem.gone[q.id].tx.Load() - (comp - q.origin)
	exact = true
	for _, s := range q.sockets {
		sum += s.tx.consumer.Load() - q.origin
		exact = exact && (q.exact || s.tx.waiting() == 0)
	}
	return int(int32(sum)), exact && int32(sum) >= 0
}

// drain empties the completion ring: its chunks are nobody's now.
func (f *finder) drain(q *queue) error {
	r := &q.sockets[0].comp
	n, idx := r.peek(uint32(len(r.descs)))
	for i := range n {
		chunk, err := f.chunk(q, r.at(idx+i))
		if err != nil {
			return fmt.Errorf("completion ring: %w", err)
		}
		f.u.where[chunk] = 0
	}
	r.release()
	return nil
}

// find looks through the rings of a queue.
func (f *finder) find(q *queue) error {
	if f.rxHolds == nil {
		f.rxHolds = map[*queue]int{}
	}
	for _, s := range q.sockets {
		if s.tx.waiting() > s.tx.mask+1 {
			return fmt.Errorf("%w: TX ring of ifindex %d queue %d has %d descriptors", ErrChunks, q.ifindex, q.number, s.tx.waiting())
		}
		for idx := s.tx.consumer.Load(); idx != s.tx.cachedProd; idx++ {
			if err := f.see(q, s.tx.descs[idx&s.tx.mask].Addr, s.txMark); err != nil {
				return fmt.Errorf("TX ring: %w", err)
			}
		}
	}
	return f.findReceived(q)
}

// findReceived looks through the fill ring and the RX rings, between which the
// kernel may be moving chunks right now: it shows a frame in an RX ring before it
// shows that the chunk left the fill ring.
func (f *finder) findReceived(q *queue) error {
	f.rxHolds[q] = -1
	fill := &q.sockets[0].fill
	if fill.waiting() > fill.mask+1 {
		return fmt.Errorf("%w: fill ring of ifindex %d queue %d has %d descriptors", ErrChunks, q.ifindex, q.number, fill.waiting())
	}
	for range snapshots {
		before := q.rxIndices()
		for idx := fill.consumer.Load(); idx != fill.cachedProd; idx++ {
			if err := f.see(q, fill.descs[idx&fill.mask], inFill.of(q.id)); err != nil {
				return fmt.Errorf("fill ring: %w", err)
			}
		}
		for _, s := range q.sockets {
			prod := s.rx.producer.Load()
			if prod-s.rx.cachedCons > s.rx.mask+1 {
				return fmt.Errorf("%w: RX ring of ifindex %d queue %d has %d descriptors", ErrChunks, q.ifindex, q.number, prod-s.rx.cachedCons)
			}
			for idx := s.rx.cachedCons; idx != prod; idx++ {
				if err := f.see(q, s.rx.at(idx).Addr, inFill.of(q.id)); err != nil {
					return fmt.Errorf("RX ring: %w", err)
				}
			}
		}
		if after := q.rxIndices(); after == before && after >= 0 {
			f.rxHolds[q] = int(after)
			return nil
		}
		time.Sleep(settlePause)
	}
	return nil
}

// rxIndices returns how many chunks the kernel took out of the fill ring and has
// not shown in an RX ring. Negative: it is just showing some.
func (q *queue) rxIndices() int32 {
	sum := q.sockets[0].fill.consumer.Load() - q.origin - q.sockets[0].umem.gone[q.id].rx.Load()
	for _, s := range q.sockets {
		sum -= s.rx.producer.Load() - q.origin
	}
	return int32(sum)
}

// chunk returns the number of the chunk that an address is in.
func (f *finder) chunk(q *queue, addr uint64) (uint32, error) {
	if addr >= uint64(len(f.u.mem)) {
		return 0, fmt.Errorf("%w: address %#x in a ring of ifindex %d queue %d is outside of the UMEM", ErrChunks, addr, q.ifindex, q.number)
	}
	return uint32(addr / packet.ChunkSize), nil
}

// see notes that a chunk is in a ring.
func (f *finder) see(q *queue, addr uint64, mark uint16) error {
	chunk, err := f.chunk(q, addr)
	if err != nil {
		return err
	}
	if was := f.seen[chunk]; was != 0 && was != mark {
		return fmt.Errorf("%w: chunk %d is in rings of holders %#x and %#x", ErrChunks, chunk, was, mark)
	}
	f.seen[chunk] = mark
	return nil
}

// compare sets the record by what the rings have, and lists what it has and no
// ring. What belongs to sockets that are no more is free.
func (f *finder) compare() error {
	f.lost = map[lostKey][]uint32{}
	for i, mark := range f.u.where {
		switch seen := f.seen[i]; {
		case seen != 0 && mark != 0 && mark != seen:
			return fmt.Errorf("%w: chunk %d is in a ring of holder %#x and marked as that of %#x", ErrChunks, i, seen, mark)
		case seen != 0:
			f.u.where[i] = seen
		case mark != 0:
			key, ok := f.u.holder(mark)
			if !ok {
				f.u.where[i] = 0
				continue
			}
			f.lost[key] = append(f.lost[key], uint32(i))
		}
	}
	return nil
}

// holder returns whose a mark is, false when there is no such socket or queue.
func (u *UMEM) holder(mark uint16) (key lostKey, ok bool) {
	id := int(mark >> 2)
	switch holder(mark & 3) {
	case inTx:
		if id < len(u.sockets) && u.sockets[id] != nil {
			return lostKey{u.sockets[id].queue, txSide}, true
		}
		return key, false
	case inLateTx:
		key.side = txSide
	}
	if id < len(u.queues) && u.queues[id] != nil {
		key.queue = u.queues[id]
		return key, true
	}
	return key, false
}

// resolve frees those of a queue's lost chunks that the kernel was never shown. In
// the fill ring they are in slots behind the producer's index which tell that they
// are new. On the sending side they are told from the kernel's by waiting until it
// has none; where it does not get that far, all stay marked, until the next one
// recovers or the queue is closed.
func (f *finder) resolve(q *queue, did *Recovery) {
	fill := &q.sockets[0].fill
	batch := map[uint32]bool{}
	for i := range fill.room(fill.mask + 1) {
		idx := fill.cachedProd + i
		if addr := fill.at(idx); addr%packet.ChunkSize == lap(idx, fill.mask) {
			batch[uint32(addr/packet.ChunkSize)] = true
			fill.put(idx, addr^1) // so that the next one to recover does not take it for new
		}
	}
	rest := 0
	for _, c := range f.lost[lostKey{q, rxSide}] {
		if batch[c] {
			f.u.where[c] = 0
		} else {
			rest++
		}
	}
	if holds := f.rxHolds[q]; holds >= 0 {
		did.Kept += max(rest-holds, 0)
	}
	tx := f.lost[lostKey{q, txSide}]
	holds, exact := q.inFlight()
	did.InFlight += max(holds, 0)
	if !exact || holds > 0 {
		did.Kept += max(len(tx)-max(holds, 0), 0)
		return
	}
	for _, c := range tx {
		f.u.where[c] = 0
	}
}

// count makes the queue's counts and those of its sockets what they hold: they
// start again.
func (f *finder) count(q *queue, did *Recovery) {
	q.filled, q.reclaimed, q.goneRx, q.goneTx, q.last = 0, 0, 0, 0, nil
	for _, s := range q.sockets {
		s.received, s.transmitted = 0, 0
	}
	for _, mark := range f.u.where {
		if mark == 0 {
			continue
		}
		switch id := int(mark >> 2); holder(mark & 3) {
		case inFill:
			if id == q.id {
				q.filled++
			}
		case inLateTx:
			if id == q.id {
				q.goneTx++
			}
		case inTx:
			if s := f.u.sockets[id]; s.queue == q {
				s.transmitted++
				did.Tx++
			}
		}
	}
	did.Rx += int(q.filled)
	did.Tx += int(q.goneTx)
}

// restock leaves in the depot what nobody holds, and returns how many that are.
func (u *UMEM) restock() (free int) {
	p := u.depot.Pool()
	for _, ok := p.Get(); ok; _, ok = p.Get() {
	}
	for i := len(u.where) - 1; i >= 0; i-- {
		if u.where[i] == 0 {
			p.Put(uint32(i) * packet.ChunkSize)
			free++
		}
	}
	u.depot.Retire(p)
	return free
}
