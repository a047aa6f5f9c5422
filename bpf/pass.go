package bpf

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cilium/ebpf/link"
)

// Pass is a program that passes every frame to the kernel's stack. On the far
// end of a veth link it makes redirects into the near end arrive.
type Pass struct {
	objs  passObjects
	link  link.Link
	close func() error
}

// OpenPass loads the program and attaches it in the given mode.
func OpenPass(ifindex int, mode Mode) (_ *Pass, err error) {
	p := &Pass{}
	p.close = sync.OnceValue(p.release)
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	if err := loadPassObjects(&p.objs, nil); err != nil {
		return nil, explain(fmt.Errorf("load the pass program: %w", err))
	}
	if p.link, _, err = attach(p.objs.Pass, ifindex, mode); err != nil {
		return nil, fmt.Errorf("attach the pass program: %w", err)
	}
	return p, nil
}

// Close detaches the program. Calls after the first do nothing more.
func (p *Pass) Close() error { return p.close() }

func (p *Pass) release() (err error) {
	if p.link != nil {
		err = p.link.Close()
	}
	return errors.Join(err, p.objs.Close())
}
