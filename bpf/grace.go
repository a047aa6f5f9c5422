package bpf

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cilium/ebpf"
)

// grace waits for the programs that are running.
type grace struct {
	mu           sync.Mutex
	outer, inner *ebpf.Map // nil once closed
}

// newGrace creates a map that holds a map.
func newGrace() (_ *grace, err error) {
	g := &grace{}
	inner := &ebpf.MapSpec{Name: "grace_inner", Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1}
	if g.inner, err = newMap(inner); err != nil {
		return nil, err
	}
	outer := &ebpf.MapSpec{Name: "grace", Type: ebpf.ArrayOfMaps, KeySize: 4, ValueSize: 4, MaxEntries: 1, InnerMap: inner}
	if g.outer, err = newMap(outer); err != nil {
		return nil, errors.Join(err, g.inner.Close())
	}
	return g, nil
}

// close releases the maps. A nil grace has none.
func (g *grace) close() error {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	err := errors.Join(g.outer.Close(), g.inner.Close())
	g.outer, g.inner = nil, nil
	return err
}

// wait puts the inner map where it is. So that nobody who was told "done" finds
// a program with the old map, the kernel returns from this only after every
// program that was running has ended (maybe_wait_bpf_programs in
// kernel/bpf/syscall.c: synchronize_rcu).
func (g *grace) wait() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.outer == nil {
		return ErrClosed
	}
	if err := g.outer.Put(uint32(0), uint32(g.inner.FD())); err != nil {
		return fmt.Errorf("wait for running programs: %w", err)
	}
	return nil
}

// Grace returns when every run of a steering program that began before the call
// has ended. Where the driver polls without interruption (softirq, as all do),
// what those runs redirected is then in the sockets' rings too, or dropped. It
// takes milliseconds, in which the caller's thread sleeps.
func (s *Steering) Grace() error { return s.grace.wait() }
