package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"sfc/dataplane/classify"
)

// Update replaces the table while traffic runs: every frame is classified by
// the old table or by the new one, none is missed, and counters, sequence
// numbers, sockets, owners and pins go on. Paths belong to chains as before
// (Config.PathChain). Ports change one after the other. When it fails, every
// port has the old table.
func (s *Steering) Update(t *classify.Table) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	progs, err := s.loadPrograms(t)
	if err != nil {
		return err
	}
	return s.replace(progs, link.Link.Update)
}

// replace exchanges all programs by the given step, in order, and takes the
// exchange back if one fails. It owns progs.
func (s *Steering) replace(progs []*ebpf.Program, step func(link.Link, *ebpf.Program) error) error {
	for i, p := range s.ports {
		if p.link == nil {
			continue
		}
		if err := step(p.link, progs[i]); err != nil {
			err = fmt.Errorf("replace the program of port %d: %w", i, err)
			for j := range i {
				if back := s.ports[j]; back.link != nil {
					if undo := step(back.link, back.prog); undo != nil {
						err = errors.Join(err, fmt.Errorf("port %d keeps the new table: %w", j, undo))
						// The link holds the new program, so ours must be it.
						back.prog, progs[j] = progs[j], back.prog
					}
				}
			}
			return errors.Join(err, closePrograms(progs))
		}
	}
	for i, p := range s.ports {
		p.prog, progs[i] = progs[i], p.prog
	}
	return closePrograms(progs)
}
