package xsk

import (
	"bytes"
	"encoding/binary"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
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
