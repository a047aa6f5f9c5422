package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"sfc/bpf"
	"sfc/ctrl/child"
	"sfc/ctrl/kernelipc"
	"sfc/ctrl/plane"
	"sfc/dataplane"
	"sfc/dataplane/arena"
	"sfc/dataplane/keep"
	"sfc/dataplane/route"
	"sfc/dataplane/xsk"
)

// remoteKernel is the kernel's half in a supervisor: it makes everything, and
// what is made is used here, by descriptors that it keeps as well.
type remoteKernel struct {
	p      *child.Process
	store  keep.Store
	opts   KernelOptions
	view   *bpf.View
	record *arena.Region
	umem   *xsk.UMEM
	stack  *dataplane.Tap
	links  map[int]*remoteLink // those found by Open, too
}

// recordName is what the record of chunks (xsk.AdoptUMEM) is kept as.
const recordName = "umem-record"

// askFor bounds a call of the supervisor: loading programs takes some 100 ms
// each.
const askFor = 20 * time.Second

// RemoteKernel returns the kernel's half that the supervisor of this process
// has, with memory in store.
func RemoteKernel(p *child.Process, store keep.Store) Kernel {
	return &remoteKernel{p: p, store: store, links: map[int]*remoteLink{}}
}

// ask calls a method of the supervisor.
func ask[Resp any](k *remoteKernel, method string, req any) (Resp, error) {
	ctx, cancel := context.WithTimeout(context.Background(), askFor)
	defer cancel()
	return child.Call[Resp](ctx, k.p, method, req)
}

// files fetches what is kept under names: the caller closes it.
func (k *remoteKernel) files(names map[string]string) (_ map[string]*os.File, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), askFor)
	defer cancel()
	files := map[string]*os.File{}
	defer func() {
		if err != nil {
			closeFiles(files)
		}
	}()
	list := make([]string, 0, len(names))
	for _, kept := range names {
		list = append(list, kept)
	}
	if err := k.p.Fetch(ctx, list...); err != nil {
		return nil, err
	}
	for name, kept := range names {
		if files[name], err = k.p.Held(kept); err != nil {
			delete(files, name)
			return nil, err
		}
	}
	return files, nil
}

func closeFiles(files map[string]*os.File) {
	for _, f := range files {
		f.Close()
	}
}

func (k *remoteKernel) Open(o KernelOptions) (t KernelTables, err error) {
	k.opts = o
	s := &o.Sockets
	opened, err := ask[kernelipc.Opened](k, kernelipc.MethodOpen, kernelipc.Open{
		Workers: o.Workers, Chains: o.Chains, Paths: o.Paths, PinBytes: o.PinBytes, Region: o.FramesName,
		RingSize: s.RingSize, FillRing: s.FillRing, FillTarget: s.FillTarget, Reserve: s.Reserve, TxBudget: s.TxBudget,
	})
	if err != nil {
		return t, err
	}
	if err := k.openView(&opened); err != nil {
		return t, err
	}
	if err := k.adopt(&opened); err != nil {
		return t, err
	}
	k.openStack()
	t = KernelTables{Key: opened.HashKey, Owners: k.view.OwnerMemory(), Pins: k.view.PinMemory(), Kept: opened.Found, Ports: map[int]string{}}
	for i, l := range k.links {
		t.Ports[i] = l.port.Interface
	}
	return t, nil
}

// openView maps what steering and workers share.
func (k *remoteKernel) openView(o *kernelipc.Opened) error {
	names := map[string]string{"owners": o.Owners, "pins": o.Pins, "grace": o.Grace, "grace_inner": o.GraceInner}
	d := bpf.ViewDescription{Version: bpf.DescriptionVersion, Chains: k.opts.Chains, PinBytes: o.PinsBytes, CPUs: o.CPUs}
	for _, p := range o.Ports {
		d.Ports = append(d.Ports, p.Index)
		n := strconv.Itoa(p.Index)
		names["counters."+n], names["seq."+n] = p.Counters, p.Seq
	}
	files, err := k.files(names)
	if err != nil {
		return err
	}
	defer closeFiles(files)
	k.view, err = bpf.OpenView(d, files)
	return err
}

