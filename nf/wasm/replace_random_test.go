package wasm

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sfc/dataplane/packet"
)

// modelVersion is a version of a function as the model sees it.
type modelVersion struct {
	guest guest
	reads int               // format that it migrates from, 0: none
	count map[uint32]uint64 // packets of each flow; shared where slots are
}

// model knows what is kept of every flow of one function. It is slow and
// obvious, and knows nothing of which flow is migrated when: of a version that
// migrates, everything is there from the start.
type model struct {
	cur     *modelVersion
	before  *modelVersion // during probation
	state   string        // how cur came to its state
	transit []moving
	lost    uint64
}

// moving is a flow on its way: the record, and what it should say.
type moving struct {
	record []byte
	parts  []modelPart
}

type modelPart struct {
	format int
	count  uint64
}

// old is where the version before has slots of its own.
func (m *model) old() *modelVersion {
	if m.before == nil || m.state == stateKept {
		return nil
	}
	return m.before
}

func (m *model) replace(to guest, reset bool) {
	next := &modelVersion{guest: to, count: map[uint32]uint64{}}
	switch {
	case to.format != m.cur.guest.format && reset:
		m.state = stateReset
	case to.format == m.cur.guest.format:
		m.state, next.count, next.reads = stateKept, m.cur.count, m.cur.reads
	default:
		m.state, next.reads = stateMigrated, m.cur.guest.format
		for s, n := range m.cur.count {
			next.count[s] = n
		}
	}
	m.before, m.cur = m.cur, next
}

func (m *model) end(slot uint32) {
	delete(m.cur.count, slot)
	if old := m.old(); old != nil {
		delete(old.count, slot)
	}
}

func (m *model) empty(slot uint32) bool {
	return m.cur.count[slot] == 0 && (m.before == nil || m.before.count[slot] == 0)
}

// take is TakeFlow; a flow that is not migrated yet has its old part only.
func (m *model) take(slot uint32, migrated bool) (parts []modelPart) {
	if migrated {
		parts = append(parts, modelPart{m.cur.guest.format, m.cur.count[slot]})
	}
	if old := m.old(); old != nil {
		parts = append(parts, modelPart{old.guest.format, old.count[slot]})
	}
	m.end(slot)
	return parts
}

// give is GiveFlow.
func (m *model) give(slot uint32, parts []modelPart) {
	p, old := parts[0], m.old()
	switch {
	case p.format == m.cur.guest.format:
		m.cur.count[slot] = p.count
		if old != nil && len(parts) > 1 && parts[1].format == old.guest.format {
			old.count[slot] = parts[1].count
		}
	case old != nil && p.format == old.guest.format:
		old.count[slot] = p.count
		if m.state == stateMigrated {
			m.cur.count[slot] = p.count
		}
	case p.format == m.cur.reads:
		m.cur.count[slot] = p.count
	case len(parts) > 1:
		m.give(slot, parts[1:])
	default:
		m.lost++
	}
}

