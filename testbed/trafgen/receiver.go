package trafgen

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"sfc/testbed/netns"
)

// MinTagged is the shortest frame in bytes with a VLAN tag that a receiver
// gets to see: the kernel drops shorter ones on arrival (skb_vlan_untag wants
// two bytes behind the tag's EtherType). Untagged frames may have 14. No real
// interface sends either: pad to 60 what must not be lost.
const MinTagged = 20

const (
	// maxFrame is the longest frame in bytes a receiver takes: what segments
	// merged by GRO can come to.
	maxFrame = 65536 + 14
	// bufferBytes is how much the kernel may queue for a receiver. A frame
	// counts with its whole buffer, 768 bytes at least and 4 KiB at most
	// here, so this is 16,000 frames or more.
	bufferBytes = 64 << 20
)

// Receiver takes the frames off a link that arrive there, those for other
// addresses too; not those that the link sends.
//
// Owner: one goroutine.
type Receiver struct {
	fd      int
	link    *netns.Link
	msgs    recvBatch
	out     [burst][]byte
	dropped uint64
	cut     uint64
}

// OpenReceiver opens a receiver on a link, in whose namespace its socket
// lives. What arrives from then on is queued for [Receiver.Receive].
func OpenReceiver(link *netns.Link) (_ *Receiver, err error) {
	r := &Receiver{fd: -1, link: link}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open receiver on %s: %w", link.Name, err), r.Close())
		}
	}()
	if r.fd, err = openSocket(link, 0); err != nil {
		return nil, err
	}
	// The size may go beyond net.core.rmem_max only with CAP_NET_ADMIN.
	if err := unix.SetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bufferBytes); err != nil {
		return nil, fmt.Errorf("set receive buffer of %d MiB: %w: needs CAP_NET_ADMIN (run as root)", bufferBytes>>20, err)
	}
	for _, o := range []struct {
		name string
		opt  int
	}{
		{"PACKET_IGNORE_OUTGOING", unix.PACKET_IGNORE_OUTGOING},
		{"PACKET_AUXDATA", unix.PACKET_AUXDATA},
	} {
		if err := unix.SetsockoptInt(r.fd, unix.SOL_PACKET, o.opt, 1); err != nil {
			return nil, fmt.Errorf("set %s: %w", o.name, err)
		}
	}
	mreq := &unix.PacketMreq{Ifindex: int32(link.Index), Type: unix.PACKET_MR_PROMISC}
	if err := unix.SetsockoptPacketMreq(r.fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, mreq); err != nil {
		return nil, fmt.Errorf("set promiscuous: %w", err)
	}
	r.msgs.init()
	// From here on it receives.
	sa := &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: link.Index}
	if err := unix.Bind(r.fd, sa); err != nil {
		return nil, fmt.Errorf("bind packet socket: %w", err)
	}
	return r, nil
}

// Receive returns the frames that have arrived, at most 64, in order, and none
// when there are none. The slices are valid until the next call.
func (r *Receiver) Receive() ([][]byte, error) {
	n, errno := r.msgs.recv(r.fd)
	switch errno {
	case 0:
	case unix.EAGAIN, unix.EINTR:
		return nil, nil
	default:
		return nil, fmt.Errorf("receive on %s: %w", r.link.Name, errno)
	}
	for i := range n {
		frame, whole := r.msgs.frame(i)
		if !whole {
			r.cut++
		}
		r.out[i] = frame
	}
	return r.out[:n], nil
}

// Wait returns when a frame has arrived or the timeout is over, and says which.
func (r *Receiver) Wait(timeout time.Duration) (arrived bool, err error) {
	return Wait(timeout, r)
}

// Wait returns when a frame has arrived at any of the receivers or the timeout
// is over, and says which.
func Wait(timeout time.Duration, receivers ...*Receiver) (arrived bool, err error) {
	fds := make([]unix.PollFd, len(receivers))
	for i, r := range receivers {
		fds[i] = unix.PollFd{Fd: int32(r.fd), Events: unix.POLLIN}
	}
	end := time.Now().Add(timeout)
	for {
		left := unix.NsecToTimespec(int64(max(time.Until(end), 0)))
		n, err := unix.Ppoll(fds, &left, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("wait for frames on %s: %w", receivers[0].link.Name, err)
		}
		return n > 0, nil
	}
}

// Dropped returns how many frames arrived and were lost since the receiver was
// opened, because its buffer was full or they were longer than 64 KiB.
func (r *Receiver) Dropped() (uint64, error) {
	stats, err := unix.GetsockoptTpacketStats(r.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0, fmt.Errorf("read statistics of receiver on %s: %w", r.link.Name, err)
	}
	r.dropped += uint64(stats.Drops) // reading clears the kernel's count
	return r.dropped + r.cut, nil
}

// Close closes the socket. Closing again does nothing.
func (r *Receiver) Close() error { return closeSocket(&r.fd) }
