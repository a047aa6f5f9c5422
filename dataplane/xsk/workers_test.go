package xsk

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// orders lists the orders of n things.
func orders(n int) (all [][]int) {
	if n == 0 {
		return [][]int{nil}
	}
	for _, o := range orders(n - 1) {
		for i := range n {
			all = append(all, slices.Insert(slices.Clone(o), i, n-1))
		}
	}
	return all
}

// TestWorkersShareAQueue: two and three sockets on each of two queues forward
// what the program gives them, and are closed in every order.
func TestWorkersShareAQueue(t *testing.T) {
	for _, workers := range []int{2, 3} {
		for _, borrow := range []bool{false, true} {
			for i, order := range orders(workers) {
				if borrow && order[0] != 0 {
					continue // the first stays: nothing is special
				}
				t.Run(fmt.Sprintf("%d/borrow=%v/close=%v", workers, borrow, order), func(t *testing.T) {
					w := newWire(t)
					chunks, opts, err := Sizing{Queues: 2, Workers: workers, RingSize: 512}.Size()
					if err != nil {
						t.Fatal(err)
					}
					opts.borrow = borrow
					umem := newUMEM(t, chunks)
					all := startSharers(t, w, umem, workers, opts)
					total := 3000
					if i == 0 {
						total = 30_000
					}
					pump(t, w, total, 128, workers, func(int) bool { return true })
					moved := 0
					for _, s := range all {
						s.halt()
						moved += s.moved
						if s.moved != total/workers {
							t.Errorf("a worker moved %d of %d frames", s.moved, total)
						}
						for _, xsk := range []*Socket{s.in, s.out} {
							st, err := xsk.Stats()
							if err != nil {
								t.Fatal(err)
							}
							st.TxRingEmpty, st.Wakeups = 0, 0
							if st != (Stats{}) {
								t.Errorf("statistics %+v, want no trouble", st)
							}
						}
					}
					account(t, umem, 0)
					for _, k := range order {
						if err := errors.Join(all[k].out.Close(), all[k].in.Close()); err != nil {
							t.Fatal(err)
						}
						umem.depot.Retire(all[k].pool)
						account(t, umem, 0)
					}
					if umem.depot.Free() != chunks {
						t.Errorf("%d of %d chunks are free after close", umem.depot.Free(), chunks)
					}
				})
			}
		}
	}
}

// TestQueueGoesOnWithoutItsFirstSocket: the socket that made a queue's rings is
// closed under traffic of another one, which loses nothing.
func TestQueueGoesOnWithoutItsFirstSocket(t *testing.T) {
	for _, borrow := range []bool{false, true} {
		t.Run(fmt.Sprintf("borrow=%v", borrow), func(t *testing.T) {
			w := newWire(t)
			umem := newUMEM(t, 4096)
			opts := Options{RingSize: 512, FillTarget: 256, borrow: borrow}
			first := &sharer{pool: umem.depot.Pool()}
			mine := &testUMEM{UMEM: umem.UMEM, pool: first.pool}
			first.in, first.out = open(t, mine, w.in, opts), open(t, mine, w.out, opts)
			// The second is worker 0 of the program's map: the first has no frames.
			all := startSharers(t, w, umem, 1, opts)
			var closing sync.WaitGroup
			closing.Go(func() {
				time.Sleep(20 * time.Millisecond)
				if err := errors.Join(first.in.Close(), first.out.Close()); err != nil {
					t.Error(err)
				}
			})
			pump(t, w, 60_000, 128, 1, func(int) bool { return true })
			closing.Wait()
			all[0].halt()
			account(t, umem, 0)
			pump2 := &testUMEM{UMEM: umem.UMEM, pool: umem.depot.Pool()}
			open(t, pump2, w.in, opts) // and a queue that lost its first takes more
			account(t, umem, 0)
		})
	}
}

// TestStalledWorkerCostsTheOthersNothing: a worker stops to receive, the frames
// of the other one all arrive.
func TestStalledWorkerCostsTheOthersNothing(t *testing.T) {
	w := newWire(t)
	chunks, opts, err := Sizing{Queues: 2, Workers: 2, RingSize: 512}.Size()
	if err != nil {
		t.Fatal(err)
	}
	umem := newUMEM(t, chunks)
	all := startSharers(t, w, umem, 2, opts)
	all[1].stall.Store(true)
	time.Sleep(5 * time.Millisecond) // it is in the middle of a turn perhaps
	const total = 40_000
	pump(t, w, total, 64, 2, func(worker int) bool { return worker == 0 })
	for _, s := range all {
		s.halt()
	}
	st, err := all[1].in.Stats()
	if err != nil || st.RxRingFull != total/2-512 || st.RxFillEmpty != 0 {
		t.Errorf("statistics of the stalled socket %+v, %v: want all that its ring did not hold", st, err)
	}
	if st, err := all[0].in.Stats(); err != nil || st.RxRingFull != 0 || st.RxDropped != 0 {
		t.Errorf("statistics of the other socket %+v, %v", st, err)
	}
	if all[0].moved != total/2 || all[1].in.Census().Rx != 512 {
		t.Errorf("moved %d, the stalled one has %+v", all[0].moved, all[1].in.Census())
	}
	account(t, umem, 0)
}

// TestUnsentFramesComeBack: a socket is closed while its frames cannot leave,
// and another one of the queue stays.
func TestUnsentFramesComeBack(t *testing.T) {
	w := newWire(t)
	umem := newUMEM(t, 2048)
	opts := Options{RingSize: 256, FillTarget: 128}
	other := &testUMEM{UMEM: umem.UMEM, pool: umem.depot.Pool()}
	a, b := open(t, umem, w.out, opts), open(t, other, w.out, opts)
	set(t, w.out, netlink.LinkSetDown)
	if n := a.Transmit(fillFrames(t, umem, 100)); n != 100 {
		t.Fatalf("Transmit = %d", n)
	}
	if n := b.Transmit(fillFrames(t, other, 50)); n != 50 || !b.Flush() || drained(b) {
		t.Fatalf("Transmit = %d; frames left through an interface that is down", n)
	}
	account(t, umem, 0)
	exact := a.queue.exact
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	account(t, umem, 0)
	want := 50
	if !exact {
		want = 150
	}
	if c := b.Census(); c.Tx != want {
		t.Errorf("census %+v, want %d frames to send", c, want)
	}
	set(t, w.out, netlink.LinkSetUp)
	for end := time.Now().Add(2 * time.Second); !drained(b) && time.Now().Before(end); {
		b.Flush()
	}
	if !drained(b) {
		t.Errorf("frames still wait: %+v", b.Census())
	}
	account(t, umem, 0)
}
