package bpf

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"sfc/dataplane/classify"
)

// AddPort adds a port while others run, and returns its index: the lowest that
// is free, which stays the port's as long as it is there. Nothing is attached
// yet. It takes as long as loading a program. The interface is one of the calling
// thread's network namespace, where Attach must be called, too.
func (s *Steering) AddPort(c PortConfig) (index int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if index = slices.Index(s.ports, nil); index < 0 {
		index = len(s.ports)
	}
	return index, s.addPort(index, c)
}

// AddPortAt is AddPort for an index that is free.
func (s *Steering) AddPortAt(index int, c PortConfig) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if index >= 0 && index < len(s.ports) && s.ports[index] != nil {
		return fmt.Errorf("%w: port %d is there already", ErrConfig, index)
	}
	return s.addPort(index, c)
}

func (s *Steering) addPort(index int, c PortConfig) (err error) {
	if s.closed {
		return ErrClosed
	}
	if index < 0 || index >= classify.MaxPorts {
		return fmt.Errorf("%w: port %d, %d are possible", ErrConfig, index, classify.MaxPorts)
	}
	if err := c.validate(index); err != nil {
		return err
	}
	p, err := newPort(c, s.cpus)
	if err != nil {
		return fmt.Errorf("port %d: %w", index, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	if p.prog, err = s.loadProgram(index, p, s.table); err != nil {
		return err
	}
	before := s.ports
	s.ports = slices.Clone(s.ports)
	for index >= len(s.ports) {
		s.ports = append(s.ports, nil)
	}
	s.ports[index] = p
	if err := s.pairAll(index); err != nil {
		s.ports = before
		return err
	}
	s.generation++
	return nil
}

// RemovePort detaches a port and forgets it, its counters with it. Ports that
// forward to it drop what they would forward.
func (s *Steering) RemovePort(index int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.at(index)
	if err != nil {
		return err
	}
	s.generation++
	err = p.detach()
	s.ports[index] = nil
	return errors.Join(err, s.pairAll(index), p.close())
}

// SetPort changes the policy of a port under traffic, or gives it another
// interface: then the port is to be attached again, and its sockets are to be
// set, but its counters go on. It takes as long as loading a program. When it
// fails, the port is as before, except that it may be detached.
func (s *Steering) SetPort(index int, c PortConfig) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.at(index)
	if err != nil {
		return err
	}
	if err := c.validate(index); err != nil {
		return err
	}
	s.generation++
	was := p.config
	p.config = c
	defer func() {
		if err != nil {
			p.config = was
			err = errors.Join(err, s.pairAll(index))
		}
	}()
	if err := s.pairAll(index); err != nil {
		return err
	}
	prog := p.prog
	if c.Unmatched != was.Unmatched {
		if prog, err = s.loadProgram(index, p, s.table); err != nil {
			return err
		}
	}
	if c.Ifindex != was.Ifindex || p.gone() {
		err = p.detach()
		if p.link != nil {
			err = errors.Join(err, p.link.Close())
		}
		p.link, p.mode = nil, Auto
	} else if prog != p.prog && p.link != nil {
		err = p.link.Update(prog)
	}
	if prog == p.prog {
		return err
	}
	if err != nil {
		return errors.Join(fmt.Errorf("change port %d: %w", index, err), prog.Close())
	}
	prog, p.prog = p.prog, prog
	return prog.Close()
}

// pairAll makes ports forward to the interfaces of those that they name, and
// nowhere where there is none; changed is a port with another interface, or -1.
func (s *Steering) pairAll(changed int) error {
	for i, p := range s.ports {
		if p == nil {
			continue
		}
		to := 0
		if k := p.config.Pair; p.config.Unmatched == classify.Forward && k < len(s.ports) && s.ports[k] != nil {
			to = s.ports[k].config.Ifindex
		}
		if to == p.pairedTo && p.config.Pair != changed {
			continue
		}
		if to == 0 {
			if err := p.pair.Delete(uint32(0)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				return fmt.Errorf("port %d: forward no more: %w", i, err)
			}
		} else if err := p.pair.Put(uint32(0), uint32(to)); errors.Is(err, unix.EINVAL) {
			to = 0 // the interface is not there, or not any more
		} else if err != nil {
			return fmt.Errorf("port %d: forward to interface %d: %w", i, to, err)
		}
		p.pairedTo = to
	}
	return nil
}

// PortStatus is a port as it is.
type PortStatus struct {
	Config PortConfig
	// Attached: the program is on the interface, in mode Mode.
	Attached bool
	Mode     Mode
	// Gone: it was, and the interface has vanished since; see ErrGone.
	Gone bool
}

// Status says how a port is. It asks the kernel.
func (s *Steering) Status(port int) (PortStatus, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.at(port)
	if err != nil {
		return PortStatus{}, err
	}
	st := PortStatus{Config: p.config, Mode: p.mode, Gone: p.gone()}
	st.Attached = p.link != nil && !st.Gone
	return st, nil
}

// NumPorts returns the index behind that of the last port. There may be none at
// lower ones: see [Steering.Status].
func (s *Steering) NumPorts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ports)
}

// gone says whether the kernel has taken the program off: the interface of the
// link is none then (bpf_xdp_link_fill_link_info in net/core/dev.c).
func (p *port) gone() bool {
	if p.link == nil {
		return false
	}
	info, err := p.link.Info()
	if err != nil {
		return errors.Is(err, unix.ENOLINK)
	}
	x := info.XDP()
	return x != nil && x.Ifindex == 0
}
