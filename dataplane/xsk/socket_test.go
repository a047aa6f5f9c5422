package xsk

import (
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"

	"sfc/dataplane/packet"
)

func TestForwardAgainstPlayedKernel(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	umem := newUMEM(t, 512)
	in, kin := play(t, umem, Options{RingSize: 128})
	out, kout := play(t, umem, Options{RingSize: 64, Reserve: 16})
	held := map[uint32]packet.Frame{}
	var buf [packet.BurstSize]packet.Frame
	arrived, received, sent := 0, 0, 0
	for range 50_000 {
		switch rng.IntN(8) {
		case 0:
			arrived += kin.receive(rng.IntN(80), 60)
		case 1:
			n := in.Receive(buf[:rng.IntN(len(buf)+1)])
			for _, f := range buf[:n] {
				if _, twice := held[f.Chunk]; twice || f.Off != packet.Headroom || f.Len != 60 {
					t.Fatalf("received %+v, twice: %v", f, twice)
				}
				held[f.Chunk] = f
			}
			received += n
		case 2:
			n := 0
			for _, f := range held {
				if n == len(buf) {
					break
				}
				buf[n] = f
				n++
			}
			took := out.Transmit(buf[:n])
			for _, f := range buf[:took] {
				delete(held, f.Chunk)
			}
			sent += took
		case 3:
			if waiting := out.Flush(); waiting != (kout.tx.producer.Load() != kout.txCons) {
				t.Fatalf("Flush = %v", waiting)
			}
		case 4:
			kout.complete(rng.IntN(80))
		case 5:
			in.Refill()
		case 6:
			out.Refill()
		case 7: // drop one
			for c := range held {
				delete(held, c)
				umem.pool.Put(c)
				break
			}
		}
		account(t, umem, len(held))
		for _, p := range []struct {
			s *Socket
			k *playedKernel
		}{{in, kin}, {out, kout}} {
			if c, want := p.s.Census(), p.k.census(); c != want {
				t.Fatalf("census %+v, the kernel's side says %+v", c, want)
			}
		}
		kout.sent = kout.sent[:0]
	}
	if arrived < 10_000 || received < 10_000 || sent < 10_000 {
		t.Errorf("arrived %d, received %d, sent %d: the test hardly moved", arrived, received, sent)
	}
	for _, f := range held {
		umem.pool.Put(f.Chunk)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	account(t, umem, 0)
	if err := out.Close(); err != nil {
		t.Error(err)
	}
	account(t, umem, 0)
	seen := map[uint32]bool{}
	for {
		c, ok := umem.pool.Get()
		if !ok {
			break
		}
		if seen[c] {
			t.Fatalf("chunk %#x is free twice", c)
		}
		seen[c] = true
	}
	if len(seen) != 512 {
		t.Errorf("%d chunks free after close, want 512", len(seen))
	}
}

func TestRefillLeavesOthersTheirReserve(t *testing.T) {
	umem := newUMEM(t, 256)
	greedy, _ := play(t, umem, Options{RingSize: 256, FillTarget: 256, Reserve: 64})
	late, _ := play(t, umem, Options{RingSize: 256, FillTarget: 256, Reserve: 100})
	greedy.Refill() // the other one has not asked for anything yet
	if c := greedy.Census(); c.Fill != 156 {
		t.Errorf("greedy took %d of 256 chunks, want 156: the other's reserve is 100", c.Fill)
	}
	late.Refill()
	if c := late.Census(); c.Fill != 100 {
		t.Errorf("late got %d chunks, want its reserve, 100", c.Fill)
	}
	account(t, umem, 0)
}

func TestFlushRepeatsWhileItHelps(t *testing.T) {
	tests := []struct {
		name    string
		onKick  func(k *playedKernel) unix.Errno
		frames  int
		kicks   uint64
		refused uint64
		waiting bool
	}{
		{"all at once", func(k *playedKernel) unix.Errno { k.transmit(64); return 0 }, 64, 1, 0, false},
		{"budget of 16", func(k *playedKernel) unix.Errno { k.transmit(16); return unix.EAGAIN }, 64, 4, 0, false},
		{"link busy", func(*playedKernel) unix.Errno { return unix.EAGAIN }, 64, 1, 0, true},
		{"no buffers", func(*playedKernel) unix.Errno { return unix.ENOBUFS }, 64, 1, 0, true},
		{"device drops each", func(k *playedKernel) unix.Errno { k.transmit(1); return unix.EBUSY }, 10, 10, 10, false},
		{"interface down", func(*playedKernel) unix.Errno { return unix.ENETDOWN }, 64, 1, 0, true},
		{"driver sends by itself", func(*playedKernel) unix.Errno { return 0 }, 64, 1, 0, true},
		{"nothing to send", func(*playedKernel) unix.Errno { return 0 }, 0, 0, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			umem := newUMEM(t, 128)
			xsk, k := play(t, umem, Options{RingSize: 64})
			k.onKick = tt.onKick
			if n := xsk.Transmit(take(t, umem, tt.frames)); n != tt.frames {
				t.Fatalf("Transmit = %d", n)
			}
			if waiting := xsk.Flush(); waiting != tt.waiting || xsk.wakeups != tt.kicks || xsk.refused != tt.refused {
				t.Errorf("waiting %v, %d kicks, %d refused", waiting, xsk.wakeups, xsk.refused)
			}
			account(t, umem, 0)
		})
	}
}

