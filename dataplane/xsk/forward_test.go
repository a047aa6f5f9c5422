package xsk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"sfc/dataplane/cpu"
	"sfc/dataplane/packet"
	"sfc/testbed/gate"
	"sfc/testbed/netns"
	"sfc/testbed/trafgen"
)

// forwarder moves frames from in to out until stopped.
type forwarder struct {
	umem    *testUMEM
	in, out *Socket
	stop    atomic.Bool
	done    chan struct{}
	badMeta int
	moved   int
}

func startForwarder(t testing.TB, umem *testUMEM, in, out *Socket) *forwarder {
	f := &forwarder{umem: umem, in: in, out: out, done: make(chan struct{})}
	go f.run()
	t.Cleanup(f.halt) // before the sockets are closed, also when the test fails
	return f
}

func (f *forwarder) run() {
	defer close(f.done)
	var buf [packet.BurstSize]packet.Frame
	poll := []unix.PollFd{{Fd: int32(f.in.PollFD()), Events: unix.POLLIN}}
	for !f.stop.Load() {
		n := f.in.Receive(buf[:])
		f.in.Refill()
		for _, fr := range buf[:n] {
			m := packet.MetaAt(f.umem.Bytes(), fr.Pos())
			if m.Hash != metaMagic || m.Seq != uint32(fr.Len) || m.RxNs == 0 || fr.Off != packet.Headroom {
				f.badMeta++
			}
		}
		for sent := 0; sent < n && !f.stop.Load(); {
			sent += f.out.Transmit(buf[sent:n])
			f.out.Flush()
		}
		f.moved += n
		if f.out.Flush() || n > 0 {
			continue
		}
		_, _ = unix.Poll(poll, 1)
	}
}

// halt stops the worker and takes back what was sent.
func (f *forwarder) halt() {
	if !f.stop.Swap(true) {
		<-f.done
		f.out.Flush()
	}
}

// numbered makes frame number i: its length, bytes and number follow from i.
func numbered(buf []byte, i int) []byte {
	n := 18 + i*7919%(packet.MaxFrame-18+1)
	f := buf[:n]
	for j := range f {
		f[j] = byte(i + j)
	}
	f[0] &^= 1
	binary.BigEndian.PutUint16(f[12:], 0x88b5)
	binary.BigEndian.PutUint32(f[14:], uint32(i))
	return f
}

// replay sends total numbered frames with at most window on their way and
// checks that each arrives, in order and unchanged.
func replay(t *testing.T, w wire, total, window int) {
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
	var frames [packet.BurstSize][]byte
	var mem [packet.BurstSize][packet.MaxFrame]byte
	var want [packet.MaxFrame]byte
	begin := time.Now()
	sent, got := 0, 0
	for got < total {
		n := min(window-(sent-got), total-sent, len(frames))
		for i := range n {
			frames[i] = numbered(mem[i][:], sent+i)
		}
		took, err := s.Send(frames[:n])
		if err != nil {
			t.Fatal(err)
		}
		sent += took
		in, err := r.Receive()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range in {
			if e := numbered(want[:], got); !bytes.Equal(f, e) {
				t.Fatalf("frame %d of %d bytes:\nwant %x\ngot  %x", got, len(e), e, f)
			}
			got++
		}
		if len(in) == 0 {
			if arrived, err := r.Wait(2 * time.Second); err != nil || !arrived {
				c, _ := w.out.Counters()
				t.Fatalf("sent %d, got %d, then nothing for 2 s (%v); out: %+v", sent, got, err, c)
			}
		}
	}
	took := time.Since(begin)
	if d, err := r.Dropped(); err != nil || d != 0 {
		t.Errorf("receiver dropped %d, %v", d, err)
	}
	t.Logf("%d frames in %v: %.0f kpps", total, took, float64(total)/took.Seconds()/1e3)
}

