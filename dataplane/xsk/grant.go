package xsk

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Grant is what must be known about a socket besides its descriptor, to use it
// in another process. It is plain data.
type Grant struct {
	// ID tells the sockets of a UMEM apart, QueueID their queues: numbers from
	// 0 on that name them in the record of chunks. Grants of the same queue of
	// the same interface have the same QueueID.
	ID, QueueID int
	// Ifindex and Queue are what the socket is bound to, in the network
	// namespace with the cookie NetNS (see SO_NETNS_COOKIE).
	Ifindex int
	Queue   uint32
	NetNS   uint64
	// Chunks is how many the UMEM has.
	Chunks int
	// First: it made the queue's fill and completion ring.
	First bool
	// RingSize is the size of its RX and TX ring, FillRing that of its queue's
	// fill and completion ring.
	RingSize, FillRing uint32
	// FillTarget and Reserve are the queue's: see Options.
	FillTarget, Reserve uint32
	// TxBudget, ZeroCopy and NeedWakeup are in force: see Info.
	TxBudget             uint32
	ZeroCopy, NeedWakeup bool
	// Unbound: who adopts the socket binds it, in this Mode, after mapping its
	// rings; only then ZeroCopy is known. So it is before Linux 6.4, where a
	// bound socket's rings cannot be mapped. Such a socket serves one process:
	// the next one needs new sockets.
	Unbound bool
	Mode    Mode
	// Exact: the kernel (6.17 and later) publishes at once what it took out of
	// a TX ring.
	Exact bool
}

// validate returns what is wrong with a grant, which may come from another
// process.
func (g *Grant) validate() error {
	switch {
	case g.ID < 0 || g.ID >= maxHolders || g.QueueID < 0 || g.QueueID >= maxQueues:
		return fmt.Errorf("socket %d of queue %d: want numbers below %d and %d", g.ID, g.QueueID, maxHolders, maxQueues)
	case g.Ifindex < 0:
		return fmt.Errorf("interface index %d", g.Ifindex)
	}
	return g.options().validate()
}

// options are those that lead to the same socket.
func (g *Grant) options() Options {
	return Options{
		RingSize: g.RingSize, FillRing: g.FillRing, FillTarget: g.FillTarget, Reserve: g.Reserve,
		TxBudget: g.TxBudget, NoNeedWakeup: !g.NeedWakeup, Mode: g.Mode, Unbound: g.Unbound, borrow: g.Unbound,
	}
}

// info is what Info says.
func (g *Grant) info() Info {
	return Info{ZeroCopy: g.ZeroCopy, NeedWakeup: g.NeedWakeup, TxBudget: g.TxBudget, RingSize: g.RingSize}
}

// Handle is a socket in the hands of who made it, or of who keeps it for those
// who use it. As long as any process has the descriptor the socket lives, with
// everything in its rings.
type Handle struct {
	Grant Grant
	File  *os.File
}

// Close gives up this process's hold. Whoever uses the socket closes it after
// that: then its chunks are really free (see [Socket.Close]).
func (h *Handle) Close() error { return h.File.Close() }

