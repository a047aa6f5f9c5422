package xsk

import (
	"math/bits"
	"slices"
	"sync/atomic"
	"time"

	"sfc/dataplane/packet"
)

// queue is a queue of an interface: the fill and the completion ring that all
// its sockets share, served by whichever worker comes by.
type queue struct {
	lock tryLock
	// sending is held during system calls that send, where the kernel cannot
	// send from two sockets of a queue at once (see exact).
	sending tryLock

	// All that follows needs the lock, except what never changes.

	// last is the socket that used the rings last; another one first has to
	// read what the indices are now.
	last *Socket
	// sockets are the open ones, the first opened first.
	sockets []*Socket
	// Chunks put into the fill ring and taken out of the completion ring,
	// modulo 2^64, since the queue exists.
	filled, reclaimed uint64
	// Chunks that closed sockets received, and those they sent and did not
	// get back at once.
	goneRx, goneTx uint64
	// owed is this queue's part of UMEM.owed.
	owed int

	// What never changes.
	target, reserve int // see Options
	id              int // index in UMEM.queues
	ifindex         int
	number          uint32
	origin          uint32 // where the rings' indices began: 0, except in tests
	netns           uint64 // cookie of the namespace of ifindex; 0: unknown
	size            uint32 // of the rings
	// exact: the kernel publishes at once what it took out of a TX ring, and
	// writes the completion ring frame by frame when they are done. Before
	// (Linux 6.17) it did the first lazily, and wrote a completion in advance:
	// when it then could not send the frame, it took back the latest one, be
	// it another socket's.
	exact bool
}

// tryLock is a lock that nobody waits for on the data path: who does not get
// it goes on, since somebody else is just doing what was to be done.
type tryLock struct {
	held atomic.Uint32
	_    [60]byte // a cache line for itself: others knock at it
}

func (l *tryLock) try() bool { return l.held.Load() == 0 && l.held.CompareAndSwap(0, 1) }

func (l *tryLock) release() { l.held.Store(0) }

// wait takes the lock, off the data path. Holders make no system calls and run
// nobody's code, so it is soon free.
func (l *tryLock) wait() {
	for !l.try() {
		time.Sleep(10 * time.Microsecond)
	}
}

// enter takes the queue's lock if it is free.
func (xsk *Socket) enter() bool {
	if !xsk.queue.lock.try() {
		return false
	}
	xsk.takeOver()
	return true
}

// takeOver makes the socket's view of the shared rings current.
func (xsk *Socket) takeOver() {
	if q := xsk.queue; q.last != xsk {
		q.last = xsk
		xsk.fill.resync()
		xsk.comp.resync()
	}
}

// leave gives the lock back.
func (xsk *Socket) leave() { xsk.queue.lock.release() }

// ready returns how many chunks the queue has to receive into, or has received
// into for this socket: it is what Options.FillTarget bounds. Frames that wait
// for other sockets do not count, so that a worker that does not fetch its own
// takes nothing from the others.
func (xsk *Socket) ready() int {
	q := xsk.queue
	gone := uint32(q.goneRx) + uint32(xsk.received)
	if len(q.sockets) > 1 {
		for _, s := range q.sockets {
			if s != xsk {
				gone += s.rx.producer.Load() - s.rxStart
			}
		}
	}
	return int(int32(uint32(q.filled) - gone))
}

// fillUp moves chunks from the pool to the fill ring. The caller has the lock.
func (xsk *Socket) fillUp() {
	u, q := xsk.umem, xsk.queue
	has := xsk.ready()
	if want := q.target - has; want > 0 {
		others := int(u.owed.Load()) - q.owed
		mark := inFill.of(q.id)
		// What the kernel has taken and not yet said so, in the turn that is
		// still filling RX rings, takes room beside the target.
		want = min(want, int(xsk.fill.room(uint32(want))))
		took := 0
		for took < want {
			chunks := xsk.pool.Take(want-took, others)
			if len(chunks) == 0 {
				break
			}
			_, idx := xsk.fill.reserve(uint32(len(chunks)))
			for i := range chunks {
				chunk := chunks[len(chunks)-1-i]
				xsk.fill.put(idx+uint32(i), uint64(chunk)|lap(idx+uint32(i), xsk.fill.mask))
				u.where[chunk/packet.ChunkSize] = mark // in this order: see UMEM.recover
			}
			xsk.fill.submit()
			took += len(chunks)
		}
		q.filled += uint64(took)
		has += took
	}
	u.owe(q, max(q.reserve-has, 0))
}

// lap says which time round the fill ring a slot is written: something for the
// low bits of the address there, which the kernel leaves aside (it clears them
// in xp_check_aligned, net/xdp/xsk_buff_pool.c). So what a killed process wrote
// last is told from what the slot held the time before.
func lap(idx, mask uint32) uint64 {
	return uint64(idx>>bits.OnesCount32(mask)+1) & (packet.ChunkSize - 1)
}

// collect empties the completion ring into the pool. The caller has the lock.
func (xsk *Socket) collect() {
	where := xsk.umem.where
	var chunks [packet.BurstSize]uint32
	// The ring's size bounds the loop.
	for range len(xsk.comp.descs)/len(chunks) + 2 {
		n, idx := xsk.comp.peek(uint32(len(chunks)))
		if n == 0 {
			return
		}
		for i := range chunks[:n] {
			chunk := uint32(xsk.comp.at(idx+uint32(i))) &^ (packet.ChunkSize - 1)
			where[chunk/packet.ChunkSize] = 0
			chunks[i] = chunk
		}
		// Before anyone can use the chunks: see UMEM.recover.
		xsk.comp.release()
		for _, chunk := range chunks[:n] {
			xsk.pool.Put(chunk)
		}
		xsk.queue.reclaimed += uint64(n)
	}
}

// newQueue makes a queue without sockets.
func newQueue(ifindex int, number uint32, opts Options) *queue {
	return &queue{
		target: int(opts.FillTarget), reserve: int(opts.Reserve), size: opts.FillRing,
		ifindex: ifindex, number: number,
	}
}

// addQueue gives a queue a place among those of the UMEM.
func (u *UMEM) addQueue(q *queue) (err error) {
	if u.queues, q.id, err = place(u.queues, q, maxQueues, "queues"); err != nil {
		return err
	}
	u.owe(q, q.reserve)
	return nil
}

// owe notes how many chunks the queue's reserve is short of.
func (u *UMEM) owe(q *queue, owed int) {
	if owed != q.owed {
		u.owed.Add(int64(owed - q.owed))
		q.owed = owed
	}
}

// dropQueue forgets a queue whose last socket is closed, and gives back the
// chunks that the kernel kept.
func (u *UMEM) dropQueue(q *queue, pool *packet.Pool) {
	u.giveBack(pool, inFill.of(q.id), inLateTx.of(q.id))
	u.owe(q, 0)
	u.record.gone[q.id].rx.Store(0)
	u.record.gone[q.id].tx.Store(0)
	u.queues[q.id] = nil
}

// giveBack puts the chunks of holders that are no more into the pool.
func (u *UMEM) giveBack(pool *packet.Pool, holders ...uint16) {
	for i, h := range u.where {
		if slices.Contains(holders, h) {
			u.where[i] = 0
			pool.Put(uint32(i) * packet.ChunkSize)
		}
	}
}