func TestForwardOverVeth(t *testing.T) {
	tests := []struct {
		name  string
		total int
		mode  link.XDPAttachFlags
		opts  Options
	}{
		{"defaults", 100_000, link.XDPDriverMode, Options{}},
		{"generic attach", 20_000, link.XDPGenericMode, Options{}},
		{"smallest rings", 20_000, link.XDPDriverMode, Options{RingSize: 64}},
		{"always kick", 20_000, link.XDPDriverMode, Options{NoNeedWakeup: true}},
		{"copy demanded, smallest budget", 20_000, link.XDPDriverMode, Options{Mode: Copy, TxBudget: 32}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			opts, total := tt.opts, tt.total
			w := newWire(t)
			umem := newUMEM(t, 4096)
			in, out := open(t, umem, w.in, opts), open(t, umem, w.out, opts)
			steer(t, w.in, tt.mode, in)
			f := startForwarder(t, umem, in, out)
			// More on their way than the fill ring has chunks for would be lost.
			replay(t, w, total, min(128, in.queue.target))
			f.halt()
			if f.badMeta != 0 || f.moved != total {
				t.Errorf("%d frames moved, %d with bad metadata", f.moved, f.badMeta)
			}
			account(t, umem, 0)
			for _, s := range []*Socket{in, out} {
				st, err := s.Stats()
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%+v %+v %+v", s.Info(), st, s.Census())
				st.TxRingEmpty, st.Wakeups = 0, 0
				if st != (Stats{}) {
					t.Errorf("statistics %+v, want no trouble", st)
				}
				if s.Info().ZeroCopy || s.Info().String() != "copy" || s.Info().NeedWakeup == opts.NoNeedWakeup {
					t.Errorf("info %+v", s.Info())
				}
			}
			if c := out.Census(); c.Tx != 0 || c.Rx != 0 {
				t.Errorf("census %+v after everything arrived", c)
			}
			if err := errors.Join(in.Close(), out.Close(), in.Close()); err != nil {
				t.Error(err)
			}
			if umem.pool.Free() != umem.pool.Total() {
				t.Errorf("%d of %d chunks free after close", umem.pool.Free(), umem.pool.Total())
			}
		})
	}
}

