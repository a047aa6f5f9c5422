package wasm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"sfc/dataplane/arena"
	"sfc/dataplane/keep"
	"sfc/nf"
)

// Slots says where the flow state of a [Group] lies. With a store that keeps,
// it outlives the process: a group of the same names in the next one finds what
// every function kept of every flow. What instances have in their own memory is
// gone with the process.
type Slots struct {
	// Store holds the memory. Default: keep.Local().
	Store keep.Store
	// Name begins the names of all slots of the chain, say slots/acme/edge.
	// Default: slots.
	Name string
	// Adopt uses what the store kept: the flow table of the same worker must be
	// the one that was in use with it, or flows meet the state of others.
	// Default false: what was kept is forgotten.
	Adopt bool
	// Sparse has pages come when the first flow that lies in them does, however
	// small the memory is: for many chains of which few have many flows. The
	// time that takes is the function's. Default false: see populated.
	Sparse bool
}

func (s Slots) withDefaults() Slots {
	if s.Store == nil {
		s.Store = keep.Local()
	}
	if s.Name == "" {
		s.Name = "slots"
	}
	return s
}

// keeps reports whether slots have to be found again.
func (s Slots) keeps() bool { return s.Store != keep.Local() }

// ForgetSlots forgets what the functions of a chain kept, on all workers; name
// is Slots.Name. Call it when the chain is gone and its groups are closed.
func ForgetSlots(s keep.Store, name string) error {
	return forget(s, func(n string) bool { return strings.HasPrefix(n, name+"/") })
}

func forget(s keep.Store, which func(name string) bool) error {
	var errs []error
	for _, n := range s.Names() {
		if which(n) {
			errs = append(errs, s.Forget(n))
		}
	}
	return errors.Join(errs...)
}

// The names of slots are NAME/FUNCTION/WORKER/LAYOUT.BYTES.N: LAYOUT stands for the
// layout and the number of flows, BYTES is the size of a slot, and N tells apart
// what has the same. Behind the slots is
// a page that no guest has mapped, which says whether a version in service kept
// something here:
//
//	0   slotsMagic
//	8   turn: 0, or one more than that of the version before
//	16  stands for the name of the function in its manifest
//
// After a crash, those with the highest turn are the ones that were in use.
const (
	slotsMagic   = 0x31544f4c53434653 // "SFCSLOT1"
	slotsTurn    = 8
	slotsOwner   = 16
	slotsTrailer = 24
)

// dir is what the names of a function's slots begin with.
func (o *GroupOptions) dir(function string) string {
	dir := func(f string) string { return fmt.Sprintf("%s/%s/%d/", o.Slots.Name, f, o.Worker) }
	if len(dir(function))+len("0123456789abcdef.4096.99") > keep.MaxName {
		function = fmt.Sprintf("%016x", layoutID(function))
	}
	return dir(function)
}

// openSlots makes the slots of a function, or finds those that were kept when
// adopt is set; nil when it keeps no flow state.
func openSlots(spec Hop, o *GroupOptions, owner *tenant, adopt bool) (_ *slots, err error) {
	size, flows := spec.Module.Manifest.FlowState(spec.Config), o.Flows
	switch most := (nf.DataStart - nf.SlotsStart) / max(size, 1); {
	case size == 0:
		return nil, nil
	case flows <= 0:
		return nil, fmt.Errorf("function %s keeps %d bytes per flow, and its path has no flows: give it a number of flows", spec.Name, size)
	case flows > most:
		return nil, fmt.Errorf("function %s keeps %d bytes per flow: %d flows do not fit its window, at most %d do", spec.Name, size, flows, most)
	}
	layout := spec.Module.Manifest.StateLayout(spec.Config)
	s := &slots{store: o.Slots.Store, owner: owner, bytes: size, layout: layoutID(layout)}
	stem := fmt.Sprintf("%s%016x.%d.", o.dir(spec.Name), layoutID(fmt.Sprintf("%s, %d flows", layout, flows)), size)
	page := os.Getpagesize()
	data := (size*flows + page - 1) / page * page
	if err := owner.claim("flow state of function "+spec.Name, &owner.used.SlotBytes, int64(data)); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			owner.release(&owner.used.SlotBytes, int64(data))
		}
	}()
	if adopt && s.adopt(stem, data) {
		return s, nil
	}
	names := s.store.Names()
	for n := 1; ; n++ {
		if s.name = fmt.Sprint(stem, n); !slices.Contains(names, s.name) {
			break
		}
	}
	region, _, err := s.store.Open(s.name, data+page, arena.Options{Sparse: o.Slots.Sparse || data >= populated})
	if err != nil {
		return nil, fmt.Errorf("function %s: flow state: %w", spec.Name, err)
	}
	s.setRegion(region, data)
	binary.LittleEndian.PutUint64(s.trailer, slotsMagic)
	binary.LittleEndian.PutUint64(s.trailer[slotsOwner:], layoutID(spec.Module.Manifest.Name))
	return s, nil
}

