package xsk

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"sfc/dataplane/packet"
)

// Open makes the AF_XDP socket of one worker on one queue of one interface.
// pool is the worker's, of the UMEM's depot. The first socket registers the
// UMEM; the first of a queue makes the fill and completion ring of the queue,
// fills the one, and decides about ring sizes, Options.FillTarget and
// Options.Reserve; others share them. A worker has one socket per queue.
//
// The interface is looked up in the network namespace of the calling thread.
// The socket stays in it: its methods work from any thread. Sockets may be
// opened while workers use others of the UMEM, but the pool's worker must not
// run.
func Open(umem *UMEM, pool *packet.Pool, ifindex int, queue uint32, opts Options) (_ *Socket, err error) {
	opts = opts.withDefaults(umem.depot.Total())
	defer func() {
		if err != nil {
			err = fmt.Errorf("open XSK on ifindex %d queue %d: %w", ifindex, queue, err)
		}
	}()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	if !pool.Of(umem.depot) {
		return nil, errors.New("the worker's pool is not of the UMEM's depot: take Depot.Pool")
	}
	umem.mu.Lock()
	defer umem.mu.Unlock()
	xsk, err := umem.newSocket(pool, ifindex, queue, opts)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, xsk.close())
		}
	}()
	xsk.kick = kickKernel
	if xsk.fd, err = unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return nil, explainSocket(err)
	}
	shareWith := umem.sharer(xsk)
	if shareWith == nil {
		if err := registerUMEM(xsk.fd, umem.mem, chunkSize); err != nil {
			return nil, explainUMEM(err, len(umem.mem))
		}
	}
	first := len(xsk.queue.sockets) == 0
	if err := xsk.createRings(first); err != nil {
		return nil, err
	}
	exact, err := xsk.setTxBudget()
	if err != nil {
		return nil, err
	}
	if first {
		xsk.queue.exact = exact
		if err := xsk.mapShared(); err != nil {
			return nil, err
		}
		xsk.queue.lock.wait()
		xsk.takeOver()
		xsk.fillUp() // before bind: a zero-copy driver takes its chunks there
		xsk.leave()
	}
	if err := xsk.bind(shareWith); err != nil {
		return nil, explainBind(err, opts)
	}
	if !first {
		// After bind: the queue's rings are to be had from now on.
		if err := xsk.mapShared(); err != nil {
			return nil, err
		}
	}
	if err := xsk.readMode(shareWith); err != nil {
		return nil, err
	}
	xsk.join()
	return xsk, nil
}

// newSocket makes a socket without anything of the kernel's.
func (u *UMEM) newSocket(pool *packet.Pool, ifindex int, number uint32, opts Options) (xsk *Socket, err error) {
	if u.where == nil {
		return nil, errors.New("the UMEM is closed")
	}
	q := u.queue(ifindex, number)
	if q == nil {
		if q, err = u.newQueue(ifindex, number, opts); err != nil {
			return nil, err
		}
	}
	for _, s := range q.sockets {
		if s.pool == pool {
			return nil, fmt.Errorf("%w of the same worker: use that one", ErrQueueTaken)
		}
	}
	xsk = &Socket{umem: u, queue: q, pool: pool, fd: -1, opts: opts}
	if u.sockets, xsk.id, err = place(u.sockets, xsk, "sockets"); err != nil {
		if len(q.sockets) == 0 {
			u.dropQueue(q, pool)
		}
		return nil, err
	}
	xsk.txMark = inTx.of(xsk.id)
	return xsk, nil
}

// sharer returns the socket that xsk shares the UMEM with: of its own queue if
// there is one, since the kernel takes no other then; nil for the first.
func (u *UMEM) sharer(xsk *Socket) *Socket {
	if q := xsk.queue; len(q.sockets) > 0 {
		return q.sockets[0]
	}
	for _, s := range u.sockets {
		if s != nil && s != xsk {
			return s
		}
	}
	return nil
}

// join makes the socket one of its queue's.
func (xsk *Socket) join() {
	q := xsk.queue
	q.lock.wait()
	q.sockets = append(q.sockets, xsk)
	xsk.joined = true
	xsk.leave()
}

// setTxBudget raises how many frames a system call sends in copy mode, and says
// whether the kernel can (6.17).
func (xsk *Socket) setTxBudget() (can bool, err error) {
	xsk.info.TxBudget = minTxBudget
	err = unix.SetsockoptInt(xsk.fd, unix.SOL_XDP, unix.XDP_MAX_TX_SKB_BUDGET, int(xsk.opts.TxBudget))
	if errors.Is(err, unix.ENOPROTOOPT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("set transmit budget %d: %w", xsk.opts.TxBudget, err)
	}
	xsk.info.TxBudget = xsk.opts.TxBudget
	return true, nil
}

// bind binds to the queue, and tries again while it is busy: an old socket's
// queue is freed by a work queue of the kernel some time after its close.
func (xsk *Socket) bind(shareWith *Socket) error {
	sa := &unix.SockaddrXDP{Ifindex: uint32(xsk.queue.ifindex), QueueID: xsk.queue.number}
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