// TestQueuesOfOneInterface has a socket on each of two queues, on one UMEM. A
// veth receives on the queue of the core that sends.
func TestQueuesOfOneInterface(t *testing.T) {
	gate.Caps(t, unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_BPF)
	cores := cpu.Allowed()
	if len(cores) < 2 || cores[0]%2 == cores[1]%2 {
		t.Skipf("needs an even and an odd core, may use %v", cores)
	}
	gate.Leaks(t)
	gen, dut := newNS(t), newNS(t)
	src, in, err := netns.Veth(gen, "src", dut, "in", netns.VethOptions{Queues: 2})
	if err != nil {
		t.Fatal(err)
	}
	umem := newUMEM(t, 1024)
	var sockets []*Socket
	for q := range uint32(2) {
		xsk, err := tryOpen(umem, in, q, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer xsk.Close()
		sockets = append(sockets, xsk)
	}
	steer(t, in, link.XDPDriverMode, sockets...)
	s, err := trafgen.OpenSender(src)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const each = 100
	for _, core := range cores[:2] {
		sent := make(chan error)
		go func() {
			if err := cpu.Pin(core); err != nil {
				sent <- err
				return
			}
			var buf [packet.MaxFrame]byte
			for i := range each {
				if n, err := s.Send([][]byte{numbered(buf[:], i)[:18]}); n != 1 || err != nil {
					sent <- err
					return
				}
			}
			sent <- nil
		}()
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
	for _, xsk := range sockets {
		var f [2 * each]packet.Frame
		n := xsk.Receive(f[:])
		if n != each {
			t.Errorf("queue %d received %d frames, want %d", xsk.queue.number, n, each)
		}
		for _, fr := range f[:n] {
			umem.pool.Put(fr.Chunk)
		}
	}
	account(t, umem, 0)
}

func TestTooLongFrameIsCounted(t *testing.T) {
	gate.Caps(t, unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_BPF)
	gate.Leaks(t)
	gen, dut := newNS(t), newNS(t)
	src, in, err := netns.Veth(gen, "src", dut, "in", netns.VethOptions{MTU: 3000})
	if err != nil {
		t.Fatal(err)
	}
	umem := newUMEM(t, 512)
	xsk := open(t, umem, in, Options{})
	steer(t, in, link.XDPDriverMode, xsk)
	s, err := trafgen.OpenSender(src)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	rng := rand.NewChaCha8([32]byte{9})
	var frames [][]byte
	for _, n := range []int{packet.MaxFrame, packet.MaxFrame + 1, 60} {
		f := make([]byte, n)
		_, _ = rng.Read(f)
		frames = append(frames, f)
	}
	if n, err := s.Send(frames); n != len(frames) || err != nil {
		t.Fatalf("Send = %d, %v", n, err)
	}
	time.Sleep(20 * time.Millisecond)
	var f [4]packet.Frame
	n := xsk.Receive(f[:])
	if n != 2 || f[0].Len != packet.MaxFrame || f[1].Len != 60 {
		t.Fatalf("received %d: %+v", n, f[:n])
	}
	if !bytes.Equal(f[0].Bytes(umem.Bytes()), frames[0]) {
		t.Error("the longest frame differs")
	}
	if st, err := xsk.Stats(); err != nil || st.RxDropped != 1 {
		t.Errorf("statistics %+v, %v", st, err)
	}
	account(t, umem, 2)
	umem.pool.Put(f[0].Chunk)
	umem.pool.Put(f[1].Chunk)
}

func TestFillRingExhaustedIsCounted(t *testing.T) {
	w := newWire(t)
	umem := newUMEM(t, 512)
	in := open(t, umem, w.in, Options{RingSize: 64, FillTarget: 16, Reserve: 16})
	steer(t, w.in, link.XDPDriverMode, in)
	s, err := trafgen.OpenSender(w.src)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var buf [packet.MaxFrame]byte
	for i := range 40 {
		if n, err := s.Send([][]byte{numbered(buf[:], i)}); n != 1 || err != nil {
			t.Fatalf("Send = %d, %v", n, err)
		}
	}
	time.Sleep(20 * time.Millisecond)
	if c := in.Census(); c != (packet.Census{Rx: 16}) {
		t.Errorf("census %+v, want 16 in the RX ring", c)
	}
	if st, err := in.Stats(); err != nil || st.RxFillEmpty == 0 {
		t.Errorf("statistics %+v, %v", st, err)
	}
	account(t, umem, 0)
}

func TestOpenCloseLeaksNothing(t *testing.T) {
	w := newWire(t)
	umem := newUMEM(t, 512)
	for i := range 50 {
		in, err := tryOpen(umem, w.in, 0, Options{})
		if err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		out, err := tryOpen(umem, w.out, 0, Options{})
		if err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		account(t, umem, 0)
		// Close the one that registered the UMEM first in every other round.
		if i%2 == 0 {
			in, out = out, in
		}
		if err := errors.Join(in.Close(), out.Close()); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		if umem.pool.Free() != umem.pool.Total() {
			t.Fatalf("round %d: %d of %d chunks free", i, umem.pool.Free(), umem.pool.Total())
		}
	}
}

func TestSocketOutlivesTheOneItSharesWith(t *testing.T) {
	w := newWire(t)
	umem := newUMEM(t, 2048)
	first := open(t, umem, w.in, Options{})
	out := open(t, umem, w.out, Options{})
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	in := open(t, umem, w.in, Options{}) // shares with out now
	steer(t, w.in, link.XDPDriverMode, in)
	f := startForwarder(t, umem, in, out)
	replay(t, w, 1000, 64)
	f.halt()
	account(t, umem, 0)
}
