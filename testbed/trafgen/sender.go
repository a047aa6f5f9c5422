// Package trafgen puts frames on a link and takes them off through packet
// sockets, byte for byte, as the two ends of a replay.
//
// Neither end holds more than one burst: pacing is the caller's. A veth ring
// holds 256 frames and drops what comes on top, so keep a window: send, wait
// for what arrives, send on.
package trafgen

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"sfc/testbed/netns"
)

// burst is how many frames one system call moves.
const burst = 64

// FrameError says which frame the link refused.
type FrameError struct {
	Index int // in the slice given to Send
	Len   int // bytes
	Link  string
	MTU   int // of the link, bytes without the Ethernet header
	Err   error
}

func (e *FrameError) Error() string {
	switch {
	case errors.Is(e.Err, unix.EMSGSIZE):
		return fmt.Sprintf("send frame %d of %d bytes on %s: %v: MTU %d carries %d (%d with a VLAN tag)",
			e.Index, e.Len, e.Link, e.Err, e.MTU, e.MTU+14, e.MTU+18)
	case errors.Is(e.Err, unix.EINVAL):
		return fmt.Sprintf("send frame %d of %d bytes on %s: %v: an Ethernet header has 14", e.Index, e.Len, e.Link, e.Err)
	}
	return fmt.Sprintf("send frame %d of %d bytes on %s: %v", e.Index, e.Len, e.Link, e.Err)
}

func (e *FrameError) Unwrap() error { return e.Err }

// Sender puts frames on a link.
//
// Owner: one goroutine.
type Sender struct {
	fd   int
	link *netns.Link
	msgs sendBatch
}

// OpenSender opens a sender on a link, in whose namespace its socket lives.
// It bypasses the queueing discipline: a frame is on the link, or refused,
// when Send returns, and none waits in between.
func OpenSender(link *netns.Link) (_ *Sender, err error) {
	s := &Sender{fd: -1, link: link}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open sender on %s: %w", link.Name, err), s.Close())
		}
	}()
	// Protocol 0: the socket receives nothing.
	if s.fd, err = openSocket(link, 0); err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(s.fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
		return nil, fmt.Errorf("bypass the queueing discipline: %w", err)
	}
	return s, nil
}

// Send puts frames on the link, in order, and returns how many of the first it
// took. It takes fewer, without an error, when the link is busy: try again
// later from there. An error is a [FrameError] about frame n, which was not
// sent; the caller may go on behind it.
func (s *Sender) Send(frames [][]byte) (n int, err error) {
	for n < len(frames) {
		part := frames[n:min(n+burst, len(frames))]
		// sendmmsg reports an error only when the first frame has it.
		sent, errno := s.msgs.send(s.fd, part)
		n += sent
		switch errno {
		case 0:
		case unix.EAGAIN, unix.ENOBUFS:
			return n, nil
		case unix.EINTR:
		default:
			return n, &FrameError{Index: n, Len: len(frames[n]), Link: s.link.Name, MTU: s.link.MTU, Err: errno}
		}
	}
	return n, nil
}

// Close closes the socket. Closing again does nothing.
func (s *Sender) Close() error { return closeSocket(&s.fd) }

// openSocket opens a packet socket on the link for one protocol, 0 for none.
func openSocket(link *netns.Link, protocol uint16) (fd int, err error) {
	fd = -1
	err = link.NS.Do(func() error {
		// Protocol 0 here: before bind it would receive from every link.
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if errors.Is(err, unix.EPERM) {
			return fmt.Errorf("open packet socket: %w: needs CAP_NET_RAW (run as root)", err)
		}
		if err != nil {
			return fmt.Errorf("open packet socket: %w", err)
		}
		return nil
	})
	if err != nil {
		return -1, err
	}
	sa := &unix.SockaddrLinklayer{Protocol: htons(protocol), Ifindex: link.Index}
	if err := unix.Bind(fd, sa); err != nil {
		return -1, errors.Join(fmt.Errorf("bind packet socket: %w", err), unix.Close(fd))
	}
	return fd, nil
}

func closeSocket(fd *int) error {
	if *fd < 0 {
		return nil
	}
	err := unix.Close(*fd)
	*fd = -1
	return err
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// insertTag puts the VLAN tag back that the kernel took out of a frame: buf
// has 4 free bytes, then the frame. It returns the whole frame.
func insertTag(buf []byte, tpid, tci uint16) []byte {
	copy(buf, buf[tagSize:tagSize+2*macSize])
	tag := buf[2*macSize:]
	tag[0], tag[1] = byte(tpid>>8), byte(tpid)
	tag[2], tag[3] = byte(tci>>8), byte(tci)
	return slices.Clip(buf)
}

const (
	tagSize = 4
	macSize = 6
)
