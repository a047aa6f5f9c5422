package xsk

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// ringMaps is a mapping of a queue's fill and completion ring, of one socket,
// or of several where the kernel (before 6.4) lets only the first of a queue
// map them. The mapping keeps the kernel's socket alive that it was made
// through.
type ringMaps struct {
	fill, comp []byte
	off        unix.XDPMmapOffsets
	users      int // sockets; guarded by UMEM.mu
}

// mapOwn maps the RX and TX ring.
func (xsk *Socket) mapOwn() error {
	size := xsk.opts.RingSize
	off, err := ringOffsets(xsk.fd)
	if err != nil {
		return err
	}
	rx, err := mapRing(xsk.fd, unix.XDP_PGOFF_RX_RING, ringBytes[unix.XDPDesc](off.Rx, size))
	if err != nil {
		return err
	}
	xsk.own = append(xsk.own, rx)
	tx, err := mapRing(xsk.fd, unix.XDP_PGOFF_TX_RING, ringBytes[unix.XDPDesc](off.Tx, size))
	if err != nil {
		return err
	}
	xsk.own = append(xsk.own, tx)
	xsk.rx = newConsRing(viewRing[unix.XDPDesc](rx, off.Rx, size))
	xsk.tx = newProdRing(viewRing[unix.XDPDesc](tx, off.Tx, size))
	xsk.rxStart = xsk.rx.cachedCons
	return nil
}

// mapShared maps the fill and completion ring of the queue.
func (xsk *Socket) mapShared() error {
	q := xsk.queue
	m, err := mapQueue(xsk.fd, q.size)
	if len(q.sockets) > 0 && (errors.Is(err, unix.EBUSY) || xsk.opts.borrow) {
		// A socket that is bound could not map anything before Linux 6.4: the
		// first one's mapping must do.
		if err == nil {
			err = m.unmap()
		} else {
			err = nil
		}
		m = q.sockets[0].shared
	}
	if err != nil {
		return err
	}
	m.users++
	xsk.shared = m
	xsk.fill = newProdRing(viewRing[uint64](m.fill, m.off.Fr, q.size))
	xsk.comp = newConsRing(viewRing[uint64](m.comp, m.off.Cr, q.size))
	return nil
}

// mapQueue maps the fill and completion ring through one socket of a queue.
func mapQueue(fd int, size uint32) (*ringMaps, error) {
	off, err := ringOffsets(fd)
	if err != nil {
		return nil, err
	}
	m := &ringMaps{off: off}
	if m.fill, err = mapRing(fd, unix.XDP_UMEM_PGOFF_FILL_RING, ringBytes[uint64](off.Fr, size)); err != nil {
		return nil, err
	}
	if m.comp, err = mapRing(fd, unix.XDP_UMEM_PGOFF_COMPLETION_RING, ringBytes[uint64](off.Cr, size)); err != nil {
		return nil, errors.Join(err, unix.Munmap(m.fill))
	}
	return m, nil
}

// release unmaps the rings when no socket uses them any more.
func (m *ringMaps) release() error {
	if m.users--; m.users > 0 {
		return nil
	}
	return m.unmap()
}

func (m *ringMaps) unmap() error { return errors.Join(unix.Munmap(m.fill), unix.Munmap(m.comp)) }

// ringOffsets asks where the words of a ring lie in its mapping.
func ringOffsets(fd int) (off unix.XDPMmapOffsets, err error) {
	if err := getsockopt(fd, unix.XDP_MMAP_OFFSETS, &off); err != nil {
		return off, fmt.Errorf("read ring offsets: %w", err)
	}
	return off, nil
}

func mapRing(fd int, pgoff int64, length int) ([]byte, error) {
	mem, err := unix.Mmap(fd, pgoff, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if errors.Is(err, unix.EBUSY) {
		return nil, fmt.Errorf("map ring at %#x: %w: %w", pgoff, ErrNoAdopt, err)
	}
	if err != nil {
		return nil, fmt.Errorf("map ring at %#x: %w", pgoff, err)
	}
	return mem, nil
}
