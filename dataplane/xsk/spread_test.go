package xsk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sfc/dataplane/packet"
	"sfc/testbed/netns"
	"sfc/testbed/trafgen"
)

// spread attaches a program that sends numbered frames in turn to n sockets
// (number modulo n) and drops those for which the map has none.
func spread(t testing.TB, l *netns.Link, n int) *ebpf.Map {
	t.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: uint32(n)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	const data, dataEnd, number = 0, 4, 14
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, License: "GPL",
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R2, asm.R1, data, asm.Word),
			asm.LoadMem(asm.R3, asm.R1, dataEnd, asm.Word),
			asm.Mov.Reg(asm.R4, asm.R2),
			asm.Add.Imm(asm.R4, number+4),
			asm.JGT.Reg(asm.R4, asm.R3, "drop"),
			asm.LoadMem(asm.R2, asm.R2, number, asm.Word),
			asm.HostTo(asm.BE, asm.R2, asm.Word),
			asm.Mod.Imm(asm.R2, int32(n)),
			asm.LoadMapPtr(asm.R1, m.FD()),
			asm.Mov.Imm(asm.R3, 1), // XDP_DROP
			asm.FnRedirectMap.Call(),
			asm.Return(),
			asm.Mov.Imm(asm.R0, 1).WithSymbol("drop"),
			asm.Return(),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prog.Close() })
	var lk link.Link
	err = l.NS.Do(func() error {
		lk, err = link.AttachXDP(link.XDPOptions{Program: prog, Interface: l.Index, Flags: link.XDPDriverMode})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lk.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// sharer is a worker with a socket on each of two queues that others serve too.
type sharer struct {
	pool    *packet.Pool
	in, out *Socket
	stall   atomic.Bool // stands still
	stop    atomic.Bool
	done    chan struct{}
	moved   int
}

// startSharers opens n workers between w.in and w.out and starts them.
func startSharers(t testing.TB, w wire, umem *testUMEM, n int, opts Options) []*sharer {
	t.Helper()
	m := spread(t, w.in, n)
	all := make([]*sharer, n)
	for i := range all {
		s := &sharer{pool: umem.depot.Pool(), done: make(chan struct{})}
		mine := &testUMEM{UMEM: umem.UMEM, pool: s.pool}
		s.in, s.out = open(t, mine, w.in, opts), open(t, mine, w.out, opts)
		if err := m.Put(uint32(i), uint32(s.in.PollFD())); err != nil {
			t.Fatal(err)
		}
		all[i] = s
	}
	for _, s := range all {
		go s.run()
		t.Cleanup(s.halt)
	}
	return all
}

func (s *sharer) run() {
	defer close(s.done)
	var buf [packet.BurstSize]packet.Frame
	poll := []unix.PollFd{{Fd: int32(s.in.PollFD()), Events: unix.POLLIN}}
	for !s.stop.Load() {
		if s.stall.Load() {
			time.Sleep(time.Millisecond)
			continue
		}
		n := s.in.Receive(buf[:])
		s.in.Refill()
		for sent := 0; sent < n && !s.stop.Load(); {
			sent += s.out.Transmit(buf[sent:n])
			s.out.Flush()
		}
		s.moved += n
		if !s.out.Flush() && n == 0 {
			_, _ = unix.Poll(poll, 1)
		}
	}
}

func (s *sharer) halt() {
	if !s.stop.Swap(true) {
		<-s.done
	}
}

// pump sends numbered frames and checks that those that worker answers for
// arrive, in the order of each worker, unchanged, with at most window of them
// under way.
func pump(t *testing.T, w wire, total, window, workers int, answers func(worker int) bool) {
	t.Helper()
	s, err := trafgen.OpenSender(w.src)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r, err := trafgen.OpenReceiver(w.dst)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var mem [packet.BurstSize][packet.MaxFrame]byte
	var want [packet.MaxFrame]byte
	next := make([]int, workers) // number expected of each
	for i := range next {
		next[i] = i
	}
	sent, due, got := 0, 0, 0
	for sent < total || got < due {
		var frames [][]byte
		for len(frames) < len(mem) && sent < total && due-got < window {
			frames = append(frames, numbered(mem[len(frames)][:], sent))
			if answers(sent % workers) {
				due++
			}
			sent++
		}
		for rest := frames; len(rest) > 0; {
			n, err := s.Send(rest)
			if err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		in, err := r.Receive()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range in {
			i := int(binary.BigEndian.Uint32(f[14:]))
			if i >= total || i != next[i%workers] || !bytes.Equal(f, numbered(want[:], i)) {
				t.Fatalf("frame %d came, of worker %d, who was to send %d", i, i%workers, next[i%workers])
			}
			next[i%workers] += workers
			got++
		}
		if len(in) == 0 && len(frames) == 0 {
			if arrived, err := r.Wait(5 * time.Second); err != nil || !arrived {
				t.Fatalf("sent %d, %d are due, %d came, then nothing for 5 s (%v)", sent, due, got, err)
			}
		}
	}
	if d, err := r.Dropped(); err != nil || d != 0 {
		t.Errorf("receiver dropped %d, %v", d, err)
	}
}

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
	if n := b.Transmit(fillFrames(t, other, 50)); n != 50 || !b.Flush() || b.TxDrained() {
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
	for end := time.Now().Add(2 * time.Second); !b.TxDrained() && time.Now().Before(end); {
		b.Flush()
	}
	if !b.TxDrained() {
		t.Errorf("frames still wait: %+v", b.Census())
	}
	account(t, umem, 0)
}
