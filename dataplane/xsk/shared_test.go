package xsk

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"sfc/dataplane/packet"
)

// playedWorker is a worker with a socket on each of two played queues.
type playedWorker struct {
	pool      *packet.Pool
	in, out   *Socket
	kin, kout *playedKernel
	held      []packet.Frame
}

// playedQueues are the kernel's halves of an ingress and an egress queue.
type playedQueues struct{ in, out *playedQueue }

func newPlayedQueues(ring uint32) playedQueues {
	make1 := func(number uint32) *playedQueue {
		return &playedQueue{
			number: number, fill: fakeRing[uint64](ring), comp: fakeRing[uint64](ring), fillCons: start, compProd: start,
		}
	}
	return playedQueues{make1(1000), make1(1001)}
}

func (q playedQueues) worker(t testing.TB, umem *testUMEM, opts Options) *playedWorker {
	w := &playedWorker{pool: umem.depot.Pool()}
	w.in, w.kin = playOn(t, umem, q.in, w.pool, opts)
	w.out, w.kout = playOn(t, umem, q.out, w.pool, opts)
	return w
}

// close closes the worker's sockets and drops what it holds.
func (w *playedWorker) close(t testing.TB, umem *testUMEM) {
	t.Helper()
	for _, f := range w.held {
		w.pool.Put(f.Chunk)
	}
	w.held = nil
	if err := errors.Join(w.in.Close(), w.out.Close()); err != nil {
		t.Fatal(err)
	}
	umem.depot.Retire(w.pool)
}

// TestSharedRingsAgainstPlayedKernel has up to four workers on two queues, who
// come and go, pass frames to each other, and send what another received.
func TestSharedRingsAgainstPlayedKernel(t *testing.T) {
	const ring = 64
	rng := rand.New(rand.NewPCG(5, 5))
	umem := newUMEM(t, 1024)
	opts := Options{RingSize: ring, FillTarget: 48, Reserve: 16, TxBudget: 32}
	queues := newPlayedQueues(ring)
	workers := []*playedWorker{queues.worker(t, umem, opts)}
	var buf [packet.BurstSize]packet.Frame
	received, sent, joined, late := 0, 0, 0, 0
	for range 40_000 {
		w := workers[rng.IntN(len(workers))]
		switch rng.IntN(12) {
		case 0, 1:
			w.kin.receive(rng.IntN(40), 60)
		case 2, 3:
			n := w.in.Receive(buf[:rng.IntN(len(buf)+1)])
			w.held = append(w.held, buf[:n]...)
			received += n
		case 4, 5:
			n := w.out.Transmit(w.held[:min(len(w.held), rng.IntN(40))])
			w.held = w.held[n:]
			sent += n
		case 6:
			if waiting := w.out.Flush(); waiting == w.out.TxDrained() {
				t.Fatalf("Flush = %v, and drained is the same", waiting)
			}
			w.kout.sent = w.kout.sent[:0]
		case 7:
			queues.out.complete(rng.IntN(80))
		case 8, 9:
			w.in.Refill()
			w.out.Refill()
		case 10: // hand-off
			if n := len(w.held); n > 0 {
				to := workers[rng.IntN(len(workers))]
				f := w.held[n-1]
				w.held = w.held[:n-1]
				to.held = append(to.held, f)
			}
		case 11:
			switch {
			case rng.IntN(40) > 0:
			case len(workers) < 4 && rng.IntN(2) == 0:
				workers = append(workers, queues.worker(t, umem, opts))
				joined++
			case len(workers) > 1:
				i := rng.IntN(len(workers))
				w := workers[i]
				if rng.IntN(2) == 0 { // the device is stuck: what waits is not sent
					w.kout.onKick = func(*playedKernel) unix.Errno { return unix.EAGAIN }
				}
				workers = append(workers[:i], workers[i+1:]...)
				w.close(t, umem)
				late += len(queues.out.flight)
			}
		}
		hand := 0
		for _, w := range workers {
			hand += len(w.held)
		}
		account(t, umem, hand)
	}
	if received < 5000 || sent < 5000 || joined < 20 || late < 20 {
		t.Errorf("received %d, sent %d, %d workers joined, %d frames under way when one left: the test hardly moved", received, sent, joined, late)
	}
	for _, w := range workers {
		w.close(t, umem)
		account(t, umem, heldBy(workers))
	}
	if umem.depot.Free() != 1024 {
		t.Errorf("%d of 1024 chunks are free when all sockets are closed", umem.depot.Free())
	}
}

