package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Attach puts the program on the port's interface and returns the mode really
// in force. The program goes when no process has the link any more (see
// [Steering.Export]), or when the interface vanishes. Attach never replaces a program that is there.
func (s *Steering) Attach(port int, mode Mode) (inForce Mode, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.at(port)
	if err != nil {
		return 0, err
	}
	if p.gone() {
		return 0, fmt.Errorf("port %d: %w: give it another with SetPort", port, ErrGone)
	}
	if p.link != nil {
		return 0, fmt.Errorf("port %d: %w", port, ErrAttached)
	}
	s.generation++
	p.link, p.mode, err = attach(p.prog, p.config.Ifindex, mode)
	if err != nil {
		return 0, fmt.Errorf("attach port %d: %w", port, err)
	}
	return p.mode, nil
}

// Mode returns the mode in force on an attached port, Auto on others.
func (s *Steering) Mode(port int) (Mode, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.at(port)
	if err != nil {
		return 0, err
	}
	return p.mode, nil
}

// attach links prog to an interface and reads back what came of it.
func attach(prog *ebpf.Program, ifindex int, mode Mode) (_ link.Link, inForce Mode, err error) {
	attrs, err := attributes(ifindex)
	if err != nil {
		return nil, 0, err
	}
	if err := occupied(attrs); err != nil {
		return nil, 0, err
	}
	l, err := attachAs(prog, attrs, mode)
	if err != nil {
		return nil, 0, err
	}
	if inForce, err = modeOf(prog, ifindex); err != nil {
		return nil, 0, errors.Join(err, l.Close())
	}
	return l, inForce, nil
}

// attachAs makes the link in the mode that is asked for.
func attachAs(prog *ebpf.Program, attrs *netlink.LinkAttrs, mode Mode) (link.Link, error) {
	try := func(flag link.XDPAttachFlags) (link.Link, error) {
		return link.AttachXDP(link.XDPOptions{Program: prog, Interface: attrs.Index, Flags: flag})
	}
	var l link.Link
	var err error
	switch mode {
	case Generic:
		l, err = try(link.XDPGenericMode)
	case Native, Auto:
		l, err = try(link.XDPDriverMode)
		if errors.Is(err, unix.EOPNOTSUPP) {
			if mode == Native {
				return nil, fmt.Errorf("%w: the driver of %s has only generic mode: ask for auto or generic", ErrNoNative, attrs.Name)
			}
			l, err = try(link.XDPGenericMode)
		}
	default:
		return nil, fmt.Errorf("%w: unknown %v", ErrConfig, mode)
	}
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EEXIST):
		// Somebody was faster since we looked.
		if now, lookErr := attributes(attrs.Index); lookErr == nil {
			if who := occupied(now); who != nil {
				return nil, who
			}
		}
	case errors.Is(err, unix.ERANGE):
		err = fmt.Errorf("%w: lower the MTU of %s or of its peer", err, attrs.Name)
	}
	return nil, explain(fmt.Errorf("attach to %s in %v mode: %w", attrs.Name, mode, err))
}

// attributes returns an interface's attributes, the XDP program among them.
func attributes(ifindex int) (*netlink.LinkAttrs, error) {
	l, err := netlink.LinkByIndex(ifindex)
	if err != nil {
		return nil, fmt.Errorf("look up interface %d in this network namespace: %w", ifindex, err)
	}
	return l.Attrs(), nil
}

// occupied returns an error that names the XDP program on an interface.
func occupied(attrs *netlink.LinkAttrs) error {
	if attrs.Xdp == nil || !attrs.Xdp.Attached {
		return nil
	}
	id := attrs.Xdp.ProgId
	name := "in several modes"
	if id != 0 {
		name = programName(ebpf.ProgramID(id))
	}
	return fmt.Errorf("%w: %s has program %s (id %d): detach it first", ErrOccupied, attrs.Name, name, id)
}

// programName returns a loaded program's name, or why it has none.
func programName(id ebpf.ProgramID) string {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return fmt.Sprintf("of unknown name: %v", err)
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return fmt.Sprintf("of unknown name: %v", err)
	}
	return fmt.Sprintf("%q", info.Name)
}

// modeOf asks the kernel in which mode prog runs on an interface.
func modeOf(prog *ebpf.Program, ifindex int) (Mode, error) {
	info, err := prog.Info()
	if err != nil {
		return 0, fmt.Errorf("read the program's id: %w", err)
	}
	id, ok := info.ID()
	if !ok {
		return 0, fmt.Errorf("read the program's id: %w", &UnsupportedError{"program ids", "4.13"})
	}
	attrs, err := attributes(ifindex)
	if err != nil {
		return 0, err
	}
	if x := attrs.Xdp; x != nil && x.ProgId == uint32(id) {
		switch x.AttachMode {
		case nl.XDP_ATTACHED_DRV:
			return Native, nil
		case nl.XDP_ATTACHED_SKB:
			return Generic, nil
		}
	}
	return 0, fmt.Errorf("%s does not report program %d after it was attached", attrs.Name, id)
}
