package netns

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// Stub is an XDP program that passes every frame on, attached to a link.
type Stub struct {
	once sync.Once
	prog *ebpf.Program
	link link.Link
	err  error
}

// EnableNAPI makes the link poll its receive ring, as a real interface does,
// by attaching an XDP program that passes every frame on. Without one (and
// with GRO off) a veth takes a frame straight into the stack, and drops what an
// XDP program elsewhere redirects to its peer: see veth_xdp_xmit in
// drivers/net/veth.c. It excludes another XDP program on the link.
//
// Older kernels turn GRO on with it (6.1 does, 6.18 not), which merges TCP
// segments on their way to a capture; EnableNAPI makes sure that it is off.
func (l *Link) EnableNAPI() (_ *Stub, err error) {
	s := &Stub{}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("enable NAPI on %s: %w", l.Name, err), s.Close())
		}
	}()
	s.prog, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Name:         "sfc_pass",
		Type:         ebpf.XDP,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, xdpPass), asm.Return()},
		License:      "BSD",
	})
	if err != nil {
		return nil, fmt.Errorf("load stub: %w", err)
	}
	err = l.NS.Do(func() error {
		s.link, err = link.AttachXDP(link.XDPOptions{Program: s.prog, Interface: l.Index, Flags: link.XDPDriverMode})
		if err != nil {
			return fmt.Errorf("attach stub: %w", err)
		}
		return l.changeOffloads(func(f string) bool { return f == "rx-gro" }, false)
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// xdpPass is XDP_PASS of linux/bpf.h.
const xdpPass = 2

// Close detaches the stub. Closing again does nothing.
func (s *Stub) Close() error {
	s.once.Do(func() {
		var errs []error
		if s.link != nil {
			errs = append(errs, s.link.Close())
		}
		if s.prog != nil {
			errs = append(errs, s.prog.Close())
		}
		s.err = errors.Join(errs...)
	})
	return s.err
}
