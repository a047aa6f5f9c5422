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
			if waiting := w.out.Flush(); waiting == drained(w.out) {
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
				sent := 0
				for sent < n && !stop.Load() { // the kernel may have stopped before
					sent += w.out.Transmit(buf[sent:n])
					w.out.Flush()
				}
				for _, f := range buf[sent:n] {
					w.in.pool.Put(f.Chunk)
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

// drained says whether everything that was given to Transmit has left.
func drained(s *Socket) bool {
	_, tx := s.Waiting()
	return tx == 0
}