// Whatever happens to versions and flows in whatever order, every packet is
// seen by the right version, with the right state of its flow.
func TestReplaceRandom(t *testing.T) {
	b := newBed(t, v1, 1, GroupOptions{Flows: 5000})
	g := b.f.group
	h := g.hops[0]
	// Several pages of slots, and pages that nobody touches.
	slots := []uint32{0, 1, 63, 64, 255, 256, 511, 512, 513, 1024, 3000, 4999}
	guests := []guest{v1, v2, v3, {number: 5, format: 2}, {number: 6, format: 1}}
	flow := rapid.SampledFrom(slots)
	// What ends probation is rare, so that enough happens during it.
	seldom := func(t *rapid.T) bool { return rapid.IntRange(0, 5).Draw(t, "now") == 0 }
	finish := func() {
		if h.trial != nil {
			h.trial.until = time.Now()
		}
		b.settle()
	}
	rapid.Check(t, func(t *rapid.T) {
		finish()
		b.swap(v1, ReplaceOptions{ResetState: true})
		finish()
		g.FlowEnd(slots)
		m := &model{cur: &modelVersion{guest: v1, count: map[uint32]uint64{}}, lost: g.Stats()[0].StateLost}
		if h.cur.Load().reads != 0 { // v1 took over from its like, which had migrated
			m.cur.reads = v3.format
		}
		packets := func(mark uint32, more ...uint32) {
			burst := append(more, rapid.SliceOfN(flow, 1, 4).Draw(t, "slots")...)
			got := b.send(burst, mark)
			if mark == markTrap {
				if name := g.ReasonName(b.f.burst.Out[0]); name != "f0.fault" {
					t.Fatalf("faulted packets are %s", name)
				}
				m.cur, m.before = m.before, nil
				return
			}
			for k, s := range burst {
				m.cur.count[s]++
				if got[k].version != m.cur.guest.number || got[k].count != m.cur.count[s] {
					t.Fatalf("slot %d: version %d counted %d, want version %d and %d", s, got[k].version, got[k].count, m.cur.guest.number, m.cur.count[s])
				}
				if o := b.f.burst.Out[k]; o.Verdict != packet.Tx {
					t.Fatalf("slot %d: %+v", s, o)
				}
			}
		}
		take := func(t *rapid.T) {
			s := flow.Draw(t, "from")
			migrated := m.state != stateMigrated || m.before == nil || h.underWay().isDone(s)
			m.transit = append(m.transit, moving{b.take(s), m.take(s, migrated)})
		}
		give := func(t *rapid.T) {
			if len(m.transit) == 0 {
				t.Skip("no flow is under way")
			}
			s := flow.Draw(t, "to")
			if !m.empty(s) { // a slot that was empty all along is another case
				g.FlowEnd([]uint32{s})
				m.end(s)
			}
			last := len(m.transit) - 1
			g.GiveFlow(s, m.transit[last].record)
			m.give(s, m.transit[last].parts)
			m.transit = m.transit[:last]
			if lost := g.Stats()[0].StateLost; lost != m.lost {
				t.Fatalf("%d flows lost their state, want %d", lost, m.lost)
			}
			packets(0, s)
		}
		t.Repeat(map[string]func(*rapid.T){
			"packets": func(*rapid.T) { packets(0) },
			"fault": func(t *rapid.T) {
				if m.before == nil || !seldom(t) {
					t.Skip("not on probation, or not now")
				}
				packets(markTrap)
			},
			"replace": func(t *rapid.T) {
				to, reset := rapid.SampledFrom(guests).Draw(t, "to"), rapid.IntRange(0, 4).Draw(t, "reset") == 0
				r := b.prepare(to, ReplaceOptions{ResetState: reset, Probation: time.Hour})
				err := r.Install()
				switch {
				case m.before != nil:
					if !errors.Is(err, ErrProbation) {
						t.Fatalf("on probation: %v", err)
					}
					r.Discard()
				case err != nil:
					t.Fatal(err)
				default:
					m.replace(to, reset)
				}
			},
			"accept": func(t *rapid.T) {
				if !seldom(t) {
					t.Skip("not now")
				}
				finish()
				m.before = nil
			},
			"tick": func(t *rapid.T) {
				if m := h.underWay(); m != nil && rapid.Bool().Draw(t, "background") {
					for g.janitor.round <- struct{}{}; !h.trial.work.ready.Load(); {
						time.Sleep(50 * time.Microsecond)
					}
				}
				g.Tick(0)
			},
			"end": func(t *rapid.T) {
				ended := rapid.SliceOfNDistinct(flow, 1, 4, rapid.ID[uint32]).Draw(t, "ended")
				g.FlowEnd(ended)
				for _, s := range ended {
					m.end(s)
				}
			},
			"take": take,
			"give": give,
			"packets and moves": func(t *rapid.T) {
				for range rapid.IntRange(1, 8).Draw(t, "moves") {
					packets(0)
					take(t)
					give(t)
				}
			},
		})
	})
}
