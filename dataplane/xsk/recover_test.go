package xsk

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sfc/dataplane/packet"
)

// life is a process that uses a UMEM until it is killed: two workers with a
// socket each on an ingress and an egress queue.
type life struct {
	umem    *testUMEM
	workers []*playedWorker
}

// nextLife adopts what the one before left in its record and rings.
func nextLife(t *testing.T, before *life) (*life, Recovery) {
	t.Helper()
	old := before.umem.UMEM
	record, err := openRecord(old.record.mem, len(old.where))
	if err != nil {
		t.Fatal(err)
	}
	u := &UMEM{mem: old.mem, depot: packet.NewDepot(len(old.mem)), record: record}
	l := &life{umem: &testUMEM{UMEM: u}}
	for _, w := range before.workers {
		n := &playedWorker{pool: u.depot.Pool(), kin: w.kin, kout: w.kout}
		adopt := func(s *Socket, k *playedKernel) *Socket {
			g := Grant{
				ID: s.id, QueueID: s.queue.id, Queue: s.queue.number, Chunks: len(u.where), RingSize: s.opts.RingSize, FillRing: s.queue.size,
				FillTarget: uint32(s.queue.target), Reserve: uint32(s.queue.reserve), TxBudget: s.opts.TxBudget, NeedWakeup: true, Exact: true,
			}
			if err := g.validate(); err != nil {
				t.Fatal(err)
			}
			q, err := u.queueOf(&g)
			if err != nil {
				t.Fatal(err)
			}
			x := &Socket{umem: u, queue: q, pool: n.pool, fd: -1, opts: g.options(), info: g.info(), id: g.ID, txMark: inTx.of(g.ID)}
			u.sockets = atIndex(u.sockets, x.id, x)
			k.use(x)
			return x
		}
		n.in, n.out = adopt(w.in, w.kin), adopt(w.out, w.kout)
		l.workers = append(l.workers, n)
	}
	for _, s := range old.sockets {
		s.closed = true // the process is gone
	}
	old.sockets = nil
	did, err := u.recover(time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	return l, did
}

// step does something that workers or the kernel do, at random.
func (l *life) step(rng *rand.Rand) {
	w := l.workers[rng.IntN(len(l.workers))]
	var buf [packet.BurstSize]packet.Frame
	switch rng.IntN(9) {
	case 0, 1:
		w.kin.receive(rng.IntN(40), 60)
	case 2, 3:
		n := w.in.Receive(buf[:rng.IntN(len(buf)+1)])
		w.held = append(w.held, buf[:n]...)
	case 4, 5:
		n := w.out.Transmit(w.held[:min(len(w.held), rng.IntN(40))])
		w.held = w.held[n:]
	case 6:
		w.out.Flush()
		w.kout.sent = w.kout.sent[:0]
	case 7:
		w.kout.complete(rng.IntN(80))
	case 8:
		w.in.Refill()
		w.out.Refill()
	}
}

// cut does the first part of something, up to where a process may be killed, and
// says what.
func (l *life) cut(rng *rand.Rand) string {
	w := l.workers[rng.IntN(len(l.workers))]
	where := l.umem.where
	switch rng.IntN(5) {
	case 0: // fillUp, not submitted, the last chunk perhaps not marked
		s := w.in
		if !s.enter() {
			return "nothing"
		}
		n, idx := s.fill.reserve(uint32(rng.IntN(40)))
		for i := range n {
			c, ok := s.pool.Get()
			if !ok {
				break
			}
			s.fill.put(idx+i, uint64(c)|lap(idx+i, s.fill.mask))
			if i < n-1 || rng.IntN(2) == 0 {
				where[c/packet.ChunkSize] = inFill.of(s.queue.id)
			}
		}
		return "fill"
	case 1: // Receive, not released
		s := w.in
		n, idx := s.rx.peek(uint32(rng.IntN(40)))
		for i := range n {
			if rng.IntN(8) > 0 {
				where[s.rx.at(idx+i).Addr/packet.ChunkSize] = 0
			}
		}
		return "receive"
	case 2: // Transmit, not submitted
		s := w.out
		n, idx := s.tx.reserve(uint32(min(len(w.held), rng.IntN(40))))
		for i, f := range w.held[:n] {
			s.tx.put(idx+uint32(i), unix.XDPDesc{Addr: uint64(f.Chunk) + uint64(f.Off), Len: uint32(f.Len)})
			if i < int(n)-1 || rng.IntN(2) == 0 {
				where[f.Chunk/packet.ChunkSize] = s.txMark
			}
		}
		return "transmit"
	case 3: // collect, not released
		s := w.out
		if !s.enter() {
			return "nothing"
		}
		n, idx := s.comp.peek(uint32(rng.IntN(64)))
		for i := range n {
			if rng.IntN(8) > 0 {
				where[s.comp.at(idx+i)/packet.ChunkSize] = 0
			}
		}
		return "collect"
	}
	return "nothing"
}

// kernelHolds returns the chunks that the kernel has and no ring shows.
func (l *life) kernelHolds() (rx, tx map[uint64]bool) {
	rx, tx = map[uint64]bool{}, map[uint64]bool{}
	w := l.workers[0] // all share the queues
	for _, q := range []*playedQueue{w.kin.playedQueue, w.kout.playedQueue} {
		for _, a := range q.taken {
			rx[a/packet.ChunkSize] = true
		}
		for _, a := range q.flight {
			tx[a/packet.ChunkSize] = true
		}
	}
	return rx, tx
}

// A process is killed at thousands of points, between any two of its stores that
// matter. Whoever adopts its sockets finds every chunk in exactly one place, and
// goes on; nothing is lost when the kernel holds nothing aside, and otherwise no
// more than was said.
func TestKilledAnywhere(t *testing.T) {
	for _, sparing := range []bool{true, false} {
		t.Run(fmt.Sprintf("sparing=%v", sparing), func(t *testing.T) {
			const ring, chunks, lives = 64, 1024, 1000
			rng := rand.New(rand.NewPCG(7, 7))
			first := newUMEM(t, chunks)
			opts := Options{RingSize: ring, FillRing: ring, FillTarget: 48, Reserve: 16, TxBudget: 32}
			queues := newPlayedQueues(ring)
			queues.in.sparing, queues.out.sparing = sparing, sparing
			l := &life{umem: first}
			for range 2 {
				l.workers = append(l.workers, queues.worker(t, first, opts))
			}
			cuts, lost, unsure, moved := map[string]int{}, 0, 0, uint64(0)
			for range lives {
				for range rng.IntN(60) {
					l.step(rng)
				}
				cuts[l.cut(rng)]++
				for range rng.IntN(3) { // the kernel goes on alone
					w := l.workers[rng.IntN(2)]
					w.kin.receive(rng.IntN(10), 60)
					w.kout.complete(rng.IntN(30))
				}
				for _, w := range l.workers {
					moved += w.in.received
				}
				next, did := nextLife(t, l)
				l = next
				account(t, l.umem, 0)
				rx, tx := l.kernelHolds()
				isFree := map[uint64]bool{}
				if err := l.umem.depot.Check(func(c uint32) { isFree[uint64(c)/packet.ChunkSize] = true }); err != nil {
					t.Fatal(err)
				}
				for _, held := range []map[uint64]bool{rx, tx} {
					for c := range held {
						if isFree[c] {
							t.Fatalf("chunk %d is the kernel's (%d to receive, %d to send), and free: %+v, cuts %v", c, len(rx), len(tx), did, cuts)
						}
					}
				}
				sum := packet.Census{}
				for _, s := range l.umem.sockets {
					sum = sum.Add(s.Census())
				}
				// What sockets hold beyond what rings and kernel have is lost.
				rings := 0
				for _, w := range l.workers {
					rings += int(w.in.rx.ready()) + int(w.out.tx.waiting())
				}
				for _, q := range []*queue{l.workers[0].in.queue, l.workers[0].out.queue} {
					rings += int(q.sockets[0].fill.waiting())
				}
				leak := sum.Total() - rings - len(rx) - len(tx)
				if leak < 0 || leak > did.Kept || did.Free+sum.Total() != chunks {
					t.Fatalf("%d chunks lost, %+v, census %+v, in rings %d, the kernel's %d and %d", leak, did, sum, rings, len(rx), len(tx))
				}
				if leak > 0 {
					unsure++
				}
				if did.InFlight == 0 {
					lost += leak
				}
			}
			t.Logf("%d lives, cut in %v; %d times uncertain, %d chunks lost; %d frames received", lives, cuts, unsure, lost, moved)
			if moved < 10_000 || lost > 0 {
				t.Errorf("%d frames received, %d chunks lost", moved, lost)
			}
			for _, w := range l.workers {
				w.close(t, l.umem)
			}
			if l.umem.depot.Free() != chunks {
				t.Errorf("%d of %d chunks free at the end", l.umem.depot.Free(), chunks)
			}
		})
	}
}

// What no process leaves is refused, and not made worse.
func TestRecoverRefusesNonsense(t *testing.T) {
	for name, spoil := range map[string]func(*life){
		"address outside": func(l *life) { f := &l.workers[0].in.fill; f.descs[f.consumer.Load()&f.mask] = 1 << 40 },
		"chunk in two rings": func(l *life) {
			w := l.workers[0]
			f := w.in.fill
			w.out.fill.descs[w.out.fill.consumer.Load()&f.mask] = f.at(f.consumer.Load())
		},
		"more than fits": func(l *life) { f := &l.workers[0].out.tx; f.producer.Store(f.consumer.Load() + 1000) },
		"marked as another's": func(l *life) {
			f := &l.workers[0].in.fill
			l.umem.where[f.at(f.consumer.Load())/packet.ChunkSize] = l.workers[0].out.txMark
		},
		"record of other size": func(l *life) { l.umem.head.chunks++ },
	} {
		t.Run(name, func(t *testing.T) {
			umem := newUMEM(t, 512)
			l := &life{umem: umem}
			l.workers = append(l.workers, newPlayedQueues(64).worker(t, umem, Options{RingSize: 64, FillRing: 64}))
			l.workers[0].in.Refill()
			l.workers[0].out.Refill()
			spoil(l)
			record, err := openRecord(umem.record.mem, 512)
			if err == nil {
				u := &UMEM{mem: umem.mem, depot: packet.NewDepot(len(umem.mem)), record: record, sockets: umem.sockets, queues: umem.queues}
				for _, s := range u.sockets {
					s.fill.resync()
					s.tx.resync()
				}
				_, err = u.recover(0)
			}
			if !errors.Is(err, ErrChunks) && !errors.Is(err, ErrRecord) {
				t.Errorf("error %v", err)
			}
			umem.head.chunks = 512 // so that the sockets can be closed
			l.workers[0].out.tx.producer.Store(l.workers[0].out.tx.consumer.Load())
			l.workers[0].out.tx.resync()
		})
	}
}
