// Package xsk receives and sends frames through AF_XDP sockets.
//
//	      Receive                     Transmit, Flush
//	kernel ------> RX ring -> worker -> TX ring ------> kernel
//	  ^                                                   |
//	  |                 Refill                            v
//	fill ring <--------- packet.Pool <---------- completion ring
//
// A chunk is in exactly one of these places. Every call on the data path
// belongs to the worker goroutine that owns the UMEM: rings and free list have
// one producer and one consumer and no lock.
//
// See Documentation/networking/af_xdp.rst of the kernel. Oldest kernel: 6.1.
package xsk

import (
	"golang.org/x/sys/unix"

	"sfc/dataplane/packet"
)

// Socket is an AF_XDP socket (XSK) bound to one queue of one interface.
//
// Owner: the worker goroutine of its UMEM. No method allocates, except Open,
// Close, Info and Stats.
type Socket struct {
	rx   consRing[unix.XDPDesc]
	tx   prodRing[unix.XDPDesc]
	fill prodRing[uint64]
	comp consRing[uint64]

	umem *UMEM
	pool *packet.Pool
	fd   int
	// kick makes the system call that wakes the kernel for the RX or TX side;
	// the kernel's except in tests that play the kernel.
	kick func(fd int, s side) unix.Errno

	// Chunks handed to the kernel and taken back, modulo 2^64, on each side:
	// the difference is what the kernel and the rings hold.
	filled, received       uint64
	transmitted, reclaimed uint64

	target, reserve int  // see Options
	owed            int  // this socket's part of UMEM.owed
	id              int  // index in UMEM.sockets
	alwaysKick      bool // bound without need-wakeup
	wakeups         uint64
	refused         uint64

	// Cold from here on.
	opts    Options
	ifindex int
	queue   uint32
	info    Info
	maps    [][]byte // ring mappings
	closed  bool
}

// side is the receiving half of a socket (fill, RX) or the sending half (TX,
// completion).
type side uint8

const (
	rxSide side = iota
	txSide
)

// mark is the value in UMEM.where of a chunk that the socket holds.
func (xsk *Socket) mark(s side) uint8 { return uint8(1 + 2*xsk.id + int(s)) }

// Receive takes frames out of the RX ring, at most len(f), and returns how
// many. Their chunks belong to the caller, who passes each to Transmit (of any
// socket of the same UMEM) or puts it back into the pool.
func (xsk *Socket) Receive(f []packet.Frame) int {
	n, idx := xsk.rx.peek(uint32(len(f)))
	if n == 0 {
		return 0
	}
	where := xsk.umem.where
	for i := range f[:n] {
		d := xsk.rx.at(idx + uint32(i))
		chunk := uint32(d.Addr) &^ (packet.ChunkSize - 1)
		f[i] = packet.Frame{Chunk: chunk, Off: uint16(d.Addr % packet.ChunkSize), Len: uint16(d.Len)}
		where[chunk/packet.ChunkSize] = 0
	}
	xsk.rx.release()
	xsk.received += uint64(n)
	return int(n)
}

// Transmit puts frames into the TX ring and returns how many fitted: that many
// of the first belong to the socket now, which returns their chunks to the
// pool once they are sent; the others stay the caller's. [Socket.Flush] makes
// the kernel look. It panics when a frame is not inside its chunk, since the
// kernel would keep the chunk of such a frame for ever, and when a socket holds
// the chunk already.
func (xsk *Socket) Transmit(f []packet.Frame) int {
	n, idx := xsk.tx.reserve(uint32(len(f)))
	if n == 0 {
		return 0
	}
	where, mark := xsk.umem.where, xsk.mark(txSide)
	for i, fr := range f[:n] {
		if fr.Len < packet.MinFrame || int(fr.Off)+int(fr.Len) > packet.ChunkSize || fr.Chunk%packet.ChunkSize != 0 {
			panic("xsk: frame to send is not inside its chunk")
		}
		if where[fr.Chunk/packet.ChunkSize] != 0 {
			panic("xsk: frame to send is not the worker's")
		}
		where[fr.Chunk/packet.ChunkSize] = mark
		xsk.tx.put(idx+uint32(i), unix.XDPDesc{Addr: uint64(fr.Chunk) + uint64(fr.Off), Len: uint32(fr.Len)})
	}
	xsk.tx.submit()
	xsk.transmitted += uint64(n)
	return int(n)
}

