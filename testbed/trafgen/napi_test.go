package trafgen

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"sfc/dataplane/ethtool"
	"sfc/testbed/gate"
	"sfc/testbed/netns"
)

// attach attaches an XDP program in native mode.
func attach(t *testing.T, l *netns.Link, ins asm.Instructions) {
	t.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, Instructions: ins, License: "BSD"})
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
	t.Cleanup(func() { lk.Close() })
}

// redirect attaches to in a program that sends every frame out of out.
func redirect(t *testing.T, in, out *netns.Link) {
	t.Helper()
	var m *ebpf.Map
	err := in.NS.Do(func() (err error) { // a devmap looks its links up in here
		m, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.DevMap, KeySize: 4, ValueSize: 4, MaxEntries: 1})
		if err != nil {
			return err
		}
		return m.Put(uint32(0), uint32(out.Index))
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	attach(t, in, asm.Instructions{
		asm.LoadMapPtr(asm.R1, m.FD()),
		asm.Mov.Imm(asm.R2, 0),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnRedirectMap.Call(),
		asm.Return(),
	})
}

// setGRO turns merging on arrival on or off; on, it also makes a veth run NAPI.
func setGRO(t *testing.T, l *netns.Link, on bool) {
	t.Helper()
	err := l.NS.Do(func() error {
		c, err := ethtool.Open()
		if err != nil {
			return err
		}
		defer c.Close()
		return c.SetFeatures(l.Name, map[string]bool{"rx-gro": on})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// segments makes n TCP segments in a row of one connection, 100 bytes of
// payload each, with right checksums: what GRO merges.
func segments(n int) [][]byte {
	frames := make([][]byte, n)
	for i := range frames {
		f := make([]byte, 14+20+20+100)
		f[0], f[6] = 2, 2
		binary.BigEndian.PutUint16(f[12:], 0x0800)
		ip, tcp := f[14:34], f[34:]
		ip[0], ip[6], ip[8], ip[9] = 0x45, 0x40, 64, unix.IPPROTO_TCP
		binary.BigEndian.PutUint16(ip[2:], uint16(len(f)-14))
		copy(ip[12:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
		binary.BigEndian.PutUint16(ip[10:], checksum(0, ip))
		copy(tcp, []byte{0, 80, 0x10, 0})
		binary.BigEndian.PutUint32(tcp[4:], uint32(1+100*i))
		binary.BigEndian.PutUint32(tcp[8:], 1)
		tcp[12], tcp[13] = 5<<4, 0x10
		binary.BigEndian.PutUint16(tcp[14:], 1000)
		for j := range tcp[20:] {
			tcp[20+j] = byte(i + j)
		}
		pseudo := uint32(10<<8+0+1+10<<8+2) + unix.IPPROTO_TCP + uint32(len(tcp))
		binary.BigEndian.PutUint16(tcp[16:], checksum(pseudo, tcp))
		frames[i] = f
	}
	return frames
}

// checksum is the Internet checksum (RFC 1071) of b, of even length.
func checksum(sum uint32, b []byte) uint16 {
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// groOn says whether the link merges TCP segments on arrival.
func groOn(t *testing.T, l *netns.Link) (on bool) {
	t.Helper()
	err := l.NS.Do(func() error {
		c, err := ethtool.Open()
		if err != nil {
			return err
		}
		defer c.Close()
		f, err := c.Features(l.Name)
		on = f["rx-gro"].On
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return on
}

// TestRedirectNeedsNAPIOnPeer shows what an XDP program that redirects into a
// veth needs of the other end. GRO would do, but may merge TCP segments: no
// good in front of a capture.
func TestRedirectNeedsNAPIOnPeer(t *testing.T) {
	gate.Caps(t, unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_BPF)
	tests := []struct {
		name    string
		prepare func(t *testing.T, dst *netns.Link)
		arrive  bool
		gro     bool
	}{
		{"nothing", func(*testing.T, *netns.Link) {}, false, false},
		{"stub", func(t *testing.T, dst *netns.Link) {
			stub, err := dst.EnableNAPI()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := stub.Close(); err != nil {
					t.Error(err)
				}
			})
		}, true, false},
		{"GRO", func(t *testing.T, dst *netns.Link) { setGRO(t, dst, true) }, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			gate.Leaks(t)
			gen, dut, sink := newNS(t), newNS(t), newNS(t)
			src, in := join(t, gen, "src", dut, "in")
			out, dst := join(t, dut, "out", sink, "dst")
			redirect(t, in, out)
			tt.prepare(t, dst)
			if on := groOn(t, dst); on != tt.gro {
				t.Errorf("GRO is on: %v, want %v", on, tt.gro)
			}
			s, r := sender(t, src), receiver(t, dst)
			sent := segments(32)
			if n, err := s.Send(sent); n != len(sent) || err != nil {
				t.Fatalf("Send = %d, %v", n, err)
			}
			if !tt.arrive {
				if arrived, err := r.Wait(50 * time.Millisecond); err != nil || arrived {
					t.Errorf("frames arrived without NAPI on the peer (%v)", err)
				}
				return
			}
			if !tt.gro {
				same(t, sent, collect(t, r, len(sent)))
				return
			}
			if arrived, err := r.Wait(time.Second); err != nil || !arrived {
				t.Errorf("nothing arrived (%v)", err)
			}
		})
	}
}

// TestSenderIntoXDPNeedsNothing shows that an end with a native XDP program
// takes what a packet socket sends on the other end.
func TestSenderIntoXDPNeedsNothing(t *testing.T) {
	la, lb := pair(t)
	gate.Caps(t, unix.CAP_BPF)
	attach(t, lb, asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()})
	setGRO(t, lb, false)
	s, r := sender(t, la), receiver(t, lb)
	rng := rand.NewChaCha8([32]byte{10})
	frames := make([][]byte, 2000)
	for i := range frames {
		frames[i] = make([]byte, 14+i%1779)
		randomFrame(rng, frames[i])
	}
	same(t, frames, exchange(t, s, r, frames, 128))
}

// TestFloodIsAccounted sends from every core at once and without a window, so
// that the ring between the ends (256 frames) runs full. What the sender was
// told is on the link must arrive or be counted as dropped by the link or the
// receiver.
func TestFloodIsAccounted(t *testing.T) {
	la, lb := pair(t)
	gate.Caps(t, unix.CAP_BPF)
	stub, err := lb.EnableNAPI()
	if err != nil {
		t.Fatal(err)
	}
	defer stub.Close()
	r := receiver(t, lb)
	const each = 20_000
	took := make(chan int)
	senders := []*Sender{sender(t, la), sender(t, la), sender(t, la)}
	for _, s := range senders {
		go func() {
			sum := 0
			f := make([]byte, 60)
			randomFrame(rand.NewChaCha8([32]byte{11}), f)
			frames := [][]byte{f, f, f, f, f, f, f, f}
			for range each / len(frames) {
				n, err := s.Send(frames)
				if err != nil {
					t.Error(err)
				}
				sum += n
			}
			took <- sum
		}()
	}
	var sent, got uint64
	for running := len(senders); ; {
		in, err := r.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if got += uint64(len(in)); len(in) > 0 {
			continue
		}
		select {
		case n := <-took:
			sent += uint64(n)
			running--
			continue
		default:
		}
		arrived, err := r.Wait(100 * time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		if !arrived && running == 0 {
			break
		}
	}
	c, err := la.Counters()
	if err != nil {
		t.Fatal(err)
	}
	lost, err := r.Dropped()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d offered, %d taken, %d received, link dropped %d, receiver dropped %d", each*len(senders), sent, got, c.TxDropped, lost)
	if got > sent || sent > got+c.TxDropped+lost {
		t.Errorf("%d frames vanished uncounted", int64(sent)-int64(got+c.TxDropped+lost))
	}
}
