package agent

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"sfc/bpf"
	"sfc/ctrl/plane"
	"sfc/dataplane"
	"sfc/dataplane/classify"
	"sfc/dataplane/ethtool"
	"sfc/dataplane/route"
	"sfc/dataplane/xsk"
)

// localKernel is the kernel's half in a process that has the privileges.
type localKernel struct {
	in      func(func() error) error
	opts    KernelOptions
	steer   *bpf.Steering
	umem    *xsk.UMEM
	stack   *dataplane.Tap // nil without one
	handles []*xsk.Handle  // of all ports
	links   [classify.MaxPorts]*localLink
	answers *route.Proxies // nil before the first Answer
	asked   [classify.MaxPorts]bool
}

// LocalKernel returns the kernel's half for a process with privileges: root, in
// most cases. in runs a function in the network namespace of the interfaces; nil
// is that of whatever thread there is.
func LocalKernel(in func(func() error) error) Kernel {
	if in == nil {
		in = func(f func() error) error { return f() }
	}
	return &localKernel{in: in}
}

func (k *localKernel) Open(o KernelOptions) (t KernelTables, err error) {
	k.opts = o
	var secret [16]byte
	rand.Read(secret[:])
	t.Key = [2]uint64{binary.LittleEndian.Uint64(secret[:]), binary.LittleEndian.Uint64(secret[8:])}
	k.steer, err = bpf.Load(bpf.Config{Dynamic: true, MaxChains: o.Chains, HashKey: t.Key, Workers: o.Workers, PinBytes: o.PinBytes})
	if err != nil {
		return t, err
	}
	if k.umem, err = xsk.NewUMEM(o.Frames.Bytes(), o.Depot); err != nil {
		return t, err
	}
	t.Owners, t.Pins = k.steer.OwnerMemory(), k.steer.PinMemory()
	// Without a TAP device only the verdict Pass has nowhere to go.
	_ = k.in(func() error { k.stack, err = dataplane.OpenTap(stackName, nil); return err })
	return t, nil
}

func (k *localKernel) Update(c Claims) error {
	table, err := classify.Compile(c.Rules)
	if err != nil {
		return err
	}
	return k.steer.Update(bpf.Rules{Table: table, PathChain: c.PathChain, Pins: c.Pinned})
}

func (k *localKernel) Grace() error { return k.steer.Grace() }

func (k *localKernel) Stack() dataplane.Stack {
	if k.stack == nil {
		return nil
	}
	return k.stack
}

// modes and policies are the words of plane.Port.
var (
	modes    = map[string]bpf.Mode{"": bpf.Auto, "auto": bpf.Auto, "native": bpf.Native, "generic": bpf.Generic}
	policies = map[string]classify.Policy{"": classify.Pass, "pass": classify.Pass, "forward": classify.Forward, "drop": classify.Drop}
)

func (k *localKernel) OpenPort(index int, p plane.Port, peer int) (_ PortLink, err error) {
	mode, known := modes[p.Mode]
	policy, ok := policies[p.Unmatched]
	if !known || !ok {
		return nil, fmt.Errorf("mode %q, unmatched %q: say auto, native or generic, and pass, forward or drop", p.Mode, p.Unmatched)
	}
	if policy == classify.Forward && peer < 0 {
		return nil, fmt.Errorf("unmatched is forward, and there is no port %q to forward to: name one as peer", p.Peer)
	}
	var l *localLink
	err = k.in(func() error {
		l, err = k.openPort(index, p, bpf.PortConfig{Unmatched: policy, Pair: max(peer, 0)}, mode)
		return err
	})
	if err != nil {
		return nil, err
	}
	k.links[index] = l
	k.ownAddresses()
	return l, nil
}

func (k *localKernel) openPort(index int, p plane.Port, c bpf.PortConfig, mode bpf.Mode) (_ *localLink, err error) {
	nic, err := net.InterfaceByName(p.Interface)
	if err != nil {
		return nil, &problem{reasonGone, fmt.Sprintf("interface %s: %v", p.Interface, err)}
	}
	c.Ifindex = nic.Index
	l := &localLink{k: k, index: index, nic: nic, queues: p.Queues}
	if l.queues == 0 {
		if l.queues, err = queuesOf(p.Interface); err != nil {
			return nil, err
		}
	}
	if err := k.steer.AddPortAt(index, c); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, k.steer.RemovePort(index), l.close())
		}
	}()
	for w := range k.opts.Workers {
		for q := range l.queues {
			if err := l.openSocket(w, q); err != nil {
				return nil, err
			}
		}
	}
	if l.mode, err = k.steer.Attach(index, mode); err != nil {
		return nil, err
	}
	l.prepared, err = xsk.PrepareNIC(p.Interface)
	return l, err
}

// queuesOf is how many receive queues an interface has.
func queuesOf(name string) (int, error) {
	c, err := ethtool.Open()
	if err != nil {
		return 0, err
	}
	defer c.Close()
	channels, err := c.Channels(name)
	if err != nil {
		return 0, err
	}
	return min(max(channels.Receive(), 1), bpf.MaxQueues), nil
}

// ownAddresses tells the stack whose frames are for this host.
func (k *localKernel) ownAddresses() {
	if k.stack == nil {
		return
	}
	var own [][6]byte
	for _, l := range k.links {
		if l != nil && len(l.nic.HardwareAddr) == 6 {
			own = append(own, [6]byte(l.nic.HardwareAddr))
		}
	}
	k.stack.SetOwn(own)
}

