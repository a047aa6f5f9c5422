package agent

import (
	"errors"
	"fmt"
	"net"

	"sfc/bpf"
	"sfc/chains"
	"sfc/dataplane"
	"sfc/dataplane/classify"
	"sfc/dataplane/packet"
	"sfc/dataplane/route"
	"sfc/dataplane/steer"
	"sfc/dataplane/xsk"
)

// Errors returned by this package.
var (
	// ErrConnected: the engine has its ports already.
	ErrConnected = errors.New("engine is connected already")
	// ErrNotConnected: the engine has no ports yet.
	ErrNotConnected = errors.New("engine is not connected")
)

// Policies are the plan's words for unmatched packets as the steering program
// takes them.
var Policies = map[chains.Unmatched]classify.Policy{
	chains.UnmatchedPass:    classify.Pass,
	chains.UnmatchedForward: classify.Forward,
	chains.UnmatchedDrop:    classify.Drop,
}

// stackName is the TAP device through which packets go to the kernel's stack.
const stackName = "sfc-stack"

// Connect loads the steering programs, warms the functions up on every worker,
// opens a socket per port and worker, and attaches the programs to the ports.
// Interfaces are those of the network namespace of the calling thread. Needs
// root. Workers do not run yet. An engine is connected once.
func (e *Engine) Connect(ports []Port) (err error) {
	switch {
	case e.began:
		return ErrConnected
	case len(ports) != len(e.plan.Ports):
		return fmt.Errorf("%d interfaces for %d ports: name one for each", len(ports), len(e.plan.Ports))
	}
	e.began = true
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Disconnect())
		}
	}()
	if err := e.load(ports); err != nil {
		return err
	}
	if err := e.populate(e.steer.OwnerMemory(), e.steer.PinMemory()); err != nil {
		return err
	}
	if e.umem, err = xsk.NewUMEM(e.region.Bytes(), e.depot); err != nil {
		return err
	}
	e.connected.push(func() error {
		err := e.umem.Close()
		e.umem = nil
		return err
	})
	for _, w := range e.workers {
		if err := e.openSockets(w, ports); err != nil {
			return err
		}
	}
	info := e.workers[0].sockets[0].Info()
	e.mode.Bind, e.mode.NeedWakeup, e.mode.TxBudget = info.String(), info.NeedWakeup, int(info.TxBudget)
	var stack dataplane.Stack
	own, err := hardwareAddresses(ports)
	if err != nil {
		return err
	}
	if e.stack, err = dataplane.OpenTap(stackName, own); err == nil {
		e.connected.push(e.stack.Close)
		stack = e.stack
	} else {
		// Without a TAP device only the verdict Pass has nowhere to go.
		e.mode.NoStack = err
	}
	if err := e.route(ports); err != nil {
		return err
	}
	if err := e.newSet(func(w *worker) []dataplane.Port {
		list := make([]dataplane.Port, len(w.sockets))
		for i, s := range w.sockets {
			list[i] = s
		}
		for _, q := range w.queues {
			list = append(list, q.socket)
		}
		return list
	}, stack, e.steer.Grace); err != nil {
		return err
	}
	return e.attach(ports)
}

// hardwareAddresses returns those of the ports' interfaces.
func hardwareAddresses(ports []Port) ([][6]byte, error) {
	own := make([][6]byte, len(ports))
	for i, p := range ports {
		nic, err := net.InterfaceByIndex(p.Ifindex)
		if err != nil {
			return nil, fmt.Errorf("interface %d of port %d: %w", p.Ifindex, i, err)
		}
		copy(own[i][:], nic.HardwareAddr)
	}
	return own, nil
}

// load loads the steering.
func (e *Engine) load(ports []Port) (err error) {
	cfg := bpf.Config{Table: e.table, HashKey: e.key, Workers: e.opts.Workers, PinBytes: e.pinBytes()}
	for i := range e.plan.Chains {
		cfg.Chains = append(cfg.Chains, bpf.ChainConfig{Pins: e.plan.Chains[i].Binds})
	}
	for i := range e.plan.Paths {
		cfg.PathChain = append(cfg.PathChain, e.plan.Paths[i].Chain)
	}
	for i, p := range e.plan.Ports {
		cfg.Ports = append(cfg.Ports, bpf.PortConfig{
			Ifindex: ports[i].Ifindex, Unmatched: Policies[p.Unmatched], Pair: max(p.Forward, 0),
		})
	}
	if e.steer, err = bpf.Load(cfg); err != nil {
		return err
	}
	e.connected.push(e.steer.Close)
	return nil
}

// attach attaches the steering. From here on there are packets.
func (e *Engine) attach(ports []Port) error {
	e.mode.Attach = make([]string, len(ports))
	for i, p := range ports {
		if p.SendOnly {
			continue
		}
		inForce, err := e.steer.Attach(i, p.Mode)
		if err != nil {
			return fmt.Errorf("port %s: %w", e.plan.Ports[i].Name, err)
		}
		e.mode.Attach[i] = inForce.String()
	}
	return nil
}