// adopt takes over the region of frames with the sockets there are.
func (k *remoteKernel) adopt(o *kernelipc.Opened) (err error) {
	if !o.Found || o.Renewed { // then the sockets that it is about are gone
		if err := k.store.Forget(recordName); err != nil {
			return err
		}
	}
	size, page := xsk.RecordSize(k.opts.Depot.Total()), os.Getpagesize()
	if k.record, _, err = k.store.Open(recordName, (size+page-1)/page*page, arena.Options{}); err != nil {
		return err
	}
	var granted []xsk.Granted
	for i := range o.Ports {
		l := &remoteLink{k: k, port: o.Ports[i]}
		k.links[l.port.Index] = l
		if o.Renewed {
			continue
		}
		list, files, err := l.granted()
		if err != nil {
			return err
		}
		defer closeFiles(files)
		granted = append(granted, list...)
	}
	var sockets []*xsk.Socket
	if k.umem, sockets, _, err = xsk.AdoptUMEM(k.opts.Frames.Bytes(), k.record.Bytes()[:size], k.opts.Depot, granted); err != nil {
		return err
	}
	for i := range o.Ports {
		l := k.links[o.Ports[i].Index]
		if o.Renewed {
			// A port that is gone or down can have no socket now. Who wants it opens
			// it, and then learns why.
			if l.openSockets() != nil {
				err = errors.Join(err, k.ClosePort(l.port.Index))
			}
			continue
		}
		for _, s := range l.port.Sockets {
			l.sockets = append(l.sockets, workerSocket{s.Worker, s.Queue, sockets[0]})
			sockets = sockets[1:]
		}
	}
	return err
}

// openStack finds the way to the kernel's stack. Without one only the verdict
// Pass has nowhere to go.
func (k *remoteKernel) openStack() {
	made, err := ask[kernelipc.Stacked](k, kernelipc.MethodStack, kernelipc.Stack{Name: stackName})
	if err != nil {
		return
	}
	files, err := k.files(map[string]string{"tap": made.File})
	if err != nil {
		return
	}
	defer closeFiles(files)
	fd, err := duplicate(files["tap"])
	if err != nil || unix.SetNonblock(fd, true) != nil { // for os.File, it was made to block
		return
	}
	k.stack = dataplane.AdoptTap(stackName, fd, made.MAC)
	k.ownAddresses()
}

func (k *remoteKernel) ownAddresses() {
	if k.stack == nil {
		return
	}
	var own [][6]byte
	for _, l := range k.links {
		own = append(own, l.port.MAC)
	}
	k.stack.SetOwn(own)
}

func (k *remoteKernel) Update(c Claims) error {
	_, err := ask[kernelipc.None](k, kernelipc.MethodUpdate, kernelipc.Update{Rules: c.Rules, PathChain: c.PathChain, Pins: c.Pinned})
	return err
}

func (k *remoteKernel) Grace() error { return k.view.Grace() }

func (k *remoteKernel) Stack() dataplane.Stack {
	if k.stack == nil {
		return nil
	}
	return k.stack
}

func (k *remoteKernel) OpenPort(index int, p plane.Port, peer int) (_ PortLink, err error) {
	if l := k.links[index]; l != nil {
		if l.port.Interface == p.Interface {
			return l, nil
		}
		if err := k.ClosePort(index); err != nil {
			return nil, err
		}
	}
	l := &remoteLink{k: k}
	l.port, err = ask[kernelipc.Port](k, kernelipc.MethodAddPort, kernelipc.AddPort{
		Index: index, Interface: p.Interface, Mode: orElse(p.Mode, "auto"), Bind: "auto",
		Unmatched: orElse(p.Unmatched, "pass"), Peer: peer, Queues: p.Queues,
	})
	if err != nil {
		return nil, err
	}
	if err := l.open(); err != nil {
		_, undo := ask[kernelipc.None](k, kernelipc.MethodRemovePort, kernelipc.RemovePort{Index: index})
		return nil, errors.Join(err, undo, l.close())
	}
	k.links[index] = l
	k.ownAddresses()
	return l, nil
}