// Flush makes the kernel send what Transmit queued, takes back the chunks of
// frames that were sent, and returns whether frames still wait in the TX ring:
// then the link is busy, and the caller comes back later.
//
// In copy mode one system call sends at most Info.TxBudget frames and ends
// early on a busy link, so Flush repeats it as long as each call gets
// something done.
func (xsk *Socket) Flush() (waiting bool) {
	xsk.reclaim()
	left := xsk.tx.waiting()
	for left > 0 && (xsk.alwaysKick || xsk.tx.needWakeup()) {
		errno := xsk.kick(xsk.fd, txSide)
		xsk.wakeups++
		xsk.reclaim()
		now := xsk.tx.waiting()
		progress := now < left
		left = now
		switch errno {
		case 0:
			// Zero copy: the driver was told and sends by itself. Copy: all
			// is sent, or another thread of the kernel is at it.
			return left > 0
		case unix.EBUSY:
			// The device dropped the frame it was given, and its descriptor
			// is used up: NET_XMIT_DROP in xsk_generic_xmit.
			if progress {
				xsk.refused++
			}
		case unix.EAGAIN, unix.ENOBUFS:
			// Budget used up, completion ring full, or link busy.
		default:
			// ENETDOWN and the like: nothing moves until that changes.
			return left > 0
		}
		if !progress {
			return left > 0
		}
	}
	return left > 0
}

// Refill takes back the chunks of frames that were sent and gives free chunks
// to the fill ring, up to Options.FillTarget, except those that other sockets
// of the UMEM need for their reserve. Call it every turn right after Receive,
// before the burst leaves: then the chunks of frames in hand are replaced before
// the far end can know of them, and a sender that keeps a window of at most
// Options.FillTarget frames loses none.
func (xsk *Socket) Refill() {
	xsk.reclaim()
	xsk.fillUp()
	if xsk.fill.needWakeup() && xsk.fill.waiting() > 0 {
		// The outcome does not matter: the flag stays up until it worked.
		_ = xsk.kick(xsk.fd, rxSide)
		xsk.wakeups++
	}
}

// fillUp moves chunks from the pool to the fill ring.
func (xsk *Socket) fillUp() {
	u := xsk.umem
	has := int(xsk.filled - xsk.received)
	want := min(xsk.target-has, xsk.pool.Free()-(u.owed-xsk.owed))
	if want > 0 {
		n, idx := xsk.fill.reserve(uint32(want))
		mark := xsk.mark(rxSide)
		for i := range n {
			chunk, _ := xsk.pool.Get() // n is at most pool.Free
			u.where[chunk/packet.ChunkSize] = mark
			xsk.fill.put(idx+i, uint64(chunk))
		}
		xsk.fill.submit()
		xsk.filled += uint64(n)
		has += int(n)
	}
	owed := max(xsk.reserve-has, 0)
	u.owed += owed - xsk.owed
	xsk.owed = owed
}

// reclaim empties the completion ring into the pool.
func (xsk *Socket) reclaim() {
	where := xsk.umem.where
	// The ring's size bounds the loop: two peeks reach across what was cached.
	for range 2 {
		n, idx := xsk.comp.peek(uint32(len(xsk.comp.descs)))
		if n == 0 {
			return
		}
		for i := range n {
			chunk := uint32(xsk.comp.at(idx+i)) &^ (packet.ChunkSize - 1)
			where[chunk/packet.ChunkSize] = 0
			xsk.pool.Put(chunk)
		}
		xsk.comp.release()
		xsk.reclaimed += uint64(n)
	}
}

// Census counts the chunks that the socket holds.
func (xsk *Socket) Census() packet.Census {
	if xsk.closed {
		return packet.Census{}
	}
	c := packet.Census{Rx: int(xsk.rx.ready()), Completion: int(xsk.comp.ready())}
	c.Fill = int(xsk.filled-xsk.received) - c.Rx
	c.Tx = int(xsk.transmitted-xsk.reclaimed) - c.Completion
	return c
}

// PollFD returns the descriptor for poll(2): readable when a frame is in the
// RX ring, writable when the TX ring has room. It belongs to the socket. It is
// also what goes into an XSKMAP.
func (xsk *Socket) PollFD() int { return xsk.fd }

// kickKernel makes the system call that wakes the kernel, which never sleeps
// (MSG_DONTWAIT). It is a raw one on purpose: the Go scheduler is not told, so
// it does not take the worker's P away when sending a budget of frames takes
// longer than the 20 us after which it would, nor must the worker fight to get
// one back. The price: a stop-the-world waits for one kick, at most the time
// to send TxBudget frames, some 0.3 ms.
func kickKernel(fd int, s side) unix.Errno {
	var errno unix.Errno
	if s == txSide {
		_, _, errno = unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
	} else {
		_, _, errno = unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
	}
	return errno
}