func (s *slots) setRegion(r *arena.Region, data int) {
	s.region, s.mem, s.trailer = r, r.Bytes()[:data:data], r.Bytes()[data:][:slotsTrailer]
}

// adopt takes the slots of this stem that were in service last, and reports
// whether there are any.
func (s *slots) adopt(stem string, data int) bool {
	for _, name := range s.store.Names() {
		if !strings.HasPrefix(name, stem) {
			continue
		}
		region, kept, err := s.store.Open(name, data+os.Getpagesize(), arena.Options{Sparse: true})
		if err != nil {
			continue // of another size: not one of ours
		}
		found := &slots{}
		found.setRegion(region, data)
		whole := kept && binary.LittleEndian.Uint64(found.trailer) == slotsMagic && found.turn() != 0
		if !whole || s.region != nil && found.turn() < s.turn() {
			_ = region.Close()
			continue
		}
		if s.region != nil {
			_ = s.region.Close()
		}
		s.name = name
		s.setRegion(region, data)
	}
	return s.region != nil
}

// turn is 0 when no version in service keeps anything here.
func (s *slots) turn() uint64 { return binary.LittleEndian.Uint64(s.trailer[slotsTurn:]) }

func (s *slots) setTurn(n uint64) { binary.LittleEndian.PutUint64(s.trailer[slotsTurn:], n) }

// follow says that these slots are in service from now on, after those of the
// version before; either may be nil, and both the same.
func (s *slots) follow(before *slots) {
	if s == nil || s == before {
		return
	}
	turn := uint64(1)
	if before != nil {
		turn += before.turn()
	}
	s.setTurn(turn)
}

// serve says that these slots, which may be nil, are those of the version that
// a group begins with.
func (s *slots) serve() {
	if s != nil && s.turn() == 0 {
		s.setTurn(1)
	}
}

// leave says that the version that had these slots is out of service, when that
// which is in service has others.
func (s *slots) leave(other *slots) {
	if s != nil && s != other {
		s.setTurn(0)
	}
}

// close unmaps the slots, and forgets them if they are of use to nobody.
func (s *slots) close() error {
	idle := s.turn() == 0
	s.owner.release(&s.owner.used.SlotBytes, int64(len(s.mem)))
	err := s.region.Close()
	if idle {
		err = errors.Join(err, s.store.Forget(s.name))
	}
	return err
}

// forgetOthers forgets what was kept for this worker by functions and versions
// that the group does not have.
func (g *Group) forgetOthers() error {
	worker := fmt.Sprint(g.opts.Worker)
	return forget(g.opts.Slots.Store, func(name string) bool {
		rest, ours := strings.CutPrefix(name, g.opts.Slots.Name+"/")
		parts := strings.Split(rest, "/")
		if !ours || len(parts) != 3 || parts[1] != worker {
			return false
		}
		return !slices.ContainsFunc(g.hops, func(h *hop) bool {
			s := h.cur.Load().slots
			return s != nil && s.name == name
		})
	})
}
