package xsk

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"sfc/dataplane/packet"
	"sfc/testbed/gate"
	"sfc/testbed/netns"
)

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
func open(t testing.TB, umem *testUMEM, l *netns.Link, opts Options) *Socket {
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

func tryOpen(umem *testUMEM, l *netns.Link, queue uint32, opts Options) (xsk *Socket, err error) {
	err = l.NS.Do(func() error {
		xsk, err = Open(umem.UMEM, umem.pool, l.Index, queue, opts)
		return err
	})
	return xsk, err
}

// metaMagic marks the metadata that the test's program writes.
const metaMagic = 0x5fc0_5fc0

// steer attaches a program that puts [packet.MetaSize] bytes
// of metadata in front of each frame (magic in Hash, its length in Seq, the
// time in RxNs) and redirects it to the socket of the queue it came in on, in the
// map that is returned.
func steer(t testing.TB, l *netns.Link, mode link.XDPAttachFlags, sockets ...*Socket) *ebpf.Map {
	t.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	for _, xsk := range sockets {
		if err := m.Put(xsk.queue.number, uint32(xsk.PollFD())); err != nil {
			t.Fatal(err)
		}
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
		lk, err = link.AttachXDP(link.XDPOptions{Program: prog, Interface: l.Index, Flags: mode})
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
