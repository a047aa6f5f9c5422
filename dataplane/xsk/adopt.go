package xsk

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"sfc/dataplane/packet"
)

// Granted is a socket that another process made, for one worker of this one.
type Granted struct {
	Grant Grant
	// FD is the socket. It stays the caller's, and may be closed after the
	// adoption: a duplicate is used.
	FD int
	// Pool is the worker's.
	Pool *packet.Pool
}

// ErrUsed means that somebody has used a socket before: such sockets are
// adopted together with all others of their UMEM.
var ErrUsed = errors.New("socket has been used: adopt the UMEM with all its sockets")

// AdoptUMEM takes over a UMEM with all its sockets, whether they are new or a
// process before this one used them and was killed at any point. It needs no
// privileges. Before Linux 6.4 all sockets have to be new, with a new record
// (else ErrNoAdopt): see [Grant.Unbound].
//
// mem is the memory that was registered, mapped here; record holds
// RecordSize(chunks) bytes that no other process uses: zeros the first time, and
// then what the one before left there. Both outlive the UMEM and stay the
// caller's. depot is the free list of mem, new, with nothing taken out; it has
// the free chunks afterwards, which are those that no ring and not the kernel
// holds: frames that were in the hands of workers are lost, those in RX and TX
// rings are not.
//
// Sockets come in the order of granted. Their counters in the kernel go on, those
// kept here (Stats.Wakeups, Stats.TxRefused) start again. The same process can do
// it again after [UMEM.Leave].
func AdoptUMEM(mem, record []byte, depot *packet.Depot, granted []Granted) (_ *UMEM, _ []*Socket, _ Recovery, err error) {
	var did Recovery
	fail := func(err error) (*UMEM, []*Socket, Recovery, error) {
		return nil, nil, did, fmt.Errorf("adopt UMEM of %d chunks: %w", len(mem)/packet.ChunkSize, err)
	}
	if err := checkMemory(mem, depot); err != nil {
		return fail(err)
	}
	if depot.Free() != depot.Total() {
		return fail(fmt.Errorf("its depot has %d of %d chunks left: make a new one", depot.Free(), depot.Total()))
	}
	u := &UMEM{mem: mem, depot: depot}
	if u.record, err = openRecord(record, depot.Total()); err != nil {
		return fail(err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	sockets := make([]*Socket, 0, len(granted))
	for _, g := range granted {
		s, err := u.attach(g)
		if err != nil {
			return fail(errors.Join(err, u.leave()))
		}
		sockets = append(sockets, s)
	}
	if did, err = u.recover(settleTime); err != nil {
		return fail(errors.Join(err, u.leave()))
	}
	for _, s := range sockets {
		s.Refill()
	}
	return u, sockets, did, nil
}

// Adopt adds a new socket to a UMEM in use, for a worker that does not run. It
// needs what [AdoptUMEM] needs. One that was unbound gets its first chunks when
// its worker calls Refill: where several take the place of earlier ones, bind all
// of them before, since a driver may write into chunks of a queue until the
// queue can be bound again.
func Adopt(umem *UMEM, g Granted) (_ *Socket, err error) {
	umem.mu.Lock()
	defer umem.mu.Unlock()
	if umem.where == nil {
		return nil, errors.New("adopt XSK: the UMEM is closed")
	}
	xsk, err := umem.attach(g)
	if err != nil {
		return nil, err
	}
	used := xsk.rx.consumer.Load() | xsk.tx.producer.Load()
	if len(xsk.queue.sockets) == 1 {
		used |= xsk.fill.producer.Load() | xsk.comp.consumer.Load()
	}
	if used != 0 {
		return nil, errors.Join(fmt.Errorf("adopt XSK on ifindex %d queue %d: %w", g.Grant.Ifindex, g.Grant.Queue, ErrUsed), umem.detach(xsk))
	}
	if !g.Grant.Unbound {
		xsk.Refill()
	}
	return xsk, nil
}

// attach makes a socket of a descriptor, and its queue with the first. It
// changes nothing that outlives the process. The caller has UMEM.mu.
func (u *UMEM) attach(g Granted) (_ *Socket, err error) {
	grant := &g.Grant
	defer func() {
		if err != nil {
			err = fmt.Errorf("adopt XSK on ifindex %d queue %d: %w", grant.Ifindex, grant.Queue, err)
		}
	}()
	if err := grant.validate(); err != nil {
		return nil, err
	}
	switch {
	case !g.Pool.Of(u.depot):
		return nil, errors.New("the worker's pool is not of the UMEM's depot: take Depot.Pool")
	case grant.Chunks != u.depot.Total():
		return nil, fmt.Errorf("the socket is of a UMEM of %d chunks, this one has %d", grant.Chunks, u.depot.Total())
	case grant.ID < len(u.sockets) && u.sockets[grant.ID] != nil:
		return nil, fmt.Errorf("the UMEM has a socket %d already", grant.ID)
	}
	q, err := u.queueOf(grant)
	if err != nil {
		return nil, err
	}
	for _, s := range q.sockets {
		if s.pool == g.Pool {
			return nil, fmt.Errorf("%w of the same worker: use that one", ErrQueueTaken)
		}
	}
	xsk := &Socket{
		umem: u, queue: q, pool: g.Pool, fd: -1, kick: kickKernel, opts: grant.options().withDefaults(grant.Chunks), info: grant.info(),
		id: grant.ID, txMark: inTx.of(grant.ID), alwaysKick: !grant.NeedWakeup,
	}
	u.sockets = atIndex(u.sockets, grant.ID, xsk)
	defer func() {
		if err != nil {
			err = errors.Join(err, u.detach(xsk))
		}
	}()
	if xsk.fd, err = unix.FcntlInt(uintptr(g.FD), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		xsk.fd = -1
		return nil, fmt.Errorf("duplicate descriptor %d: %w", g.FD, err)
	}
	if grant.Unbound {
		err = xsk.bind(xsk.plan(grant.Ifindex, grant.Queue), false)
	} else if err = xsk.mapOwn(); err == nil {
		err = xsk.mapShared()
	}
	if err != nil {
		return nil, err
	}
	xsk.join()
	return xsk, nil
}

// queueOf returns the queue that a grant names, a new one for its first socket.
func (u *UMEM) queueOf(g *Grant) (*queue, error) {
	if g.QueueID < len(u.queues) && u.queues[g.QueueID] != nil {
		q := u.queues[g.QueueID]
		if q.ifindex != g.Ifindex || q.number != g.Queue || q.size != g.FillRing {
			return nil, fmt.Errorf("queue %d of the UMEM is queue %d of ifindex %d with rings of %d", g.QueueID, q.number, q.ifindex, q.size)
		}
		return q, nil
	}
	q := newQueue(g.Ifindex, g.Queue, g.options())
	q.id, q.netns, q.exact = g.QueueID, g.NetNS, g.Exact
	u.queues = atIndex(u.queues, q.id, q)
	u.owe(q, q.reserve)
	return q, nil
}

// atIndex puts v at an index of a list that grows as needed.
func atIndex[T any](list []*T, i int, v *T) []*T {
	for len(list) <= i {
		list = append(list, nil)
	}
	list[i] = v
	return list
}

// Leave gives up the sockets without closing them for others: rings, record and
// chunks stay as they are, for who adopts them next. The workers have stopped.
// No socket of the UMEM may be used after that, nor the UMEM.
func (u *UMEM) Leave() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.leave()
}

// leave is Leave with UMEM.mu.
func (u *UMEM) leave() error {
	var errs []error
	for _, s := range u.sockets {
		if s != nil {
			errs = append(errs, u.detach(s))
		}
	}
	return errors.Join(append(errs, u.record.close())...)
}

// detach gives up this process's hold of a socket.
func (u *UMEM) detach(xsk *Socket) error {
	xsk.closed = true
	u.sockets[xsk.id] = nil
	q := xsk.queue
	for i, s := range q.sockets {
		if s == xsk {
			q.sockets = append(q.sockets[:i:i], q.sockets[i+1:]...)
			break
		}
	}
	q.last = nil
	if len(q.sockets) == 0 {
		u.owe(q, 0)
		u.queues[q.id] = nil
	}
	return xsk.unmap()
}
