package xsk

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Open makes an AF_XDP socket on one queue of one interface and fills its fill
// ring. The first socket registers the UMEM; the next ones share it, whatever
// their interface. One UMEM can have one socket per queue.
//
// The interface is looked up in the network namespace of the calling thread.
// The socket stays in it: its methods work from any thread.
func Open(umem *UMEM, ifindex int, queue uint32, opts Options) (_ *Socket, err error) {
	opts = opts.withDefaults(umem.pool.Total())
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("open XSK on ifindex %d queue %d: %w", ifindex, queue, err)
	}
	for _, s := range umem.sockets {
		if s != nil && s.ifindex == ifindex && s.queue == queue && sameNetNS(s.fd) {
			return nil, fmt.Errorf("open XSK on ifindex %d queue %d: %w of the same UMEM: use that one", ifindex, queue, ErrQueueTaken)
		}
	}
	xsk := &Socket{
		umem: umem, pool: umem.pool, fd: -1, kick: kickKernel,
		target: int(opts.FillTarget), reserve: int(opts.Reserve),
		opts: opts, ifindex: ifindex, queue: queue,
	}
	shareWith := umem.open()
	if err := umem.add(xsk); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open XSK on ifindex %d queue %d: %w", ifindex, queue, err), xsk.Close())
		}
	}()
	if xsk.fd, err = unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return nil, explainSocket(err)
	}
	if shareWith == nil {
		if err := registerUMEM(xsk.fd, umem.mem, chunkSize); err != nil {
			return nil, explainUMEM(err, len(umem.mem))
		}
	}
	if err := xsk.makeRings(); err != nil {
		return nil, err
	}
	if err := xsk.setTxBudget(); err != nil {
		return nil, err
	}
	xsk.fillUp() // before bind: a zero-copy driver takes its chunks there
	if err := xsk.bind(shareWith); err != nil {
		return nil, explainBind(err, opts)
	}
	if err := xsk.readMode(shareWith); err != nil {
		return nil, err
	}
	return xsk, nil
}

// makeRings creates and maps the four rings.
func (xsk *Socket) makeRings() error {
	size := xsk.opts.RingSize
	rings := []struct {
		name string
		opt  int
	}{
		{"fill", unix.XDP_UMEM_FILL_RING},
		{"completion", unix.XDP_UMEM_COMPLETION_RING},
		{"RX", unix.XDP_RX_RING},
		{"TX", unix.XDP_TX_RING},
	}
	for _, r := range rings {
		if err := unix.SetsockoptInt(xsk.fd, unix.SOL_XDP, r.opt, int(size)); err != nil {
			return fmt.Errorf("create %s ring of %d: %w", r.name, size, err)
		}
	}
	var off unix.XDPMmapOffsets
	if err := getsockopt(xsk.fd, unix.XDP_MMAP_OFFSETS, &off); err != nil {
		return fmt.Errorf("read ring offsets: %w", err)
	}
	var err error
	mapped := func(pgoff int64, length int) []byte {
		if err != nil {
			return nil
		}
		var mem []byte
		mem, err = unix.Mmap(xsk.fd, pgoff, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
		if err != nil {
			err = fmt.Errorf("map ring at %#x: %w", pgoff, err)
			return nil
		}
		xsk.maps = append(xsk.maps, mem)
		return mem
	}
	fill := mapped(unix.XDP_UMEM_PGOFF_FILL_RING, ringBytes[uint64](off.Fr, size))
	comp := mapped(unix.XDP_UMEM_PGOFF_COMPLETION_RING, ringBytes[uint64](off.Cr, size))
	rx := mapped(unix.XDP_PGOFF_RX_RING, ringBytes[unix.XDPDesc](off.Rx, size))
	tx := mapped(unix.XDP_PGOFF_TX_RING, ringBytes[unix.XDPDesc](off.Tx, size))
	if err != nil {
		return err
	}
	xsk.fill = newProdRing(viewRing[uint64](fill, off.Fr, size))
	xsk.comp = newConsRing(viewRing[uint64](comp, off.Cr, size))
	xsk.rx = newConsRing(viewRing[unix.XDPDesc](rx, off.Rx, size))
	xsk.tx = newProdRing(viewRing[unix.XDPDesc](tx, off.Tx, size))
	return nil
}

// setTxBudget raises how many frames a system call sends in copy mode, where
// the kernel can (6.17).
func (xsk *Socket) setTxBudget() error {
	xsk.info.TxBudget = minTxBudget
	err := unix.SetsockoptInt(xsk.fd, unix.SOL_XDP, unix.XDP_MAX_TX_SKB_BUDGET, int(xsk.opts.TxBudget))
	if errors.Is(err, unix.ENOPROTOOPT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("set transmit budget %d: %w", xsk.opts.TxBudget, err)
	}
	xsk.info.TxBudget = xsk.opts.TxBudget
	return nil
}

// bind binds to the queue, and tries again while it is busy: an old socket's
// queue is freed by a work queue of the kernel some time after its close.
func (xsk *Socket) bind(shareWith *Socket) error {
	sa := &unix.SockaddrXDP{Ifindex: uint32(xsk.ifindex), QueueID: xsk.queue}
	if shareWith != nil {
		// The only flag allowed; the rest is inherited.
		sa.Flags, sa.SharedUmemFD = unix.XDP_SHARED_UMEM, uint32(shareWith.fd)
	} else {
		switch xsk.opts.Mode {
		case ZeroCopy:
			sa.Flags |= unix.XDP_ZEROCOPY
		case Copy:
			sa.Flags |= unix.XDP_COPY
		}
		if !xsk.opts.NoNeedWakeup {
			sa.Flags |= unix.XDP_USE_NEED_WAKEUP
		}
	}
	end := time.Now().Add(xsk.opts.BindWait)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err := unix.Bind(xsk.fd, sa)
		if !errors.Is(err, unix.EBUSY) || time.Now().After(end) {
			return err
		}
		time.Sleep(pause)
	}
}

// sameNetNS says whether the socket lives in the calling thread's network
// namespace: only there does an interface index name the same interface.
func sameNetNS(fd int) bool {
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return true
	}
	probe, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return true
	}
	defer unix.Close(probe)
	here, err := unix.GetsockoptUint64(probe, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	return err != nil || here == cookie
}

// Close closes the socket and gives every chunk it holds back to the pool,
// frames not yet received or sent with them. Call it when the worker has
// stopped: the rings are unmapped. A zero-copy driver may write to chunks for
// some time after, so give them to no other socket then. Closing again does
// nothing.
func (xsk *Socket) Close() error {
	if xsk.closed {
		return nil
	}
	xsk.closed = true
	var errs []error
	if xsk.fd >= 0 {
		errs = append(errs, unix.Close(xsk.fd))
	}
	for _, m := range xsk.maps {
		errs = append(errs, unix.Munmap(m))
	}
	xsk.maps = nil
	xsk.umem.remove(xsk)
	return errors.Join(errs...)
}
