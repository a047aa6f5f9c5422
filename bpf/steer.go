package bpf

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"sfc/dataplane/steer"
)

// Steering is the steering program on a set of ports. Its methods may be called
// from any goroutine, mind the namespace (see the package).
type Steering struct {
	mu     sync.Mutex
	config Config // Table and Ports aside
	rules  Rules
	ports  []*port // nil where one was removed
	table  *tableMaps
	owners *ownership
	grace  *grace
	// retired is about the slot of table that does not count.
	retired    retirement
	generation uint64
	cpus       int // possible ones
	closed     bool
}

// port is one port's program and what outlives its replacement.
type port struct {
	config                    PortConfig
	prog                      *ebpf.Program
	xsks, pair, counters, seq *ebpf.Map
	view                      *counterView
	link                      link.Link // nil until attached
	mode                      Mode      // in force, once attached
	pairedTo                  int       // interface in map pair; 0: none
}

// Load creates the maps and loads one program per port. Nothing is attached
// yet.
func Load(c Config) (_ *Steering, err error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	if err := checkKernel(requirements); err != nil {
		return nil, err
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, fmt.Errorf("count possible CPUs: %w", err)
	}
	s := &Steering{config: c, cpus: cpus}
	s.config.withDefaults()
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.owners, err = newOwnership(&s.config); err != nil {
		return nil, err
	}
	if s.grace, err = newGrace(); err != nil {
		return nil, err
	}
	for i := range c.Ports {
		p, err := newPort(c.Ports[i], s.cpus)
		if err != nil {
			return nil, fmt.Errorf("port %d: %w", i, err)
		}
		s.ports = append(s.ports, p)
	}
	if err := s.pairAll(-1); err != nil {
		return nil, err
	}
	s.rules = s.config.rules().withDefaults()
	if err := s.rules.validate(s.config.rows(), s.owners.pinMem != nil); err != nil {
		return nil, err
	}
	shape := shapeOf(s.rules.Table)
	if c.Dynamic {
		shape = startShape.union(shape.spacious())
	}
	if s.table, err = newTableMaps(layoutOf(shape), s.rules.Table, s.rules.claim); err != nil {
		return nil, err
	}
	progs, err := s.loadPrograms(s.table)
	if err != nil {
		return nil, err
	}
	for i, p := range s.ports {
		p.prog = progs[i]
	}
	return s, nil
}

// newPort creates the maps of a port.
func newPort(c PortConfig, cpus int) (_ *port, err error) {
	var specs steerSpecs
	if err := readSpecs(&specs); err != nil {
		return nil, err
	}
	p := &port{config: c}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	specs.Xsks.MaxEntries = MaxQueues * steer.MaxWorkers
	specs.Counters.MaxEntries = uint32(cpus)
	for _, m := range []struct {
		to   **ebpf.Map
		spec *ebpf.MapSpec
	}{{&p.xsks, specs.Xsks}, {&p.pair, specs.Pair}, {&p.counters, specs.Counters}, {&p.seq, specs.Seq}} {
		if *m.to, err = newMap(m.spec); err != nil {
			return nil, err
		}
	}
	if p.view, err = mapCounters(p.counters.FD(), p.seq.FD(), cpus); err != nil {
		return nil, err
	}
	return p, nil
}

// at returns port i. The caller holds mu.
func (s *Steering) at(i int) (*port, error) {
	if s.closed {
		return nil, ErrClosed
	}
	if err := s.check(i); err != nil {
		return nil, err
	}
	return s.ports[i], nil
}

// check returns an error when there is no port i.
func (s *Steering) check(i int) error {
	if i < 0 || i >= len(s.ports) || s.ports[i] == nil {
		return fmt.Errorf("%w: port %d, there are %d from 0 on", ErrNoPort, i, len(s.ports))
	}
	return nil
}

// SetSocket sends the frames that paths claim on a queue of a port, and whose
// flows a worker owns, to the AF_XDP socket fd, which must have a receive ring
// and be bound to that queue. The map holds the socket, not fd; the kernel takes
// the entry out when the socket goes away.
func (s *Steering) SetSocket(port, queue, worker, fd int) error {
	return s.withSocket(port, queue, worker, func(m *ebpf.Map, key uint32) error {
		return m.Put(key, uint32(fd))
	})
}

// ClearSocket undoes SetSocket: such frames are then dropped and counted as
// no_socket. Without a socket it does nothing.
func (s *Steering) ClearSocket(port, queue, worker int) error {
	return s.withSocket(port, queue, worker, func(m *ebpf.Map, key uint32) error {
		if err := m.Delete(key); !errors.Is(err, ebpf.ErrKeyNotExist) {
			return err
		}
		return nil
	})
}

func (s *Steering) withSocket(port, queue, worker int, do func(m *ebpf.Map, key uint32) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.at(port)
	if err != nil {
		return err
	}
	if queue < 0 || queue >= MaxQueues {
		return fmt.Errorf("%w: queue %d of port %d, at most %d have sockets", ErrNoPort, queue, port, MaxQueues)
	}
	if worker < 0 || worker >= s.config.Workers {
		return fmt.Errorf("%w: worker %d, there are %d from 0 on", ErrNoPort, worker, s.config.Workers)
	}
	if err := do(p.xsks, uint32(queue*steer.MaxWorkers+worker)); err != nil {
		return fmt.Errorf("socket of port %d, queue %d, worker %d: %w", port, queue, worker, err)
	}
	return nil
}

// Close detaches every port, whoever else has descriptors of it, and releases
// everything; Counters and Seq keep their last values, owners and pins are gone:
// nobody may touch OwnerMemory or PinMemory any more. Calls after the first do
// nothing.
func (s *Steering) Close() error { return s.release(true) }

// Leave is Close for who has handed everything over to another process: what is
// attached stays.
func (s *Steering) Leave() error { return s.release(false) }

func (s *Steering) release(detach bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	var err error
	for _, p := range s.ports {
		if p == nil {
			continue
		}
		if detach {
			err = errors.Join(err, p.detach())
		}
		err = errors.Join(err, p.close())
	}
	err = errors.Join(err, s.retired.wait())
	return errors.Join(err, s.table.close(), s.owners.close(), s.grace.close())
}

// detach takes the program off the interface.
func (p *port) detach() error {
	if p.link == nil {
		return nil
	}
	if err := p.link.Detach(); err != nil && !errors.Is(err, unix.ENOLINK) {
		return fmt.Errorf("detach interface %d: %w", p.config.Ifindex, err)
	}
	return nil
}

// close releases the port, in reverse order of acquisition.
func (p *port) close() (err error) {
	if p.link != nil {
		err = p.link.Close()
	}
	return errors.Join(err, p.prog.Close(), p.view.close(),
		p.seq.Close(), p.counters.Close(), p.pair.Close(), p.xsks.Close())
}
