package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"sfc/testbed/capture"
	"sfc/testbed/netns"
)

// tap sees every frame that crosses a link, both ways, as the driver does:
// checksums complete, segments cut.
type tap struct {
	fd      int
	link    string
	packets []capture.Packet
	err     error
	quit    chan struct{}
	done    chan struct{}
}

const (
	// tapBuffer is how many bytes the kernel may queue for the tap.
	tapBuffer = 64 << 20
	// tapTurn is how long the tap sleeps before it looks whether to stop.
	tapTurn = 20 * time.Millisecond
)

// openTap starts to record on a link.
func openTap(link *netns.Link) (_ *tap, err error) {
	t := &tap{fd: -1, link: link.Name, quit: make(chan struct{}), done: make(chan struct{})}
	err = link.NS.Do(func() error {
		// Protocol 0: it receives nothing before it is bound.
		t.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("record on %s: open packet socket: %w", link.Name, err)
	}
	all := uint16(unix.ETH_P_ALL)
	err = errors.Join(
		unix.SetsockoptInt(t.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, tapBuffer),
		unix.SetsockoptInt(t.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		unix.Bind(t.fd, &unix.SockaddrLinklayer{Protocol: all<<8 | all>>8, Ifindex: link.Index}),
	)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("record on %s: %w", link.Name, err), unix.Close(t.fd))
	}
	go t.run()
	return t, nil
}

// run takes frames in until quit is closed and none is left.
func (t *tap) run() {
	defer close(t.done)
	frame, control := make([]byte, capture.MaxPacket), make([]byte, 256)
	for {
		n, nc, _, _, err := unix.Recvmsg(t.fd, frame, control, unix.MSG_TRUNC)
		switch {
		case err == nil:
			t.keep(frame[:min(n, len(frame))], n, control[:nc])
			continue
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EAGAIN):
			t.err = fmt.Errorf("record on %s: %w", t.link, err)
			return
		}
		select {
		case <-t.quit:
			return
		default:
		}
		fds := []unix.PollFd{{Fd: int32(t.fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, int(tapTurn.Milliseconds())); err != nil && !errors.Is(err, unix.EINTR) {
			t.err = fmt.Errorf("record on %s: %w", t.link, err)
			return
		}
	}
}

// keep notes one frame with the time the kernel saw it.
func (t *tap) keep(frame []byte, wireBytes int, control []byte) {
	ns, ok := timestamp(control)
	if !ok {
		ns = time.Now().UnixNano()
	}
	t.packets = append(t.packets, capture.Packet{TimeNs: ns, Data: slices.Clone(frame), OrigLen: wireBytes})
}

// timestamp returns the time in a SCM_TIMESTAMPNS message: struct timespec of
// the kernel, ns since 1970.
func timestamp(control []byte) (ns int64, ok bool) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0, false
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
			sec, nsec := binary.NativeEndian.Uint64(m.Data), binary.NativeEndian.Uint64(m.Data[8:])
			return int64(sec)*int64(time.Second) + int64(nsec), true
		}
	}
	return 0, false
}

// stop ends the recording and returns the packets in order of time. A frame
// that the tap missed is an error: the recording would not be whole.
func (t *tap) stop() ([]capture.Packet, error) {
	time.Sleep(2 * tapTurn) // the last acknowledgements are under way
	t.end()
	if t.err != nil {
		return nil, t.err
	}
	stats, err := unix.GetsockoptTpacketStats(t.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return nil, fmt.Errorf("record on %s: read statistics: %w", t.link, err)
	}
	if stats.Drops > 0 {
		return nil, fmt.Errorf("record on %s: %d of %d frames came faster than they could be taken in; try again when the machine is less busy",
			t.link, stats.Drops, stats.Packets)
	}
	slices.SortStableFunc(t.packets, func(a, b capture.Packet) int { return int(a.TimeNs - b.TimeNs) })
	return t.packets, nil
}

// end stops the goroutine; again does nothing.
func (t *tap) end() {
	select {
	case <-t.quit:
	default:
		close(t.quit)
	}
	<-t.done
}

func (t *tap) close() error {
	t.end()
	if err := unix.Close(t.fd); err != nil {
		return fmt.Errorf("record on %s: close: %w", t.link, err)
	}
	return nil
}
