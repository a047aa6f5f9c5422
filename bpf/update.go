package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Update replaces the rules while traffic runs: every frame is classified by the
// old table or by the new one, none is missed, and counters, sequence numbers,
// sockets, owners and pins go on. A table that fits into the shape of the
// programs takes over on all ports with one store; for another one new programs
// are loaded, and ports change one after the other. When it fails, every port
// has the old table.
//
// A table that is no longer looked at may still be in use by frames under way:
// see [Steering.Grace].
func (s *Steering) Update(r Rules) error {
	r = r.withDefaults()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if err := r.validate(s.config.rows(), s.owners.pinMem != nil); err != nil {
		return err
	}
	need := shapeOf(r.Table)
	if s.table.fits(need, r.Table.Rules) {
		return s.turn(r)
	}
	if s.config.Dynamic {
		need = s.table.union(need.spacious())
	}
	return s.reshape(need, r)
}

// turn puts a table that fits behind the one in use, and turns to it.
func (s *Steering) turn(r Rules) error {
	if err := s.retired.wait(); err != nil {
		return err
	}
	other := s.table.slot ^ 1
	if err := s.table.put(other, r.Table, r.claim); err != nil {
		return err
	}
	if err := s.table.turn(other); err != nil {
		return err
	}
	s.rules = r
	s.retired.begin(s.grace)
	return nil
}

// reshape loads programs for another shape, with the rules, and exchanges them.
func (s *Steering) reshape(to shape, r Rules) error {
	table, err := newTableMaps(layoutOf(to), r.Table, r.claim)
	if err != nil {
		return err
	}
	progs, err := s.loadPrograms(table)
	if err == nil {
		err = s.replace(progs, link.Link.Update)
	}
	if err != nil {
		return errors.Join(err, table.close())
	}
	old := s.table
	s.table, s.rules = table, r
	s.generation++
	return errors.Join(s.retired.wait(), old.close())
}

// Spare makes sure that a table of twice the size of the present one finds
// programs with room for it, so that the next updates are fast; it does nothing
// unless the steering is dynamic. It takes as long as an update that needs new
// programs, and is for the time after one.
func (s *Steering) Spare() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	want := s.table.union(shapeOf(s.rules.Table).spacious())
	if !s.config.Dynamic || want == s.table.shape {
		return nil
	}
	return s.reshape(want, s.rules)
}

// replace exchanges all programs by the given step, in order, and takes the
// exchange back if one fails. A port whose interface has vanished has no use for
// a program, so that is no failure. It owns progs.
func (s *Steering) replace(progs []*ebpf.Program, step func(link.Link, *ebpf.Program) error) error {
	for i, p := range s.ports {
		if p == nil || p.link == nil {
			continue
		}
		err := step(p.link, progs[i])
		if errors.Is(err, unix.ENOLINK) {
			continue
		}
		if err != nil {
			err = fmt.Errorf("replace the program of port %d: %w", i, err)
			for j := range i {
				if back := s.ports[j]; back != nil && back.link != nil {
					if undo := step(back.link, back.prog); undo != nil && !errors.Is(undo, unix.ENOLINK) {
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
		if p != nil {
			p.prog, progs[i] = progs[i], p.prog
		}
	}
	return closePrograms(progs)
}

// retirement is the time until no program looks at a table any more that it was
// turned away from.
type retirement struct{ done chan error }

// begin lets it begin.
func (r *retirement) begin(g *grace) {
	done := make(chan error, 1)
	r.done = done
	go func() { done <- g.wait() }()
}

// wait waits for its end.
func (r *retirement) wait() error {
	if r.done == nil {
		return nil
	}
	err := <-r.done
	r.done = nil
	return err
}
