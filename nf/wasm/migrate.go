package wasm

import (
	"errors"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Flow state is handed over where it is needed first: the flows of a burst
// before the function sees them (chain.c), the others in the background, a few
// at every burst and more when there is none.
const (
	// burstShare is how many flows are handed over in the background at a
	// burst.
	burstShare = 32
	// tickShare is how many are at a tick, as long as it takes no more than
	// tickTime.
	tickShare = 4096
	tickTime  = 500 * time.Microsecond
	// migrateChunk is how many are under one deadline.
	migrateChunk = 64
)

// background is what is left to do of a migration. The janitor writes parts and
// then ready; the rest is the worker's.
type background struct {
	// parts are the ranges of slots that were ever written: to look at the
	// others would allocate their pages.
	parts []slotRange
	ready atomic.Bool

	at   int    // in parts
	slot uint32 // the next one in parts[at]
	done bool
}

// slotRange is the slots [from, to).
type slotRange struct{ from, to uint32 }

// prepare finds out what there is to do. The janitor calls it when the old
// version has stopped writing.
func (w *background) prepare(r *Replacement) {
	if r.migration == nil || w.ready.Load() {
		return
	}
	s := r.from.slots
	w.parts = written(s.region.FD(), s.bytes, uint32(r.g.opts.Flows))
	w.ready.Store(true)
}

// written returns the slots that lie in allocated pages of a memfd; all of them
// if the kernel does not say.
func written(fd, bytes int, slots uint32) (parts []slotRange) {
	end := int64(slots) * int64(bytes)
	for at := int64(0); at < end; {
		data, err := unix.Seek(fd, at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // nothing behind at
			break
		}
		hole, err2 := unix.Seek(fd, data, unix.SEEK_HOLE)
		if err != nil || err2 != nil {
			return []slotRange{{0, slots}}
		}
		from, to := min(data, end)/int64(bytes), (min(hole, end)+int64(bytes)-1)/int64(bytes)
		if from < to {
			parts = append(parts, slotRange{uint32(from), uint32(to)})
		}
		at = hole
	}
	return parts
}

// migrateSome hands over at most some flows in the background, and reports
// whether the guest was fine.
func (g *Group) migrateSome(r *Replacement, some uint32) bool {
	w := &r.work
	if w.done || !w.ready.Load() {
		return true
	}
	for start := time.Now(); some > 0 && w.at < len(w.parts); {
		p := w.parts[w.at]
		most := min(some, migrateChunk)
		next, ok := g.c.migrateRange(r.hop.index, max(w.slot, p.from), p.to, most)
		if !ok {
			return false
		}
		w.slot = next
		if next == p.to {
			w.at++
		}
		some -= most
		if time.Since(start) > tickTime {
			return true
		}
	}
	w.done = w.at == len(w.parts)
	return true
}
