package xsk

import (
	"testing"

	"golang.org/x/sys/unix"

	"sfc/dataplane/packet"
)

// playedKernel is the other side of a socket's rings, played by the test.
type playedKernel struct {
	*playedQueue
	rx, tx ringMem[unix.XDPDesc]
	// rxProd and txCons are the kernel's own indices.
	rxProd, txCons uint32

	sent    []unix.XDPDesc
	onKick  func(k *playedKernel) unix.Errno
	rxKicks int
}

// playedQueue is what the sockets of a queue share.
type playedQueue struct {
	number             uint32
	fill, comp         ringMem[uint64]
	fillCons, compProd uint32
	taken              []uint64 // chunks out of the fill ring, to be received into
	flight             []uint64 // frames out of TX rings, not yet completed
	// sparing: takes a chunk out of the fill ring when a frame arrives, as in
	// copy mode, and not all that are there.
	sparing bool
}

// play opens a socket on a new queue of umem whose kernel the test plays.
func play(t testing.TB, umem *testUMEM, opts Options) (*Socket, *playedKernel) {
	t.Helper()
	umem.played++
	size := int(opts.withDefaults(umem.depot.Total()).FillRing)
	return playOn(t, umem, &playedQueue{
		number: umem.played, fill: fakeRing[uint64](uint32(size)), comp: fakeRing[uint64](uint32(size)), fillCons: start, compProd: start,
		taken: make([]uint64, 0, 4*size), flight: make([]uint64, 0, 8*size),
	}, umem.pool, opts)
}

// playOn opens the socket of one more worker on a played queue.
func playOn(t testing.TB, umem *testUMEM, q *playedQueue, pool *packet.Pool, opts Options) (*Socket, *playedKernel) {
	t.Helper()
	opts = opts.withDefaults(umem.depot.Total())
	if err := opts.validate(); err != nil {
		t.Fatal(err)
	}
	size := opts.RingSize
	k := &playedKernel{
		playedQueue: q, rx: fakeRing[unix.XDPDesc](size), tx: fakeRing[unix.XDPDesc](size),
		rxProd: start, txCons: start, sent: make([]unix.XDPDesc, 0, 4*size),
	}
	k.tx.flags.Store(unix.XDP_RING_NEED_WAKEUP)
	k.onKick = func(k *playedKernel) unix.Errno { k.transmit(int(opts.TxBudget)); return 0 }
	xsk, err := umem.newSocket(pool, 0, q.number, opts)
	if err != nil {
		t.Fatal(err)
	}
	k.use(xsk)
	t.Cleanup(func() {
		if err := xsk.Close(); err != nil {
			t.Error(err)
		}
	})
	return xsk, k
}

// use makes the kernel's rings those of a socket that has none.
func (k *playedKernel) use(xsk *Socket) {
	xsk.kick = func(_ int, s side) unix.Errno {
		if s == rxSide {
			k.rxKicks++
			return 0
		}
		return k.onKick(k)
	}
	xsk.fill, xsk.comp, xsk.rx, xsk.tx = newProdRing(k.fill), newConsRing(k.comp), newConsRing(k.rx), newProdRing(k.tx)
	xsk.rxStart = xsk.rx.cachedCons
	xsk.queue.exact, xsk.queue.origin = true, start
	xsk.join()
}

// receive makes up to n frames arrive and returns how many found a chunk.
func (k *playedKernel) receive(n int, length uint32) int {
	size := uint32(len(k.rx.descs))
	got := 0
	for ; got < n && k.rxProd-k.rx.consumer.Load() < size; got++ {
		if !k.takeFill() {
			break
		}
		last := len(k.taken) - 1
		k.rx.descs[k.rxProd&(size-1)] = unix.XDPDesc{Addr: k.taken[last] + packet.Headroom, Len: length}
		k.taken = k.taken[:last]
		k.rxProd++
	}
	k.rx.producer.Store(k.rxProd)
	return got
}

// takeFill takes the fill ring's chunks when the kernel has none, and says
// whether it has one now.
func (q *playedQueue) takeFill() bool {
	if len(q.taken) == 0 {
		size := uint32(len(q.fill.descs))
		for q.fillCons != q.fill.producer.Load() && (!q.sparing || len(q.taken) == 0) {
			q.taken = append(q.taken, q.fill.descs[q.fillCons&(size-1)]&^(packet.ChunkSize-1))
			q.fillCons++
		}
		q.fill.consumer.Store(q.fillCons)
	}
	return len(q.taken) > 0
}

// fillLeft returns how many chunks the kernel has to receive into.
func (q *playedQueue) fillLeft() int { return len(q.taken) + int(q.fill.producer.Load()-q.fillCons) }

// transmit takes up to n frames out of the TX ring.
func (k *playedKernel) transmit(n int) {
	size := uint32(len(k.tx.descs))
	for ; n > 0 && k.txCons != k.tx.producer.Load(); n-- {
		d := k.tx.descs[k.txCons&(size-1)]
		k.sent = append(k.sent, d)
		k.flight = append(k.flight, d.Addr)
		k.txCons++
	}
	k.tx.consumer.Store(k.txCons)
}

// complete puts up to n sent frames into the completion ring.
func (q *playedQueue) complete(n int) {
	size := uint32(len(q.comp.descs))
	n = min(n, len(q.flight), int(size-(q.compProd-q.comp.consumer.Load())))
	for _, addr := range q.flight[:n] {
		q.comp.descs[q.compProd&(size-1)] = addr
		q.compProd++
	}
	q.flight = q.flight[:copy(q.flight, q.flight[n:])]
	q.comp.producer.Store(q.compProd)
}

// census counts what the played kernel and the rings hold, from its side, for
// the only socket of a queue.
func (k *playedKernel) census() packet.Census {
	return packet.Census{
		Fill:       k.fillLeft(),
		Rx:         int(k.rxProd - k.rx.consumer.Load()),
		Tx:         len(k.flight) + int(k.tx.producer.Load()-k.txCons),
		Completion: int(k.compProd - k.comp.consumer.Load()),
	}
}

// testUMEM is a UMEM with the pool of one worker.
type testUMEM struct {
	*UMEM
	pool   *packet.Pool
	played uint32 // queues whose kernel the test plays
}

// newUMEM makes a UMEM as the engine does: a memfd, so that other mappings of
// it may exist.
func newUMEM(t testing.TB, chunks int) *testUMEM {
	t.Helper()
	fd, err := unix.MemfdCreate("umem", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	size := chunks * packet.ChunkSize
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		t.Fatal(err)
	}
	mem, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(mem); err != nil {
			t.Error(err)
		}
	})
	depot := packet.NewDepot(len(mem))
	umem, err := NewUMEM(mem, depot)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := umem.Close(); err != nil {
			t.Error(err)
		}
	})
	return &testUMEM{UMEM: umem, pool: depot.Pool()}
}

// account fails unless every chunk is where exactly one party has it: the
// depot or a pool, a socket (by the rings, and by the record), or held.
func account(t testing.TB, umem *testUMEM, held int) {
	t.Helper()
	if err := umem.Verify(held); err != nil {
		t.Fatal(err)
	}
}
