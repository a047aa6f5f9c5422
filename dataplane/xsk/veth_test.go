package xsk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"sfc/dataplane/packet"
	"sfc/testbed/gate"
	"sfc/testbed/netns"
	"sfc/testbed/trafgen"
)

func TestMain(m *testing.M) { os.Exit(gate.Main(m)) }

// wire is a host with two ports between a generator and a sink:
//
//	gen | src --- in | dut | out --- dst | sink
type wire struct{ src, in, out, dst *netns.Link }

func newWire(t testing.TB) wire {
	t.Helper()
	gate.Caps(t, unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_BPF)
	gate.Leaks(t)
	gen, dut, sink := newNS(t), newNS(t), newNS(t)
	var w wire
	w.src, w.in = veth(t, gen, "src", dut, "in")
	w.out, w.dst = veth(t, dut, "out", sink, "dst")
	return w
}

func newNS(t testing.TB) *netns.NS {
	t.Helper()
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ns.Close(); err != nil {
			t.Error(err)
		}
	})
	return ns
}

func veth(t testing.TB, a *netns.NS, nameA string, b *netns.NS, nameB string) (la, lb *netns.Link) {
	t.Helper()
	la, lb, err := netns.Veth(a, nameA, b, nameB, netns.VethOptions{MTU: packet.MaxFrame - 14})
	if err != nil {
		t.Fatal(err)
	}
	return la, lb
}

// open opens a socket on queue 0 of l.
func open(t testing.TB, umem *UMEM, l *netns.Link, opts Options) *Socket {
	t.Helper()
	xsk, err := tryOpen(umem, l, 0, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := xsk.Close(); err != nil {
			t.Error(err)
		}
	})
	return xsk
}

func tryOpen(umem *UMEM, l *netns.Link, queue uint32, opts Options) (xsk *Socket, err error) {
	err = l.NS.Do(func() error {
		xsk, err = Open(umem, l.Index, queue, opts)
		return err
	})
	return xsk, err
}

// metaMagic marks the metadata that the test's program writes.
const metaMagic = 0x5fc0_5fc0

// steer attaches, in native mode, a program that puts [packet.MetaSize] bytes
// of metadata in front of each frame (magic in Hash, its length in Seq, the
// time in RxNs) and redirects it to the socket.
func steer(t testing.TB, l *netns.Link, xsk *Socket) {
	t.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	if err := m.Put(uint32(0), uint32(xsk.PollFD())); err != nil {
		t.Fatal(err)
	}
	const data, dataEnd, dataMeta, rxQueue = 0, 4, 8, 16 // struct xdp_md
	const rxNs, seq, hash = 0, 8, 12                     // packet.Meta
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP,
		Instructions: asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1),
			asm.Mov.Imm(asm.R2, -packet.MetaSize),
			asm.FnXdpAdjustMeta.Call(),
			asm.JNE.Imm(asm.R0, 0, "abort"),
			asm.FnKtimeGetNs.Call(),
			asm.LoadMem(asm.R2, asm.R6, dataMeta, asm.Word),
			asm.LoadMem(asm.R3, asm.R6, data, asm.Word),
			asm.LoadMem(asm.R5, asm.R6, dataEnd, asm.Word),
			asm.Mov.Reg(asm.R4, asm.R2),
			asm.Add.Imm(asm.R4, packet.MetaSize),
			asm.JGT.Reg(asm.R4, asm.R3, "abort"),
			asm.Sub.Reg(asm.R5, asm.R3),
			asm.StoreMem(asm.R2, rxNs, asm.R0, asm.DWord),
			asm.StoreMem(asm.R2, seq, asm.R5, asm.Word),
			asm.StoreImm(asm.R2, hash, metaMagic, asm.Word),
			asm.LoadMapPtr(asm.R1, m.FD()),
			asm.LoadMem(asm.R2, asm.R6, rxQueue, asm.Word),
			asm.Mov.Imm(asm.R3, 0),
			asm.FnRedirectMap.Call(),
			asm.Return(),
			asm.Mov.Imm(asm.R0, 0).WithSymbol("abort"),
			asm.Return(),
		},
		License: "BSD",
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
}

// forwarder moves frames from in to out until stopped.
type forwarder struct {
	umem    *UMEM
	in, out *Socket
	stop    atomic.Bool
	done    chan struct{}
	badMeta int
	moved   int
}