func (k *localKernel) ClosePort(index int) error {
	l := k.links[index]
	if l == nil {
		return fmt.Errorf("close port %d: %w", index, bpf.ErrNoPort)
	}
	k.links[index] = nil
	k.ownAddresses()
	err := k.steer.RemovePort(index)
	if k.asked[index] {
		k.asked[index] = false
		if e := k.answers.Set(l.nic.Index, nil); !errors.Is(e, unix.ENODEV) { // else they went with the interface
			err = errors.Join(err, e)
		}
	}
	return errors.Join(err, k.in(l.close))
}

func (k *localKernel) Answer(index int, prefixes []netip.Prefix) (refused []error, err error) {
	l := k.links[index]
	if l == nil {
		return nil, fmt.Errorf("answer on port %d: %w", index, bpf.ErrNoPort)
	}
	if k.answers == nil {
		if err := k.in(func() error { k.answers, err = route.OpenProxies(); return err }); err != nil {
			return nil, err
		}
	}
	k.asked[index] = true
	return nil, k.answers.Set(l.nic.Index, prefixes)
}

func (k *localKernel) Routes() (t *route.Table, err error) {
	err = k.in(func() error { t, err = route.Open(nil, route.Options{}); return err })
	return t, err
}

func (k *localKernel) Watch(done <-chan struct{}, changed func()) error {
	return watchLinks(k.in, done, changed)
}

func (k *localKernel) Close() (err error) {
	for i, l := range k.links {
		if l != nil {
			err = errors.Join(err, k.ClosePort(i))
		}
	}
	if k.answers != nil {
		k.answers.Close()
	}
	if k.stack != nil {
		err = errors.Join(err, k.stack.Close())
	}
	if k.umem != nil {
		err = errors.Join(err, k.umem.Close())
	}
	if k.steer != nil {
		err = errors.Join(err, k.steer.Close())
	}
	return err
}

// localLink is a port of a localKernel.
type localLink struct {
	k        *localKernel
	index    int
	nic      *net.Interface
	mode     bpf.Mode
	queues   int
	prepared *xsk.NIC
	sockets  socketList
}

// openSocket makes the socket of a worker on a queue.
func (l *localLink) openSocket(worker, queue int) error {
	k := l.k
	h, err := xsk.Create(k.opts.Frames.Bytes(), k.handles, l.nic.Index, uint32(queue), k.opts.Sockets)
	if err != nil {
		return err
	}
	k.handles = append(k.handles, h)
	if err := k.steer.SetSocket(l.index, queue, worker, int(h.File.Fd())); err != nil {
		return err
	}
	var s *xsk.Socket
	k.opts.OnWorker(worker, func() {
		s, err = xsk.Adopt(k.umem, xsk.Granted{Grant: h.Grant, FD: int(h.File.Fd()), Pool: k.opts.Pools[worker]})
	})
	if err != nil {
		return err
	}
	l.sockets = append(l.sockets, workerSocket{worker, queue, s})
	return nil
}

// close closes the sockets, when no frame goes there any more.
func (l *localLink) close() (err error) {
	kept := l.k.handles[:0]
	for _, h := range l.k.handles {
		if h.Grant.Ifindex == l.nic.Index {
			err = errors.Join(err, h.Close())
			continue
		}
		kept = append(kept, h)
	}
	l.k.handles = kept
	err = errors.Join(err, l.sockets.close(l.k.opts.OnWorker))
	if l.prepared != nil {
		err = errors.Join(err, l.prepared.Close())
	}
	return err
}

func (l *localLink) Ends(worker int) []dataplane.Port { return l.sockets.of(worker, l.queues) }

func (l *localLink) Ifindex() int { return l.nic.Index }

func (l *localLink) Counters() (bpf.Counters, error) { return l.k.steer.Counters(l.index) }

func (l *localLink) Status() (s plane.PortStatus) {
	_ = l.k.in(func() error { s = linkStatus(l.nic); return nil }) // it returns what f does
	s.Attach, s.Bind, s.Queues = l.mode.String(), l.sockets.bind(), l.queues
	return s
}

// linkStatus says whether an interface of the thread's namespace is still there,
// and up.
func linkStatus(was *net.Interface) (s plane.PortStatus) {
	switch nic, err := net.InterfaceByName(was.Name); {
	case err != nil || nic.Index != was.Index:
		s.Reason, s.Message = reasonGone, fmt.Sprintf("interface %s is gone", was.Name)
	case nic.Flags&net.FlagRunning == 0:
		s.Reason, s.Message = reasonLink, fmt.Sprintf("the link of %s is down", was.Name)
	default:
		s.Up = true
	}
	return s
}

// workerSocket is a worker's socket on a queue.
type workerSocket struct {
	worker, queue int
	*xsk.Socket
}

// socketList are the sockets of a port.
type socketList []workerSocket

// of are a worker's: the first is the one it sends by. Workers spread over the
// queues.
func (l socketList) of(worker, queues int) []dataplane.Port {
	var first, rest []dataplane.Port
	for _, s := range l {
		switch {
		case s.worker != worker:
		case s.queue == worker%queues:
			first = append(first, s.Socket)
		default:
			rest = append(rest, s.Socket)
		}
	}
	return append(first, rest...)
}

// bind is the mode that the sockets are in.
func (l socketList) bind() string {
	if len(l) == 0 {
		return ""
	}
	return l[0].Info().String()
}

// close closes all of them, each between two bursts of its worker.
func (l socketList) close(on func(int, func())) (err error) {
	for _, s := range l {
		on(s.worker, func() { err = errors.Join(err, s.Close()) })
	}
	return err
}