// take gets n chunks from the pool, as frames of 60 bytes.
func take(t *testing.T, umem *testUMEM, n int) []packet.Frame {
	t.Helper()
	f := make([]packet.Frame, n)
	for i := range f {
		c, ok := umem.pool.Get()
		if !ok {
			t.Fatal("pool is empty")
		}
		f[i] = packet.Frame{Chunk: c, Off: packet.Headroom, Len: 60}
	}
	return f
}

func TestTransmitTakesWhatFits(t *testing.T) {
	umem := newUMEM(t, 256)
	xsk, k := play(t, umem, Options{RingSize: 64, TxBudget: 32})
	k.onKick = func(*playedKernel) unix.Errno { return unix.EAGAIN }
	f := take(t, umem, 100)
	if n := xsk.Transmit(f); n != 64 {
		t.Fatalf("Transmit = %d, want the ring's size", n)
	}
	if n := xsk.Transmit(f[64:]); n != 0 {
		t.Fatalf("Transmit into a full ring = %d", n)
	}
	account(t, umem, 36)
	k.transmit(10)
	if n := xsk.Transmit(f[64:]); n != 10 {
		t.Fatalf("Transmit = %d, want the 10 free slots", n)
	}
	for i, d := range k.sent {
		if d.Addr != uint64(f[i].Pos()) || d.Len != 60 {
			t.Errorf("descriptor %d = %+v, want %+v", i, d, f[i])
		}
	}
	account(t, umem, 26)
}

func TestNeedWakeupDecidesAboutKicks(t *testing.T) {
	umem := newUMEM(t, 256)
	xsk, k := play(t, umem, Options{RingSize: 64})
	kicks := 0
	k.onKick = func(*playedKernel) unix.Errno { kicks++; return 0 }
	k.tx.flags.Store(0)
	xsk.Transmit(take(t, umem, 4))
	if !xsk.Flush() || kicks != 0 {
		t.Errorf("flag down: %d kicks", kicks)
	}
	xsk.alwaysKick = true
	if !xsk.Flush() || kicks != 1 {
		t.Errorf("bound without need-wakeup: %d kicks", kicks)
	}
	xsk.Refill()
	if k.rxKicks != 0 {
		t.Errorf("fill flag down: %d kicks", k.rxKicks)
	}
	k.fill.flags.Store(unix.XDP_RING_NEED_WAKEUP)
	xsk.Refill()
	if k.rxKicks != 1 {
		t.Errorf("fill flag up: %d kicks", k.rxKicks)
	}
}

func TestTransmitPanicsOnForeignFrames(t *testing.T) {
	umem := newUMEM(t, 128)
	xsk, _ := play(t, umem, Options{RingSize: 64})
	ok := take(t, umem, 1)[0]
	bad := map[string]packet.Frame{
		"past the chunk's end": {Chunk: ok.Chunk, Off: 2000, Len: 60},
		"too short":            {Chunk: ok.Chunk, Off: 256, Len: 13},
		"not a chunk":          {Chunk: ok.Chunk + 8, Off: 256, Len: 60},
		"outside the UMEM":     {Chunk: 128 * packet.ChunkSize, Off: 256, Len: 60},
	}
	for name, f := range bad {
		if !panics(func() { xsk.Transmit([]packet.Frame{f}) }) {
			t.Errorf("%s: accepted %+v", name, f)
		}
	}
	other, _ := play(t, umem, Options{RingSize: 64})
	xsk2, _ := play(t, umem, Options{RingSize: 64})
	if xsk2.Transmit([]packet.Frame{ok}) != 1 {
		t.Fatal("good frame refused")
	}
	if !panics(func() { other.Transmit([]packet.Frame{ok}) }) {
		t.Error("a frame was sent twice")
	}
}

func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return
}

func TestDataPathDoesNotAllocate(t *testing.T) {
	umem := newUMEM(t, 1024)
	in, kin := play(t, umem, Options{RingSize: 256})
	out, kout := play(t, umem, Options{RingSize: 256})
	var f [packet.BurstSize]packet.Frame
	moved := 0
	allocs := testing.AllocsPerRun(1000, func() {
		in.Refill()
		out.Refill()
		kin.receive(len(f), 60)
		n := in.Receive(f[:])
		moved += out.Transmit(f[:n])
		out.Flush()
		kout.complete(len(f))
		kout.sent = kout.sent[:0]
		_ = in.Census()
	})
	if allocs != 0 {
		t.Errorf("%v allocations per turn", allocs)
	}
	if moved != 1001*len(f) {
		t.Errorf("moved %d frames, want %d", moved, 1001*len(f))
	}
	account(t, umem, 0)
}

// BenchmarkRings measures the user side of one frame's way: fill, RX, TX,
// completion, and the free list, without a kernel's work.
func BenchmarkRings(b *testing.B) {
	umem := newUMEM(b, 1024)
	in, kin := play(b, umem, Options{RingSize: 256})
	out, kout := play(b, umem, Options{RingSize: 256})
	var f [packet.BurstSize]packet.Frame
	for b.Loop() {
		in.Refill()
		kin.receive(len(f), 60)
		n := in.Receive(f[:])
		out.Transmit(f[:n])
		out.Flush()
		kout.complete(len(f))
		kout.sent = kout.sent[:0]
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(f)), "ns/pkt")
}
