package xsk

import (
	"fmt"

	"golang.org/x/sys/unix"

	"sfc/dataplane/packet"
)

const chunkSize = packet.ChunkSize

// Info is what is really in force for a socket, as the kernel says.
type Info struct {
	// ZeroCopy: the interface reads and writes the UMEM itself.
	ZeroCopy bool
	// NeedWakeup: the kernel says when it needs a system call.
	NeedWakeup bool
	// TxBudget is how many frames a system call sends in copy mode; 32 when
	// the kernel (before 6.17) cannot change it.
	TxBudget uint32
	// RingSize is the number of descriptors of each ring.
	RingSize uint32
}

// String returns the bind mode, "zero-copy" or "copy".
func (i Info) String() string {
	if i.ZeroCopy {
		return "zero-copy"
	}
	return "copy"
}

// Info returns what is in force.
func (xsk *Socket) Info() Info { return xsk.info }

// Stats counts what went wrong on a socket since it was opened. The first six
// are the kernel's XDP_STATISTICS. RxFillEmpty is the queue's: all its sockets
// say the same number.
type Stats struct {
	RxDropped      uint64 // frames longer than a chunk holds, and other invalid ones
	RxInvalidDescs uint64 // bad addresses in the fill ring
	TxInvalidDescs uint64 // bad descriptors in the TX ring
	RxRingFull     uint64 // frames dropped: RX ring full
	RxFillEmpty    uint64 // frames dropped or delayed: fill ring empty
	TxRingEmpty    uint64 // the kernel looked and found nothing to send
	TxRefused      uint64 // frames that the interface dropped, copy mode
	Wakeups        uint64 // system calls made to wake the kernel
}

// Add returns the sum of two sockets' counters.
func (s Stats) Add(o Stats) Stats {
	return Stats{
		RxDropped:      s.RxDropped + o.RxDropped,
		RxInvalidDescs: s.RxInvalidDescs + o.RxInvalidDescs,
		TxInvalidDescs: s.TxInvalidDescs + o.TxInvalidDescs,
		RxRingFull:     s.RxRingFull + o.RxRingFull,
		RxFillEmpty:    s.RxFillEmpty + o.RxFillEmpty,
		TxRingEmpty:    s.TxRingEmpty + o.TxRingEmpty,
		TxRefused:      s.TxRefused + o.TxRefused,
		Wakeups:        s.Wakeups + o.Wakeups,
	}
}

// Stats returns the counters.
func (xsk *Socket) Stats() (Stats, error) {
	var s unix.XDPStatistics
	if err := getsockopt(xsk.fd, unix.XDP_STATISTICS, &s); err != nil {
		return Stats{}, fmt.Errorf("read statistics of XSK on ifindex %d queue %d: %w", xsk.queue.ifindex, xsk.queue.number, err)
	}
	return Stats{
		RxDropped:      s.Rx_dropped,
		RxInvalidDescs: s.Rx_invalid_descs,
		TxInvalidDescs: s.Tx_invalid_descs,
		RxRingFull:     s.Rx_ring_full,
		RxFillEmpty:    s.Rx_fill_ring_empty_descs,
		TxRingEmpty:    s.Tx_ring_empty_descs,
		TxRefused:      xsk.refused,
		Wakeups:        xsk.wakeups,
	}, nil
}