// Create makes an AF_XDP socket on one queue of one interface for another
// process to use: [Adopt], [AdoptUMEM]. It needs CAP_NET_RAW, and CAP_IPC_LOCK
// or a locked-memory limit above the UMEM. The socket is bound when Create
// returns, unless Grant.Unbound says otherwise, which is so for all sockets of a
// UMEM or for none; it receives nothing until somebody gives it chunks.
//
// held are all handles of the UMEM that are open. With none, mem is registered:
// a mapping of the memory, such as a memfd, that those who use the socket map
// too; it may be unmapped after that. With some, mem is not looked at. The first
// of a queue decides about the size of the fill ring, Options.FillTarget and
// Options.Reserve; the others take what it has.
//
// The interface is looked up in the network namespace of the calling thread.
func Create(mem []byte, held []*Handle, ifindex int, queue uint32, opts Options) (_ *Handle, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("create XSK on ifindex %d queue %d: %w", ifindex, queue, err)
		}
	}()
	netns := threadNetNS()
	h := &Handle{Grant: Grant{Ifindex: ifindex, Queue: queue, NetNS: netns, Mode: opts.Mode, First: true, Chunks: len(mem) / chunkSize}}
	var with *Handle
	taken, queues := map[int]bool{}, map[int]bool{}
	for _, o := range held {
		g := &o.Grant
		taken[g.ID], queues[g.QueueID] = true, true
		h.Grant.Chunks = g.Chunks
		same := g.Ifindex == ifindex && g.Queue == queue && g.NetNS == netns
		if with == nil || same && h.Grant.First {
			with = o
		}
		if same {
			h.Grant.First, h.Grant.QueueID = false, g.QueueID
		}
	}
	if h.Grant.First {
		h.Grant.QueueID = lowest(queues)
	} else {
		q := &with.Grant
		opts.FillRing, opts.FillTarget, opts.Reserve = q.FillRing, q.FillTarget, q.Reserve
	}
	h.Grant.ID = lowest(taken)
	opts = opts.withDefaults(h.Grant.Chunks)
	if err := opts.validate(); err != nil {
		return nil, err
	}
	p := plan{ifindex: ifindex, queue: queue, opts: opts, first: h.Grant.First, shareFD: -1}
	if with != nil {
		p.shareFD = int(with.File.Fd())
		p.inherited = &with.Grant.NeedWakeup
		p.opts.Unbound = with.Grant.Unbound
	} else if len(mem) == 0 || len(mem)%chunkSize != 0 || !pageAligned(mem) {
		return nil, fmt.Errorf("UMEM of %d bytes: want a mapping of a positive multiple of %d", len(mem), chunkSize)
	}
	err = p.create(h, mem)
	if errors.Is(err, ErrNoAdopt) {
		p.opts.Unbound = true
		err = p.create(h, mem)
	}
	if err != nil {
		return nil, err
	}
	return h, nil
}

// create makes the socket of a handle, and binds it if who adopts it need not.
// ErrNoAdopt says that they must.
func (p *plan) create(h *Handle, mem []byte) error {
	fd, exact, budget, err := p.make(mem)
	if err != nil {
		return err
	}
	info := Info{NeedWakeup: p.needWakeup()}
	if !p.opts.Unbound {
		info, err = p.bindAnywhere(fd)
	}
	g, o := &h.Grant, &p.opts
	g.RingSize, g.FillRing, g.FillTarget, g.Reserve = o.RingSize, o.FillRing, o.FillTarget, o.Reserve
	g.ZeroCopy, g.NeedWakeup, g.TxBudget, g.Exact, g.Unbound = info.ZeroCopy, info.NeedWakeup, budget, exact, o.Unbound
	if err == nil {
		err = g.validate()
	}
	if err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	h.File = os.NewFile(uintptr(fd), fmt.Sprintf("xsk-%d-%d", p.ifindex, p.queue))
	return nil
}

// bindAnywhere binds a socket that another process is to map. The first of a
// UMEM shows whether the kernel allows that.
func (p *plan) bindAnywhere(fd int) (info Info, err error) {
	if err := p.bind(fd); err != nil {
		return info, explainBind(err, p.opts)
	}
	if p.shareFD < 0 {
		rx, err := mapRing(fd, unix.XDP_PGOFF_RX_RING, unix.Getpagesize())
		if err != nil {
			return info, err
		}
		if err := unix.Munmap(rx); err != nil {
			return info, err
		}
	}
	return p.mode(fd)
}

// lowest returns the lowest number from 0 on that is not taken.
func lowest(taken map[int]bool) (n int) {
	for taken[n] {
		n++
	}
	return n
}

// threadNetNS returns the cookie of the calling thread's network namespace, 0
// when the kernel does not tell.
func threadNetNS() uint64 {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0
	}
	return cookie
}
