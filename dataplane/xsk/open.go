package xsk

import (
	"errors"
	"fmt"

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
	p := xsk.plan(ifindex, queue)
	p.opts.FillRing = xsk.queue.size
	var exact bool
	if xsk.fd, exact, xsk.info.TxBudget, err = p.make(umem.mem); err != nil {
		return nil, err
	}
	if p.first {
		xsk.queue.exact = exact
	}
	if err := xsk.bind(p, true); err != nil {
		return nil, err
	}
	xsk.join()
	return xsk, nil
}

// plan says how the socket is to be made, as the next one of its queue.
func (xsk *Socket) plan(ifindex int, queue uint32) *plan {
	p := &plan{ifindex: ifindex, queue: queue, opts: xsk.opts, first: len(xsk.queue.sockets) == 0, shareFD: -1}
	if with := xsk.umem.sharer(xsk); with != nil {
		p.shareFD, p.inherited = with.fd, &with.info.NeedWakeup
	}
	return p
}

// bind maps the rings and binds the socket. With fill the queue's first one has
// chunks before: a zero-copy driver takes its own when it is bound.
func (xsk *Socket) bind(p *plan, fill bool) error {
	// Before bind, which ends all mapping until Linux 6.4.
	if err := xsk.mapOwn(); err != nil {
		return err
	}
	if p.first {
		if err := xsk.mapShared(); err != nil {
			return err
		}
		if fill {
			xsk.queue.lock.wait()
			xsk.takeOver()
			xsk.fillUp()
			xsk.leave()
		}
	}
	if err := p.bind(xsk.fd); err != nil {
		return explainBind(err, p.opts)
	}
	if !p.first {
		// After bind: the queue's rings are to be had from now on.
		if err := xsk.mapShared(); err != nil {
			return err
		}
	}
	info, err := p.mode(xsk.fd)
	if err != nil {
		return err
	}
	info.TxBudget = xsk.info.TxBudget
	xsk.info, xsk.alwaysKick = info, !info.NeedWakeup
	return nil
}

// newSocket makes a socket without anything of the kernel's.
func (u *UMEM) newSocket(pool *packet.Pool, ifindex int, number uint32, opts Options) (xsk *Socket, err error) {
	if u.where == nil {
		return nil, errors.New("the UMEM is closed")
	}
	q := u.queue(ifindex, number)
	if q == nil {
		q = newQueue(ifindex, number, opts)
		q.netns = threadNetNS()
		if err = u.addQueue(q); err != nil {
			return nil, err
		}
	}
	for _, s := range q.sockets {
		if s.pool == pool {
			return nil, fmt.Errorf("%w of the same worker: use that one", ErrQueueTaken)
		}
	}
	xsk = &Socket{umem: u, queue: q, pool: pool, fd: -1, opts: opts}
	if u.sockets, xsk.id, err = place(u.sockets, xsk, maxHolders, "sockets"); err != nil {
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