func orElse(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

func (k *remoteKernel) ClosePort(index int) error {
	l := k.links[index]
	if l == nil {
		return fmt.Errorf("close port %d: %w", index, bpf.ErrNoPort)
	}
	delete(k.links, index)
	k.ownAddresses()
	_, err := ask[kernelipc.None](k, kernelipc.MethodRemovePort, kernelipc.RemovePort{Index: index})
	return errors.Join(err, k.view.RemovePort(index), l.close())
}

func (k *remoteKernel) Answer(index int, prefixes []netip.Prefix) (refused []error, err error) {
	done, err := ask[kernelipc.Answered](k, kernelipc.MethodAnswer, kernelipc.Answer{Port: index, Prefixes: prefixes})
	if err != nil {
		return nil, err
	}
	for i, why := range done.Refused {
		if why != "" && i < len(prefixes) {
			if refused == nil {
				refused = make([]error, len(prefixes))
			}
			refused[i] = errors.New(why)
		}
	}
	return refused, nil
}

// lookFor bounds how long the table of routes waits for the supervisor: it asks
// again, and while it waits it does not see routes change.
const lookFor = 200 * time.Millisecond

func (k *remoteKernel) Routes() (*route.Table, error) {
	return route.Open(nil, route.Options{Use: func(list []route.Neighbour) error {
		r := kernelipc.Neighbours{List: make([]kernelipc.Neighbour, len(list))}
		for i, n := range list {
			r.List[i] = kernelipc.Neighbour(n)
		}
		ctx, cancel := context.WithTimeout(context.Background(), lookFor)
		defer cancel()
		_, err := child.Call[kernelipc.None](ctx, k.p, kernelipc.MethodNeighbours, r)
		return err
	}})
}

func (k *remoteKernel) Watch(done <-chan struct{}, changed func()) error {
	return watchLinks(func(f func() error) error { return f() }, done, changed)
}

// Close leaves everything to the supervisor, for who comes next.
func (k *remoteKernel) Close() (err error) {
	if k.umem != nil {
		err = k.umem.Leave()
	}
	if k.record != nil {
		err = errors.Join(err, k.record.Close())
	}
	if k.stack != nil {
		err = errors.Join(err, k.stack.Close())
	}
	if k.view != nil {
		err = errors.Join(err, k.view.Close())
	}
	return err
}

// remoteLink is a port of a remoteKernel.
type remoteLink struct {
	k       *remoteKernel
	port    kernelipc.Port
	sockets socketList
}

// granted fetches the port's sockets. The caller closes the files when they are
// adopted.
func (l *remoteLink) granted() (list []xsk.Granted, files map[string]*os.File, err error) {
	names := map[string]string{}
	for _, s := range l.port.Sockets {
		names[s.Name] = s.Name
	}
	if files, err = l.k.files(names); err != nil {
		return nil, nil, err
	}
	for _, s := range l.port.Sockets {
		g := xsk.Granted{FD: int(files[s.Name].Fd())}
		if err := json.Unmarshal(s.Grant, &g.Grant); err != nil || s.Worker < 0 || s.Worker >= len(l.k.opts.Pools) {
			closeFiles(files)
			return nil, nil, fmt.Errorf("socket of worker %d on queue %d of %s: %w", s.Worker, s.Queue, l.port.Interface, errors.Join(err, bpf.ErrNoPort))
		}
		g.Pool = l.k.opts.Pools[s.Worker]
		list = append(list, g)
	}
	return list, files, nil
}

// open begins to use a port that was just made.
func (l *remoteLink) open() error {
	n := strconv.Itoa(l.port.Index)
	maps, err := l.k.files(map[string]string{"counters." + n: l.port.Counters, "seq." + n: l.port.Seq})
	if err != nil {
		return err
	}
	defer closeFiles(maps)
	if err := l.k.view.AddPort(l.port.Index, maps); err != nil {
		return err
	}
	if err := l.openSockets(); err != nil {
		return errors.Join(err, l.k.view.RemovePort(l.port.Index))
	}
	return nil
}

// openSockets adopts sockets that are new.
func (l *remoteLink) openSockets() error {
	list, files, err := l.granted()
	if err != nil {
		return err
	}
	defer closeFiles(files)
	for i, s := range l.port.Sockets {
		var socket *xsk.Socket
		l.k.opts.OnWorker(s.Worker, func() { socket, err = xsk.Adopt(l.k.umem, list[i]) })
		if err != nil {
			return err
		}
		l.sockets = append(l.sockets, workerSocket{s.Worker, s.Queue, socket})
	}
	return nil
}

// close gives up the port's descriptors, and closes its sockets.
func (l *remoteLink) close() error {
	names := []string{l.port.Counters, l.port.Seq}
	for _, s := range l.port.Sockets {
		names = append(names, s.Name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), askFor)
	defer cancel()
	return errors.Join(l.k.p.Drop(ctx, names...), l.sockets.close(l.k.opts.OnWorker))
}

func (l *remoteLink) Ends(worker int) []dataplane.Port { return l.sockets.of(worker, l.port.Queues) }

func (l *remoteLink) Ifindex() int { return l.port.Ifindex }

func (l *remoteLink) Counters() (bpf.Counters, error) { return l.k.view.Counters(l.port.Index) }

func (l *remoteLink) Status() plane.PortStatus {
	s := linkStatus(&net.Interface{Name: l.port.Interface, Index: l.port.Ifindex})
	s.Attach, s.Bind, s.Queues = l.port.Attach, l.sockets.bind(), l.port.Queues
	return s
}

func duplicate(f *os.File) (int, error) { return unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0) }
