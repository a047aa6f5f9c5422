package keeper

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"sfc/bpf"
	"sfc/ctrl/ipc"
	"sfc/ctrl/kernelipc"
	"sfc/dataplane/classify"
	"sfc/dataplane/ethtool"
	"sfc/dataplane/xsk"
)

// Words of requests.
var (
	modes    = map[string]bpf.Mode{"auto": bpf.Auto, "native": bpf.Native, "generic": bpf.Generic}
	binds    = map[string]xsk.Mode{"auto": xsk.Auto, "copy": xsk.Copy, "zero-copy": xsk.ZeroCopy}
	policies = map[string]classify.Policy{"pass": classify.Pass, "forward": classify.Forward, "drop": classify.Drop}
)

// addPort attaches an interface and makes its sockets.
func (h *Half) addPort(r kernelipc.AddPort) (_ kernelipc.Port, err error) {
	mode, a := modes[r.Mode]
	bind, b := binds[r.Bind]
	policy, c := policies[r.Unmatched]
	switch {
	case !a || !b || !c:
		return kernelipc.Port{}, fmt.Errorf("mode %q, bind %q, unmatched %q: want auto, native or generic; auto, copy or zero-copy; pass, forward or drop",
			r.Mode, r.Bind, r.Unmatched)
	case r.Index < 0 || r.Index >= kernelipc.MaxPorts || h.ports[r.Index] != nil:
		return kernelipc.Port{}, fmt.Errorf("port %d: want a free index below %d", r.Index, kernelipc.MaxPorts)
	case r.Queues < 0 || r.Queues > bpf.MaxQueues:
		return kernelipc.Port{}, fmt.Errorf("%d queues: want at most %d", r.Queues, bpf.MaxQueues)
	case policy == classify.Forward && (r.Peer < 0 || r.Peer >= kernelipc.MaxPorts):
		return kernelipc.Port{}, fmt.Errorf("unmatched is forward, and there is no port %d to forward to", r.Peer)
	}
	if err := h.allowed(r.Interface); err != nil {
		return kernelipc.Port{}, err
	}
	nic, err := net.InterfaceByName(r.Interface)
	if err != nil {
		return kernelipc.Port{}, fmt.Errorf("interface %s: %w", r.Interface, err)
	}
	p := &halfPort{Asked: r, Port: kernelipc.Port{Index: r.Index, Interface: r.Interface, Ifindex: nic.Index, Queues: r.Queues, MTU: nic.MTU}}
	copy(p.Port.MAC[:], nic.HardwareAddr)
	if p.Port.Queues == 0 {
		if p.Port.Queues, err = queuesOf(r.Interface); err != nil {
			return kernelipc.Port{}, err
		}
	}
	if err := h.steer.AddPortAt(r.Index, bpf.PortConfig{Ifindex: nic.Index, Unmatched: policy, Pair: max(r.Peer, 0)}); err != nil {
		return kernelipc.Port{}, err
	}
	h.ports[r.Index] = p
	defer func() {
		if err != nil {
			err = errors.Join(err, h.closePort(p))
		}
	}()
	if err := h.openSockets(p, bind); err != nil {
		return kernelipc.Port{}, err
	}
	inForce, err := h.steer.Attach(r.Index, mode)
	if err != nil {
		return kernelipc.Port{}, err
	}
	p.Port.Attach = inForce.String()
	if p.nic, err = xsk.PrepareNIC(r.Interface); err != nil {
		return kernelipc.Port{}, err
	}
	if err := h.setAnswers(p, nil); err != nil { // left by who could not clean up
		return kernelipc.Port{}, err
	}
	p.Port.Counters, p.Port.Seq = viewName(fmt.Sprintf("counters.%d", r.Index)), viewName(fmt.Sprintf("seq.%d", r.Index))
	return p.Port, nil
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

// openSockets makes a socket for every queue and worker of a port.
func (h *Half) openSockets(p *halfPort, bind xsk.Mode) error {
	mem, err := h.mapRegion()
	if err != nil {
		return err
	}
	defer unix.Munmap(mem)
	o := &h.opened
	opts := xsk.Options{
		RingSize: o.RingSize, FillRing: o.FillRing, FillTarget: o.FillTarget, Reserve: o.Reserve, TxBudget: o.TxBudget, Mode: bind,
		Unbound: h.unbound,
	}
	for q := range p.Port.Queues {
		for w := range o.Workers {
			s, err := xsk.Create(mem, h.handles(), p.Port.Ifindex, uint32(q), opts)
			if err != nil {
				return err
			}
			p.handles = append(p.handles, s)
			h.unbound = s.Grant.Unbound
			if err := h.steer.SetSocket(p.Port.Index, q, w, int(s.File.Fd())); err != nil {
				return err
			}
			grant, err := json.Marshal(s.Grant)
			if err != nil {
				return err
			}
			file, err := ipc.Duplicate(s.File)
			if err != nil {
				return err
			}
			name := fmt.Sprintf("%sxsk/%d/%d/%d/%d", KernelPrefix, p.Port.Index, p.Port.Ifindex, q, w)
			if err := h.kept.Put(name, file); err != nil {
				return err
			}
			p.Port.Sockets = append(p.Port.Sockets, kernelipc.Socket{Queue: q, Worker: w, Name: name, Grant: grant})
		}
	}
	return nil
}

// renew gives all ports new sockets. A port that gets none is given up, and
// opened again by a data plane that wants it.
func (h *Half) renew() {
	for _, p := range h.ports {
		if err := h.closeSockets(p); err != nil {
			h.log.Warn("sockets of an earlier data plane", "interface", p.Port.Interface, "error", err)
		}
	}
	for _, p := range h.sorted() {
		_, err := net.InterfaceByIndex(p.Port.Ifindex)
		if err == nil {
			err = h.openSockets(p, binds[p.Asked.Bind])
		}
		if err != nil {
			h.log.Error("port is given up", "interface", p.Port.Interface, "error", errors.Join(err, h.closePort(p)))
		}
	}
}

// mapRegion maps the memory that frames are in, as long as the first socket
// needs to register it.
func (h *Half) mapRegion() ([]byte, error) {
	f, err := h.kept.Get(h.opened.Region)
	if err != nil {
		return nil, fmt.Errorf("region of frames: %w", err)
	}
	defer f.Close()
	if err := isMemory(f); err != nil {
		return nil, fmt.Errorf("region of frames: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("region of frames: %w", err)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the region of frames, %d bytes: %w", info.Size(), err)
	}
	return mem, nil
}

// handles returns those of all ports.
func (h *Half) handles() (all []*xsk.Handle) {
	for _, p := range h.ports {
		all = append(all, p.handles...)
	}
	return all
}

// removePort detaches a port.
func (h *Half) removePort(r kernelipc.RemovePort) (kernelipc.None, error) {
	p := h.ports[r.Index]
	if p == nil {
		return kernelipc.None{}, fmt.Errorf("remove port %d: %w", r.Index, bpf.ErrNoPort)
	}
	return kernelipc.None{}, h.closePort(p)
}

// closePort gives up what there is of a port.
func (h *Half) closePort(p *halfPort) error {
	delete(h.ports, p.Port.Index)
	err := errors.Join(h.steer.RemovePort(p.Port.Index), h.closeSockets(p))
	if len(p.Answers) > 0 {
		err = errors.Join(err, h.setAnswers(p, nil))
	}
	if p.nic != nil {
		err = errors.Join(err, p.nic.Close())
	}
	return err
}

// closeSockets gives up a port's sockets.
func (h *Half) closeSockets(p *halfPort) (err error) {
	for _, s := range p.Port.Sockets {
		h.kept.Forget(s.Name)
	}
	for _, s := range p.handles {
		err = errors.Join(err, s.Close())
	}
	p.Port.Sockets, p.handles = nil, nil
	return err
}

// sorted returns the ports by index.
func (h *Half) sorted() []*halfPort {
	return slices.SortedFunc(maps.Values(h.ports), func(a, b *halfPort) int { return cmp.Compare(a.Port.Index, b.Port.Index) })
}

func closeFiles(files map[string]*os.File) {
	for _, f := range files {
		f.Close()
	}
}
