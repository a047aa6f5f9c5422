package xsk

import (
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sfc/dataplane/packet"
	"sfc/testbed/gate"
	"sfc/testbed/netns"
	"sfc/testbed/trafgen"
)

// fillFrames takes n chunks and writes numbered frames into them.
func fillFrames(t testing.TB, umem *testUMEM, n int) []packet.Frame {
	t.Helper()
	frames := make([]packet.Frame, n)
	for i := range frames {
		c, ok := umem.pool.Get()
		if !ok {
			t.Fatal("pool is empty")
		}
		f := numbered(umem.mem[c+packet.Headroom:c+packet.ChunkSize], i)
		frames[i] = packet.Frame{Chunk: c, Off: packet.Headroom, Len: uint16(len(f))}
	}
	return frames
}

// set changes a link inside its namespace.
func set(t *testing.T, l *netns.Link, change func(netlink.Link) error) {
	t.Helper()
	err := l.NS.Do(func() error {
		nl, err := netlink.LinkByName(l.Name)
		if err != nil {
			return err
		}
		return change(nl)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// flushAll flushes until nothing waits and every chunk is back.
func flushAll(t *testing.T, xsk *Socket) {
	t.Helper()
	for end := time.Now().Add(2 * time.Second); xsk.Flush() || xsk.Census().Tx > 0 || xsk.Census().Completion > 0; {
		if time.Now().After(end) {
			t.Fatalf("frames still wait after 2 s: %+v", xsk.Census())
		}
	}
}

func TestFramesWaitWhileInterfaceIsDown(t *testing.T) {
	w := newWire(t)
	umem := newUMEM(t, 512)
	out := open(t, umem, w.out, Options{})
	r, err := trafgen.OpenReceiver(w.dst)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	set(t, w.out, netlink.LinkSetDown)
	if n := out.Transmit(fillFrames(t, umem, 10)); n != 10 {
		t.Fatalf("Transmit = %d", n)
	}
	for range 3 {
		if !out.Flush() || out.Census().Tx != 10 {
			t.Fatalf("census %+v: frames left through an interface that is down", out.Census())
		}
	}
	set(t, w.out, netlink.LinkSetUp)
	flushAll(t, out)
	var got int
	for got < 10 {
		if arrived, err := r.Wait(time.Second); err != nil || !arrived {
			st, _ := out.Stats()
			t.Fatalf("%d of 10 arrived (%v), %+v", got, err, st)
		}
		in, err := r.Receive()
		if err != nil {
			t.Fatal(err)
		}
		got += len(in)
	}
	account(t, umem, 0)
}

func TestRefusedFramesAreCounted(t *testing.T) {
	gate.Kernel(t, "6.16", "veth telling the sender of frames it drops")
	w := newWire(t)
	umem := newUMEM(t, 512)
	out := open(t, umem, w.out, Options{})
	set(t, w.dst, netlink.LinkSetDown) // out has no carrier now
	if n := out.Transmit(fillFrames(t, umem, 10)); n != 10 {
		t.Fatalf("Transmit = %d", n)
	}
	flushAll(t, out)
	if st, err := out.Stats(); err != nil || st.TxRefused != 10 {
		t.Errorf("statistics %+v, %v: want 10 refused", st, err)
	}
	account(t, umem, 0)
}

func TestPollWakesForFrames(t *testing.T) {
	w := newWire(t)
	umem := newUMEM(t, 512)
	in := open(t, umem, w.in, Options{})
	steer(t, w.in, link.XDPDriverMode, in)
	s, err := trafgen.OpenSender(w.src)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	fds := []unix.PollFd{{Fd: int32(in.PollFD()), Events: unix.POLLIN}}
	if n, err := unix.Poll(fds, 20); err != nil || n != 0 {
		t.Fatalf("poll without frames = %d, %v", n, err)
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		time.Sleep(20 * time.Millisecond)
		var buf [packet.MaxFrame]byte
		if _, err := s.Send([][]byte{numbered(buf[:], 0)}); err != nil {
			t.Error(err)
		}
	}()
	n, err := unix.Poll(fds, 2000)
	<-sent
	if err != nil || n != 1 {
		t.Fatalf("poll = %d, %v", n, err)
	}
	var f [1]packet.Frame
	if in.Receive(f[:]) != 1 {
		t.Error("poll said there is a frame, Receive has none")
	}
	umem.pool.Put(f[0].Chunk)
	account(t, umem, 0)
}

// dropAll attaches an XDP program that drops every frame in native mode.
func dropAll(b *testing.B, l *netns.Link) {
	b.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, License: "BSD",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { prog.Close() })
	var lk link.Link
	err = l.NS.Do(func() error {
		lk, err = link.AttachXDP(link.XDPOptions{Program: prog, Interface: l.Index, Flags: link.XDPDriverMode})
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { lk.Close() })
}

// BenchmarkTransmit sends bursts of 64 frames of 64 bytes over a veth whose
// other end drops them, and reports the cost of a frame and how many system
// calls a burst takes.
func BenchmarkTransmit(b *testing.B) {
	for _, bench := range []struct {
		name string
		opts Options
	}{
		{"budget=32", Options{TxBudget: 32}},
		{"budget=64", Options{TxBudget: 64}},
		{"budget=256", Options{TxBudget: 256}},
		{"budget=256/always-kick", Options{NoNeedWakeup: true}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			w := newWire(b)
			umem := newUMEM(b, 2048)
			out := open(b, umem, w.out, bench.opts)
			dropAll(b, w.dst)
			burst := fillFrames(b, umem, packet.BurstSize)
			for i := range burst {
				burst[i].Len = 64
				umem.pool.Put(burst[i].Chunk)
			}
			b.ResetTimer()
			for b.Loop() {
				for i := range burst {
					burst[i].Chunk, _ = umem.pool.Get()
				}
				for sent := 0; sent < len(burst); {
					sent += out.Transmit(burst[sent:])
					out.Flush()
				}
				if out.refused > 0 {
					b.Fatalf("%d frames refused", out.refused)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(burst)), "ns/pkt")
			b.ReportMetric(float64(out.wakeups)/float64(b.N), "kicks/burst")
		})
	}
}