func heldBy(workers []*playedWorker) (n int) {
	for _, w := range workers {
		n += len(w.held)
	}
	return n
}

// TestWorkersServeSharedRingsAtOnce runs two workers and the played kernel on
// goroutines of their own. Each frame carries a number that the kernel writes
// and checks: a chunk with two owners would show, and so would a data race.
func TestWorkersServeSharedRingsAtOnce(t *testing.T) {
	const ring, frames, each = 64, 200_000, 2
	umem := newUMEM(t, 1024)
	opts := Options{RingSize: ring, FillTarget: 48, Reserve: 16, TxBudget: 32, NoNeedWakeup: true}
	queues := newPlayedQueues(ring)
	var workers []*playedWorker
	for range each {
		w := queues.worker(t, umem, opts)
		w.kout.tx.flags.Store(0) // the driver sends by itself
		workers = append(workers, w)
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	served, passed := make([]uint64, each), make([]uint64, each)
	for i, w := range workers {
		wg.Go(func() {
			var buf [packet.BurstSize]packet.Frame
			for !stop.Load() {
				n := w.in.Receive(buf[:])
				w.in.Refill()
				for sent := 0; sent < n; {
					sent += w.out.Transmit(buf[sent:n])
					w.out.Flush()
				}
				w.out.Refill()
				w.out.Flush()
				if w.in.enter() { // counts who gets the lock
					served[i]++
					w.in.leave()
				} else {
					passed[i]++
				}
				if n == 0 {
					runtime.Gosched() // three goroutines, perhaps two cores
				}
			}
		})
	}
	halt := func() { stop.Store(true); wg.Wait() }
	defer halt()
	// The kernel: numbers go to the workers in turn, and come back in order.
	next, back := [each]uint64{}, [each]uint64{}
	for slices.Min(back[:]) < frames {
		for i, w := range workers {
			w.kin.receiveWith(16, func(chunk uint64) {
				binary.LittleEndian.PutUint64(umem.mem[chunk+packet.Headroom:], next[i])
				next[i]++
			})
			w.kout.sent = w.kout.sent[:0]
			w.kout.transmit(16)
			for _, d := range w.kout.sent {
				if got := binary.LittleEndian.Uint64(umem.mem[d.Addr:]); got != back[i] {
					t.Fatalf("worker %d sends frame %d, want %d: its chunk had two owners", i, got, back[i])
				}
				back[i]++
			}
		}
		queues.out.complete(32)
		runtime.Gosched()
	}
	halt()
	account(t, umem, 0)
	t.Logf("got the lock %d times, passed it by %d times", served, passed)
	if slices.Min(served) == 0 {
		t.Errorf("workers got the lock %d times", served)
	}
}

// receiveWith is receive for frames whose bytes the test writes.
func (k *playedKernel) receiveWith(n int, write func(chunk uint64)) {
	for range n {
		if k.rxProd-k.rx.consumer.Load() == uint32(len(k.rx.descs)) || !k.takeFill() {
			return
		}
		write(k.taken[len(k.taken)-1])
		k.receive(1, 60)
	}
}

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
	if !a.out.Flush() || a.out.wakeups != 0 || a.out.TxDrained() {
		t.Errorf("%d system calls while another socket sends", a.out.wakeups)
	}
	b.out.queue.sending.release()
	if a.out.Flush() || a.out.wakeups != 1 || !a.out.TxDrained() {
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

// TestStalledWorkerStarvesNobody: whatever stands still holds what Sizing says
// it may, and the rest is enough.
func TestStalledWorkerStarvesNobody(t *testing.T) {
	s := Sizing{Queues: 2, Workers: 3, Held: 50, RingSize: 64}
	chunks, opts, err := s.Size()
	if err != nil {
		t.Fatal(err)
	}
	umem := newUMEM(t, chunks)
	queues := newPlayedQueues(opts.RingSize)
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
			_ = other.out.TxDrained()
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