func startForwarder(t testing.TB, umem *UMEM, in, out *Socket) *forwarder {
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
		opts  Options
	}{
		{"defaults", 100_000, Options{}},
		{"smallest rings", 20_000, Options{RingSize: 64}},
		{"always kick", 20_000, Options{NoNeedWakeup: true}},
		{"copy demanded, smallest budget", 20_000, Options{Mode: Copy, TxBudget: 32}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			opts, total := tt.opts, tt.total
			w := newWire(t)
			umem := newUMEM(t, 4096)
			in, out := open(t, umem, w.in, opts), open(t, umem, w.out, opts)
			steer(t, w.in, in)
			f := startForwarder(t, umem, in, out)
			// More on their way than the fill ring has chunks for would be lost.
			replay(t, w, total, min(128, in.target))
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
	steer(t, in, xsk)
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
	steer(t, w.in, in)
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
	steer(t, w.in, in)
	f := startForwarder(t, umem, in, out)
	replay(t, w, 1000, 64)
	f.halt()
	account(t, umem, 0)
}

func TestOpenRefusals(t *testing.T) {
	w := newWire(t)
	umem, other := newUMEM(t, 512), newUMEM(t, 512)
	in := open(t, umem, w.in, Options{})
	fast := Options{BindWait: -1}
	tests := []struct {
		name  string
		umem  *UMEM
		link  *netns.Link
		queue uint32
		opts  Options
		is    error
		want  string
	}{
		{"queue taken, same UMEM", umem, w.in, 0, fast, ErrQueueTaken, "same UMEM"},
		{"queue taken, other UMEM", other, w.in, 0, fast, ErrQueueTaken, "close the other program"},
		{"no such queue", other, w.out, 7, fast, ErrNoQueue, "queue 7"},
		{"no such queue, shared UMEM", umem, w.out, 7, fast, ErrNoQueue, "queue 7"},
		{"no such interface", other, &netns.Link{NS: w.in.NS, Index: 99_999}, 0, fast, ErrNoInterface, "ifindex 99999"},
		{"interface of another namespace", other, &netns.Link{NS: w.in.NS, Index: w.src.Index}, 0, fast, ErrNoInterface, "namespace"},
		{"zero copy on veth", other, w.out, 0, Options{Mode: ZeroCopy}, ErrNoZeroCopy, "mode Auto"},
		{"zero copy, shared UMEM", umem, w.out, 0, Options{Mode: ZeroCopy}, ErrNoZeroCopy, "copy mode"},
		{"ring size", other, w.out, 0, Options{RingSize: 1000}, nil, "ring size 1000"},
		{"ring too small", other, w.out, 0, Options{RingSize: 32}, nil, "ring size 32"},
		{"ring too large", other, w.out, 0, Options{RingSize: 65536}, nil, "ring size 65536"},
		{"fill target", other, w.out, 0, Options{RingSize: 64, FillTarget: 65}, nil, "fill target 65"},
		{"reserve", other, w.out, 0, Options{FillTarget: 64, Reserve: 65}, nil, "reserve 65"},
		{"mode", other, w.out, 0, Options{Mode: 9}, nil, "mode 9"},
		{"budget too small", other, w.out, 0, Options{TxBudget: 31}, nil, "transmit budget 31"},
		{"budget above ring", other, w.out, 0, Options{RingSize: 64, TxBudget: 65}, nil, "transmit budget 65"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			xsk, err := tryOpen(tt.umem, tt.link, tt.queue, tt.opts)
			if err == nil {
				_ = xsk.Close()
				t.Fatal("opened")
			}
			if tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("err = %v, want %v and %q", err, tt.is, tt.want)
			}
			account(t, umem, 0)
			account(t, other, 0)
		})
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	// The queue is free again, though perhaps not at once.
	open(t, other, w.in, Options{})
}

func TestNewUMEMRefusals(t *testing.T) {
	mem := newUMEM(t, 4).Bytes()
	tests := []struct {
		name string
		mem  []byte
		pool int // bytes
		want string
	}{
		{"empty", nil, 0, "0 bytes"},
		{"not whole chunks", mem[:3000], 2048, "3000 bytes"},
		{"not on a page", mem[2048:4096], 2048, "page"},
		{"pool too large", mem[:4096], 8192, "pool has 4"},
	}
	for _, tt := range tests {
		if _, err := NewUMEM(tt.mem, packet.NewPool(tt.pool)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: err = %v, want one with %q", tt.name, err, tt.want)
		}
	}
}

// withoutCap runs fn on a thread that lacks one capability.
func withoutCap(t *testing.T, c int, fn func() error) error {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		err := unix.Capget(&hdr, &data[0])
		if err == nil {
			data[c/32].Effective &^= 1 << (c % 32)
			err = unix.Capset(&hdr, &data[0])
		}
		if err == nil {
			err = fn()
		}
		done <- err
	}()
	return <-done
}

func TestMissingPrivilegeIsNamed(t *testing.T) {
	w := newWire(t)
	umem := newUMEM(t, 512)
	openHere := func() error {
		xsk, err := Open(umem, w.in.Index, 0, Options{})
		if err == nil {
			return xsk.Close()
		}
		return err
	}
	err := withoutCap(t, unix.CAP_NET_RAW, openHere)
	if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "CAP_NET_RAW") {
		t.Errorf("without CAP_NET_RAW: %v", err)
	}
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &old); err != nil {
		t.Fatal(err)
	}
	low := old
	low.Cur = 64 << 10
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &low); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &old); err != nil {
			t.Error(err)
		}
	}()
	err = withoutCap(t, unix.CAP_IPC_LOCK, openHere)
	if err == nil || !strings.Contains(err.Error(), "CAP_IPC_LOCK") || !strings.Contains(err.Error(), "limit 64 KiB") {
		t.Errorf("without CAP_IPC_LOCK: %v", err)
	}
	account(t, umem, 0)
}
