package xsk

import (
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"sfc/dataplane/packet"
)

// closeKicks bounds how often Close asks the kernel to send what still waits.
const closeKicks = 64

// Close closes the socket and gives the chunks it holds back to its pool,
// frames not yet received or sent with them. Other sockets of the queue keep
// its fill and completion ring and may be in use meanwhile; this one's worker
// has stopped. Take the socket out of every XSKMAP first, and let the programs
// that run end: chunks of frames that still arrive come back only with the
// last socket of the queue. Handles of the socket in other processes are closed
// first: as long as there is one, the kernel keeps the chunks. So do, from a zero-copy driver or a kernel before
// 6.17, those of frames that wait to be sent.
//
// A zero-copy driver may write to chunks for some time after the last socket
// of a queue is closed, so give them to no other socket then. Closing again
// does nothing.
func (xsk *Socket) Close() error {
	xsk.umem.mu.Lock()
	defer xsk.umem.mu.Unlock()
	return xsk.close()
}

// close does it, with UMEM.mu.
func (xsk *Socket) close() error {
	if xsk.closed {
		return nil
	}
	xsk.closed = true
	u, q := xsk.umem, xsk.queue
	if xsk.joined {
		if len(q.sockets) > 1 {
			for range closeKicks {
				if !xsk.Flush() {
					break
				}
			}
		}
		xsk.part()
	}
	err := xsk.unmap()
	// The kernel has let go of the socket now.
	if len(q.sockets) == 0 {
		u.giveBack(xsk.pool, xsk.txMark)
		u.dropQueue(q, xsk.pool)
	}
	u.sockets[xsk.id] = nil
	return err
}

// unmap gives back what this process has of the socket.
func (xsk *Socket) unmap() error {
	var errs []error
	if xsk.fd >= 0 {
		errs = append(errs, unix.Close(xsk.fd))
		xsk.fd = -1
	}
	for _, m := range xsk.own {
		errs = append(errs, unix.Munmap(m))
	}
	xsk.own = nil
	if xsk.shared != nil {
		errs = append(errs, xsk.shared.release())
		xsk.shared = nil
	}
	return errors.Join(errs...)
}

// part takes the socket out of its queue. As long as others remain there, what
// it holds becomes free, or the queue's.
func (xsk *Socket) part() {
	q := xsk.queue
	q.lock.wait()
	defer xsk.leave()
	xsk.takeOver()
	q.sockets = slices.DeleteFunc(q.sockets, func(s *Socket) bool { return s == xsk })
	q.last = nil
	if len(q.sockets) == 0 {
		return
	}
	// Frames that the device refused are done, but may still be in the TX
	// ring: their chunks are in the completion ring.
	xsk.collect()
	xsk.dropReceived()
	if q.exact && !xsk.info.ZeroCopy {
		xsk.dropUnsent()
	}
	q.goneRx += xsk.received
	q.goneTx += xsk.transmitted
	gone := &xsk.umem.gone[q.id]
	gone.rx.Add(xsk.rx.consumer.Load() - q.origin)
	gone.tx.Add(xsk.tx.consumer.Load() - q.origin)
	where := xsk.umem.where
	for i, h := range where {
		if h == xsk.txMark {
			where[i] = inLateTx.of(q.id)
		}
	}
}

// dropReceived frees what waits in the RX ring.
func (xsk *Socket) dropReceived() {
	var f [packet.BurstSize]packet.Frame
	for n := xsk.Receive(f[:]); n > 0; n = xsk.Receive(f[:]) {
		for _, fr := range f[:n] {
			xsk.pool.Put(fr.Chunk)
		}
	}
}

// dropUnsent frees what waits in the TX ring. In copy mode the kernel looks there
// only when it is told to, so the ring can be made shorter.
func (xsk *Socket) dropUnsent() {
	where := xsk.umem.where
	idx, end := xsk.tx.consumer.Load(), xsk.tx.cachedProd
	xsk.tx.cachedProd = idx
	xsk.tx.submit()
	for ; idx != end; idx++ {
		chunk := uint32(xsk.tx.descs[idx&xsk.tx.mask].Addr) &^ (packet.ChunkSize - 1)
		if where[chunk/packet.ChunkSize] == xsk.txMark {
			where[chunk/packet.ChunkSize] = 0
			xsk.transmitted--
			xsk.pool.Put(chunk)
		}
	}
}
