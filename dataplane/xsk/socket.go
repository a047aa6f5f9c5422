// Package xsk receives and sends frames through AF_XDP sockets.
//
//	      Receive                     Transmit, Flush
//	kernel ------> RX ring -> worker -> TX ring ------> kernel
//	  ^                                                   |
//	  |                 Refill                            v
//	fill ring <--------- packet.Pool <---------- completion ring
//
// A chunk is in exactly one of these places. One UMEM serves all ports, queues
// and workers. A worker has a socket of its own on every queue, with an RX and
// a TX ring that nobody else touches. The sockets of a queue share its fill and
// completion ring, which whoever comes by serves, under a lock that nobody waits
// for:
//
//	worker 0: RX, TX --- socket ---+--- fill, completion --- queue
//	worker 1: RX, TX --- socket ---'
//
// See Documentation/networking/af_xdp.rst of the kernel. Oldest kernel: 6.1.
package xsk

import (
	"golang.org/x/sys/unix"

	"sfc/dataplane/packet"
)

// Socket is an AF_XDP socket (XSK) of one worker, bound to one queue of one
// interface.
//
// Owner: the worker goroutine, with the socket's pool. No method allocates,
// except Open, Close, Info and Stats.
type Socket struct {
	rx consRing[unix.XDPDesc]
	tx prodRing[unix.XDPDesc]
	// fill and comp are this socket's view of the queue's rings: to be used
	// with the queue's lock.
	fill prodRing[uint64]
	comp consRing[uint64]

	umem  *UMEM
	queue *queue
	pool  *packet.Pool
	fd    int
	// kick makes the system call that wakes the kernel for the RX or TX side;
	// the kernel's except in tests that play the kernel.
	kick func(fd int, s side) unix.Errno

	// Frames taken out of the RX ring and put into the TX ring, modulo 2^64.
	received, transmitted uint64

	txMark     uint16 // of chunks that the socket sends, in UMEM.where
	alwaysKick bool   // bound without need-wakeup
	wakeups    uint64
	refused    uint64

	// Cold from here on.
	rxStart uint32 // where the RX ring's indices began
	id      int    // index in UMEM.sockets
	opts    Options
	info    Info
	own     [][]byte  // mappings of the RX and TX ring
	shared  *ringMaps // of the fill and completion ring
	joined  bool      // one of queue.sockets
	closed  bool
}

// side is the receiving half of a socket (fill, RX) or the sending half (TX,
// completion).
type side uint8

const (
	rxSide side = iota
	txSide
)

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
	where, mark := xsk.umem.where, xsk.txMark
	for i, fr := range f[:n] {
		if fr.Len < packet.MinFrame || int(fr.Off)+int(fr.Len) > packet.ChunkSize || fr.Chunk%packet.ChunkSize != 0 {
			panic("xsk: frame to send is not inside its chunk")
		}
		if where[fr.Chunk/packet.ChunkSize] != 0 {
			panic("xsk: frame to send is not the worker's")
		}
		xsk.tx.put(idx+uint32(i), unix.XDPDesc{Addr: uint64(fr.Chunk) + uint64(fr.Off), Len: uint32(fr.Len)})
		where[fr.Chunk/packet.ChunkSize] = mark // in this order: see UMEM.recover
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
		errno := xsk.send()
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

// send makes the system call that sends; EAGAIN when another socket of the
// queue is at it and the kernel cannot do both.
func (xsk *Socket) send() unix.Errno {
	q := xsk.queue
	if !q.exact {
		if !q.sending.try() {
			return unix.EAGAIN
		}
		defer q.sending.release()
	}
	xsk.wakeups++
	return xsk.kick(xsk.fd, txSide)
}

// Waiting returns how many frames wait in the RX ring, and how many of those
// given to Transmit the kernel has not taken out of the TX ring yet: what the
// worker hands to another one once they have left is not sent before them.
func (xsk *Socket) Waiting() (rx, tx int) { return int(xsk.rx.ready()), int(xsk.tx.waiting()) }

// Refill takes back the chunks of frames that were sent and gives free chunks
// to the fill ring, up to Options.FillTarget, except those that other queues
// of the UMEM need for their reserve. Call it every turn right after Receive,
// before the burst leaves: then the chunks of frames in hand are replaced before
// the far end can know of them, and a sender that keeps a window of at most
// Options.FillTarget frames loses none. It does nothing while another worker
// serves the queue's rings.
func (xsk *Socket) Refill() {
	if !xsk.enter() {
		return
	}
	xsk.collect()
	xsk.fillUp()
	wake := xsk.fill.needWakeup() && xsk.fill.waiting() > 0
	xsk.leave()
	if wake {
		// The outcome does not matter: the flag stays up until it worked.
		_ = xsk.kick(xsk.fd, rxSide)
		xsk.wakeups++
	}
}

// reclaim takes back the chunks of sent frames, whichever socket of the queue
// sent them.
func (xsk *Socket) reclaim() {
	if xsk.comp.idle() || !xsk.enter() {
		return
	}
	xsk.collect()
	xsk.leave()
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
