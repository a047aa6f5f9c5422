package xsk

import (
	"testing"

	"golang.org/x/sys/unix"

	"sfc/dataplane/packet"
)

func TestHeldLockIsPassedBy(t *testing.T) {
	umem := newUMEM(t, 512)
	opts := Options{RingSize: 64, FillTarget: 32}
	queues := newPlayedQueues(64)
	a, b := queues.worker(t, umem, opts), queues.worker(t, umem, opts)
	a.in.Refill()
	a.kin.receive(20, 60)
	var f [packet.BurstSize]packet.Frame
	if n := a.in.Receive(f[:]); n != 20 {
		t.Fatalf("received %d", n)
	}
	a.out.Transmit(f[:20])
	a.out.Flush()
	queues.out.complete(20)
	if !b.in.enter() || !b.out.enter() {
		t.Fatal("nobody has the locks, and they are not to be had")
	}
	if a.in.enter() {
		t.Fatal("two have the lock")
	}
	before := a.pool.Free()
	a.in.Refill()
	a.out.Refill()
	if a.out.Flush() || a.pool.Free() != before || queues.in.fillLeft() != 12 {
		t.Errorf("a worker without the lock changed the rings: %d in the fill ring", queues.in.fillLeft())
	}
	b.in.leave()
	b.out.leave()
	b.out.Flush() // takes back what the other one sent
	b.in.Refill()
	if queues.in.fillLeft() != 32 || !b.out.comp.idle() {
		t.Errorf("%d in the fill ring, want 32", queues.in.fillLeft())
	}
	account(t, umem, 0)
}

func TestOldKernelSendsOneAtATime(t *testing.T) {
	umem := newUMEM(t, 512)
	opts := Options{RingSize: 64, FillTarget: 32}
	queues := newPlayedQueues(64)
	a, b := queues.worker(t, umem, opts), queues.worker(t, umem, opts)
	a.out.queue.exact = false
	a.out.Transmit(take(t, &testUMEM{UMEM: umem.UMEM, pool: a.pool}, 10))
	if !b.out.queue.sending.try() {
		t.Fatal("nobody sends, and the lock is held")
	}
	if !a.out.Flush() || a.out.wakeups != 0 || drained(a.out) {
		t.Errorf("%d system calls while another socket sends", a.out.wakeups)
	}
	b.out.queue.sending.release()
	if a.out.Flush() || a.out.wakeups != 1 || !drained(a.out) {
		t.Errorf("%d system calls, want 1", a.out.wakeups)
	}
	queues.out.complete(10)
	a.out.Flush()

	// What such a kernel left in a TX ring may have been sent: it stays with
	// the queue.
	a.kout.onKick = func(*playedKernel) unix.Errno { return unix.EAGAIN }
	a.out.Transmit(take(t, &testUMEM{UMEM: umem.UMEM, pool: a.pool}, 7))
	a.close(t, umem)
	account(t, umem, 0)
	if c := b.out.Census(); c.Tx != 7 {
		t.Errorf("census %+v of the last socket, want 7 frames to send", c)
	}
	b.close(t, umem)
	account(t, umem, 0)
	if umem.depot.Free() != 512 {
		t.Errorf("%d of 512 free", umem.depot.Free())
	}
}

// TestSleepersFindChunks: all workers but one stand still and that one sleeps,
// so nobody fills the fill ring. What comes for those that stand still fills
// their RX rings, and the frames that wake the sleeper up still find chunks.
func TestSleepersFindChunks(t *testing.T) {
	s := Sizing{Queues: 2, Workers: 3, RingSize: 64}
	chunks, opts, err := s.Size()
	if err != nil {
		t.Fatal(err)
	}
	umem := newUMEM(t, chunks)
	queues := newPlayedQueues(opts.FillRing)
	good := queues.worker(t, umem, opts)
	good.in.Refill()
	for range s.Workers - 1 {
		w := queues.worker(t, umem, opts)
		if n := w.kin.receive(10*int(opts.RingSize), 60); n != int(opts.RingSize) {
			t.Fatalf("a worker that stands still received %d frames, want a full RX ring", n)
		}
	}
	if n := good.kin.receive(int(opts.RingSize)/2, 60); n != int(opts.RingSize)/2 {
		t.Errorf("only %d of %d frames for the sleeper found a chunk", n, opts.RingSize/2)
	}
}

