package wasm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"sfc/dataplane/arena"
	"sfc/nf"
)

// A process may end when a function's flow state lies in two layouts, or when a
// version of another layout is to follow at the next start. What the version
// before kept is then handed over when the group is made: all flows, before the
// first packet comes.

// inherit hands over to function h what a version of another layout kept, as far
// as it is not done. No janitor runs yet.
func (g *Group) inherit(h *hop) error {
	v := h.cur.Load()
	if v.slots == nil || !g.opts.Slots.Adopt || !v.spec.Module.migrates {
		return nil
	}
	old := g.before(v)
	if old == nil {
		return nil
	}
	defer old.region.Close()
	m := newMigration(old.mem, old.bytes, g.opts.Flows)
	if m == nil {
		return fmt.Errorf("function %s: no memory to note %d flows", h.name, g.opts.Flows)
	}
	defer m.close()
	parts := written(old.region.FD(), old.bytes, uint32(g.opts.Flows))
	for _, p := range parts {
		for slot := p.from; slot < p.to; slot++ {
			if !isZero(v.slots.of(slot)) {
				m.setDone(slot)
			}
		}
	}
	g.c.setMigration(h.index, m)
	defer g.c.setMigration(h.index, nil)
	for _, p := range parts {
		for at := p.from; at < p.to; {
			next, ok := g.c.migrateRange(h.index, at, p.to, migrateChunk)
			if !ok {
				return g.inheritFailed(h, m)
			}
			at = next
		}
	}
	v.slots.follow(old)
	g.emit(Event{Function: h.name, Kind: EventReplaced,
		Text: fmt.Sprintf("%s took over the flow state of the version before: %d flows", v.spec.Module.Manifest.Version, m.moved())})
	return nil
}

// inheritFailed goes on with what was handed over until the guest failed, in a
// new instance.
func (g *Group) inheritFailed(h *hop, m *migration) error {
	v := h.cur.Load()
	g.emit(Event{Function: h.name, Kind: EventAlarm,
		Text: fmt.Sprintf("flow state of the version before was given up after %d flows: %s", m.moved(), g.c.trap(h.index))})
	v.retire().close()
	inst, err := g.spawn(v)
	if err != nil {
		return err
	}
	g.install(h.index, inst)
	return nil
}

// before returns the slots that were in service before those of v, in another
// layout of the same function; nil when there are none. The caller closes their
// region.
func (g *Group) before(v *version) *slots {
	dir, page := g.opts.dir(v.spec.Name), os.Getpagesize()
	var last *slots
	for _, name := range g.opts.Slots.Store.Names() {
		fields := strings.Split(strings.TrimPrefix(name, dir), ".")
		if !strings.HasPrefix(name, dir) || name == v.slots.name || len(fields) != 3 {
			continue
		}
		size, err := strconv.Atoi(fields[1])
		if err != nil || size <= 0 || size > nf.MaxFlowState || size%8 != 0 {
			continue
		}
		data := (size*g.opts.Flows + page - 1) / page * page
		region, _, err := g.opts.Slots.Store.Open(name, data+page, arena.Options{Sparse: true})
		if err != nil {
			continue // of another number of flows
		}
		s := &slots{bytes: size}
		s.setRegion(region, data)
		ours := binary.LittleEndian.Uint64(s.trailer) == slotsMagic && binary.LittleEndian.Uint64(s.trailer[slotsOwner:]) == layoutID(v.spec.Module.Manifest.Name)
		later := v.slots.turn() != 0 && s.turn() > v.slots.turn() // of a version that is wanted no more
		if !ours || s.turn() == 0 || later || last != nil && last.turn() > s.turn() {
			_ = region.Close()
			continue
		}
		if last != nil {
			_ = last.region.Close()
		}
		last = s
	}
	return last
}

func isZero(b []byte) bool {
	for ; len(b) >= 8; b = b[8:] {
		if binary.LittleEndian.Uint64(b) != 0 {
			return false
		}
	}
	return true
}

// keptState hands over and settles what was kept, once all versions are there.
func (g *Group) keptState() error {
	var errs []error
	for _, h := range g.hops {
		errs = append(errs, g.inherit(h))
		h.cur.Load().slots.serve()
	}
	return errors.Join(append(errs, g.forgetOthers())...)
}
