package bpf

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sfc/dataplane/classify"
	"sfc/dataplane/packet"
	"sfc/dataplane/xsk"
)

// Frames that a path claims arrive at the socket of their queue, whole, in
// order and with their metadata in front.
func TestDeliverToSocket(t *testing.T) {
	for _, mode := range []Mode{Native, Generic} {
		t.Run(mode.String(), func(t *testing.T) { deliver(t, mode) })
	}
}

func deliver(t *testing.T, mode Mode) {
	w := newWires(t)
	mem, err := unix.Mmap(-1, 0, 1024*packet.ChunkSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mem)
	depot := packet.NewDepot(len(mem))
	umem, err := xsk.NewUMEM(mem, depot)
	if err != nil {
		t.Fatal(err)
	}
	defer umem.Close()
	s := w.load(t, compile(t, fixtureRules), classify.Drop)
	var sock *xsk.Socket
	in(t, w.near, func() error {
		if _, err := s.Attach(0, mode); err != nil {
			return err
		}
		var err error
		sock, err = xsk.Open(umem, depot.Pool(), w.nearA.Index, 0, xsk.Options{})
		return err
	})
	defer sock.Close()
	if err := s.SetSocket(0, 0, 0, sock.PollFD()); err != nil {
		t.Fatal(err)
	}

	const n = 128 // less than a veth ring holds
	in(t, w.far, func() error { return sendFlows(w.farA.Index, n) })
	got := make([]packet.Frame, 2*n)
	count := 0
	waitFor(t, "all frames", func() bool {
		count += sock.Receive(got[count:])
		return count >= n
	})
	for i, f := range got[:count] {
		frame, meta := f.Bytes(mem), packet.MetaAt(mem, f.Pos())
		info, result := packet.Parse(frame)
		if result != packet.ParsedIP || !bytes.Equal(frame, flowFrame(i)) {
			t.Fatalf("frame %d arrived as %v\n%x, want\n%x", i, result, frame, flowFrame(i))
		}
		if int(f.Off) != packet.Headroom || meta.Version != packet.MetaVersion || meta.Path != 1 || meta.Seq != uint32(i) ||
			meta.L3 != info.L3 || meta.L4 != info.L4 || meta.Hash != packet.FlowHash(testKey, &info) {
			t.Fatalf("frame %d at offset %d: %+v", i, f.Off, *meta)
		}
		if i > 0 && meta.RxNs < packet.MetaAt(mem, got[i-1].Pos()).RxNs {
			t.Fatalf("frame %d arrived before frame %d", i, i-1)
		}
	}
	if c := counters(t, s, 0); c != (Counters{Redirected: n}) {
		t.Errorf("counters %+v", c)
	}
}

// flowFrame is the i-th frame of sendFlows.
func flowFrame(i int) []byte {
	return build(eth(0x0800), ip4(out4, 17, 0), udp(uint16(4000+i), 53), data(i))
}

// sendFlows sends n different frames through a packet socket. In generic mode
// they wait in a queue of the CPU, which whoever else loads the machine may fill.
func sendFlows(ifindex, n int) error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for i := range n {
		if err := sendPatiently(fd, ifindex, flowFrame(i)); err != nil {
			return err
		}
	}
	return nil
}

// sendPatiently sends a frame, again while there is no room for it, at most a
// second.
func sendPatiently(fd, ifindex int, frame []byte) (err error) {
	for range 1000 {
		err = unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: ifindex})
		if !errors.Is(err, unix.ENOBUFS) {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	return err
}