// TestStalledWorkerStarvesNobody: whatever stands still holds what Sizing says
// it may, and the rest is enough.
func TestStalledWorkerStarvesNobody(t *testing.T) {
	s := Sizing{Queues: 2, Workers: 3, Held: 50, RingSize: 64}
	chunks, opts, err := s.Size()
	if err != nil {
		t.Fatal(err)
	}
	umem := newUMEM(t, chunks)
	queues := newPlayedQueues(opts.FillRing)
	ring := int(opts.RingSize)
	good := queues.worker(t, umem, opts)
	var stalled []*playedWorker
	for range s.Workers - 1 {
		stalled = append(stalled, queues.worker(t, umem, opts))
	}
	get := func(w *playedWorker, n int) []packet.Frame {
		return take(t, &testUMEM{UMEM: umem.UMEM, pool: w.pool}, n)
	}
	for _, w := range stalled {
		w.held = get(w, s.Held+packet.BurstSize)
		for _, xsk := range []*Socket{w.in, w.out} {
			if n := xsk.Transmit(get(w, ring)); n != ring {
				t.Fatalf("Transmit = %d", n)
			}
		}
		for _, f := range get(w, packet.PoolLimit) {
			w.pool.Put(f.Chunk)
		}
		for _, k := range []*playedKernel{w.kin, w.kout} { // RX rings run full
			for got := 0; got < 10*ring; got += 8 {
				good.in.Refill()
				good.out.Refill()
				k.receive(8, 60)
			}
		}
		if c := w.in.Census(); c.Rx != ring {
			t.Fatalf("census %+v of a stalled worker, want a full RX ring", c)
		}
	}
	hand := heldBy(stalled)
	var buf [packet.BurstSize]packet.Frame
	for range 200 { // traffic, and as much as a ring holds not yet sent
		good.in.Refill()
		good.out.Refill()
		for _, q := range []*playedQueue{queues.in, queues.out} {
			if q.fillLeft() != int(opts.FillTarget) {
				t.Fatalf("fill ring has %d chunks, want %d", q.fillLeft(), opts.FillTarget)
			}
		}
		if n := good.kin.receive(32, 60); n != 32 {
			t.Fatalf("only %d of 32 frames found a chunk", n)
		}
		n := good.in.Receive(buf[:])
		if n != 32 || good.out.Transmit(buf[:n]) != n {
			t.Fatalf("received %d", n)
		}
		good.out.Flush()
		if len(queues.out.flight) >= ring {
			queues.out.complete(32)
		}
		account(t, umem, hand)
	}
	for _, w := range append(stalled, good) {
		w.close(t, umem)
	}
	if umem.depot.Free() != chunks {
		t.Errorf("%d of %d free", umem.depot.Free(), chunks)
	}
}

func TestSharedDataPathDoesNotAllocate(t *testing.T) {
	umem := newUMEM(t, 2048)
	opts := Options{RingSize: 256, FillTarget: 200}
	queues := newPlayedQueues(256)
	queues.out.flight = make([]uint64, 0, 1024)
	queues.in.taken = make([]uint64, 0, 1024)
	workers := []*playedWorker{queues.worker(t, umem, opts), queues.worker(t, umem, opts)}
	var f [packet.BurstSize]packet.Frame
	moved := 0
	allocs := testing.AllocsPerRun(1000, func() {
		for i, w := range workers {
			other := workers[1-i]
			w.in.Refill()
			w.out.Refill()
			w.kin.receive(len(f), 60)
			n := w.in.Receive(f[:])
			moved += other.out.Transmit(f[:n]) // so that chunks change pools
			other.out.Flush()
			_ = drained(other.out)
			queues.out.complete(len(f))
			other.kout.sent = other.kout.sent[:0]
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations per turn", allocs)
	}
	if moved != 2*1001*len(f) {
		t.Errorf("moved %d frames", moved)
	}
	account(t, umem, 0)
}

// BenchmarkSharedRings is BenchmarkRings for two workers that take turns, so
// that each finds the shared rings changed.
func BenchmarkSharedRings(b *testing.B) {
	umem := newUMEM(b, 2048)
	opts := Options{RingSize: 256, FillTarget: 200}
	queues := newPlayedQueues(256)
	workers := []*playedWorker{queues.worker(b, umem, opts), queues.worker(b, umem, opts)}
	var f [packet.BurstSize]packet.Frame
	for b.Loop() {
		for _, w := range workers {
			w.in.Refill()
			w.kin.receive(len(f), 60)
			n := w.in.Receive(f[:])
			w.out.Transmit(f[:n])
			w.out.Flush()
			queues.out.complete(len(f))
			w.kout.sent = w.kout.sent[:0]
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(2*b.N*len(f)), "ns/pkt")
}
