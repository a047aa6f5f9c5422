package trafgen

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// Tap sees every frame that crosses a link, both ways, as the driver does:
// checksums complete, segments cut.
//
// Owner: one goroutine, but for Close after its end.
type Tap struct {
	fd             int
	name           string
	frame, control []byte
	dropped        uint64
}

// Frame is what a [Tap] saw. Data is valid until the next one.
type Frame struct {
	TimeNs int64 // since 1970, when the kernel saw it
	Data   []byte
	Len    int // on the wire; more than len(Data) when that was cut
}

// OpenTap opens a tap on an interface of the calling thread's network
// namespace. Needs CAP_NET_RAW and CAP_NET_ADMIN.
func OpenTap(name string) (*Tap, error) {
	nic, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("tap on %s: %w", name, err)
	}
	// Protocol 0: it receives nothing before it is bound.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("tap on %s: open packet socket: %w", name, err)
	}
	t := &Tap{fd: fd, name: name, frame: make([]byte, maxFrame), control: make([]byte, 256)}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bufferBytes),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: nic.Index}),
	)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("tap on %s: %w", name, err), t.Close())
	}
	return t, nil
}

// Next returns the next frame, and ok false when none came within the timeout
// (0: when none waits).
func (t *Tap) Next(timeout time.Duration) (f Frame, ok bool, err error) {
	for end := time.Now().Add(timeout); ; {
		n, nc, _, _, err := unix.Recvmsg(t.fd, t.frame, t.control, unix.MSG_TRUNC)
		switch {
		case err == nil:
			ns, ok := timestamp(t.control[:nc])
			if !ok {
				ns = time.Now().UnixNano()
			}
			return Frame{TimeNs: ns, Data: t.frame[:min(n, len(t.frame))], Len: n}, true, nil
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EAGAIN):
			return f, false, fmt.Errorf("tap on %s: %w", t.name, err)
		}
		left := time.Until(end)
		if left <= 0 {
			return f, false, nil
		}
		fds := []unix.PollFd{{Fd: int32(t.fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, int((left+time.Millisecond-1)/time.Millisecond)); err != nil && !errors.Is(err, unix.EINTR) {
			return f, false, fmt.Errorf("tap on %s: %w", t.name, err)
		}
	}
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

// Dropped returns how many frames came faster than they were taken.
func (t *Tap) Dropped() (uint64, error) {
	stats, err := unix.GetsockoptTpacketStats(t.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0, fmt.Errorf("tap on %s: read statistics: %w", t.name, err)
	}
	t.dropped += uint64(stats.Drops) // reading clears the kernel's count
	return t.dropped, nil
}

// Close closes the tap. Closing again does nothing.
func (t *Tap) Close() error { return closeSocket(&t.fd) }