// route follows the namespace's routes when a port needs them.
func (e *Engine) route(ports []Port) (err error) {
	links := make([]int, len(ports))
	for i, p := range ports {
		links[i] = p.Ifindex
		if p.Routed {
			e.routed |= 1 << i
		}
	}
	if e.routed == 0 {
		return nil
	}
	if e.routes, err = route.Open(links, route.Options{}); err != nil {
		return err
	}
	e.connected.push(e.routes.Close)
	for i := range e.plan.Chains {
		c := &e.plan.Chains[i]
		for _, a := range c.Addresses {
			if !ports[a.Port].Routed {
				continue // hosts of the link answer for them, or nobody
			}
			if err := e.routes.AddProxy(a.Port, a.Prefix); err != nil {
				return fmt.Errorf("chain %s, port %s: %w", c.Title(), e.plan.Ports[a.Port].Name, err)
			}
		}
	}
	return nil
}

// openSockets opens a worker's sockets, one per port and queue, and gives them
// to the steering. A worker sends on one queue of each port: workers spread over
// them.
func (e *Engine) openSockets(w *worker, ports []Port) error {
	w.sockets = make([]*xsk.Socket, len(ports))
	for i, p := range ports {
		for q := range e.opts.Queues {
			s, err := xsk.Open(e.umem, w.pool, p.Ifindex, uint32(q), e.sockets)
			if err != nil {
				return fmt.Errorf("port %s: %w", e.plan.Ports[i].Name, err)
			}
			e.connected.push(s.Close)
			if q == w.index%e.opts.Queues {
				w.sockets[i] = s
			} else {
				w.queues = append(w.queues, queue{i, s})
			}
			if p.SendOnly {
				continue
			}
			if err := e.steer.SetSocket(i, q, w.index, s.PollFD()); err != nil {
				return fmt.Errorf("port %s: %w", e.plan.Ports[i].Name, err)
			}
		}
	}
	return nil
}

// newSet makes the workers that will run.
func (e *Engine) newSet(ports func(*worker) []dataplane.Port, stack dataplane.Stack, grace func() error) (err error) {
	cfgs := make([]dataplane.Config, len(e.workers))
	for i, w := range e.workers {
		cfgs[i] = e.config(w, ports(w), stack)
	}
	if e.set, err = dataplane.NewSet(cfgs, e.owners, grace); err != nil {
		return err
	}
	for i, w := range e.set.Workers() {
		e.workers[i].run = w
	}
	e.connected.push(e.set.Stop)
	return nil
}

// Memory is where the ports of a worker find frames and free chunks.
type Memory struct {
	Worker int
	Region []byte
	Pool   *packet.Pool
}

// ConnectMemory gives the workers ports in memory: no kernel, no root. Packets
// for the kernel's stack go to stack. Who shares packets out to several workers
// asks Placing and Owners; then grace returns when every packet that was counted
// for a worker is where its port finds it. With one worker grace may be nil.
func (e *Engine) ConnectMemory(ports func(Memory) []dataplane.Port, stack dataplane.Stack, grace func() error) (err error) {
	if e.began {
		return ErrConnected
	}
	e.began = true
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Disconnect())
		}
	}()
	if err := e.populate(nil, nil); err != nil {
		return err
	}
	return e.newSet(func(w *worker) []dataplane.Port {
		return ports(Memory{w.index, e.region.Bytes(), w.pool})
	}, stack, grace)
}

// Placing returns what says in which bucket a packet is counted and steered.
// The engine is connected.
func (e *Engine) Placing() *classify.Placing {
	p := &classify.Placing{Key: e.key, Workers: e.opts.Workers, Chains: len(e.plan.Chains), Pins: e.pins}
	for i := range e.plan.Paths {
		p.PathChain = append(p.PathChain, e.plan.Paths[i].Chain)
	}
	for i := range e.plan.Chains {
		p.Pinned = append(p.Pinned, e.plan.Chains[i].Binds)
	}
	return p
}

// Owners returns which worker has which flows, to be used no longer than the
// engine is connected.
func (e *Engine) Owners() *steer.Owners { return e.owners }

// Disconnect stops the workers and takes down what Connect made. What was
// counted stays. It may be called again.
func (e *Engine) Disconnect() error {
	e.swaps.mu.Lock()
	defer e.swaps.mu.Unlock()
	if e.began && !e.swaps.over {
		e.swaps.over = true
		close(e.swaps.gone)
	}
	e.swaps.agreeing.Wait()
	err := e.Stop()
	if e.final == nil && len(e.workers) == e.opts.Workers {
		e.final = e.Stats()
	}
	e.tables.Lock()
	e.owners = nil // its memory is the steering's
	e.tables.Unlock()
	err = errors.Join(err, e.connected.run())
	for _, w := range e.workers {
		w.sockets, w.queues = nil, nil
	}
	return err
}
