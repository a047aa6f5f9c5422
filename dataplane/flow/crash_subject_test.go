package flow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"sfc/dataplane/arena"
	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
)

// A subject is two workers' tables in shared memory, with the pins, claims and
// function state that belong to their flows, doing random work of all kinds. It
// runs in a process that is killed, or gone through instruction by instruction;
// whoever does that finds in the memory besides what had been achieved (journal)
// and what was being worked on (touched).
type subject struct {
	mem    []byte
	opts   Options
	tables [2]*Table
	words  [2][]byte // by slot: the functions' state
	pins   *steer.Pins
	claims *steer.Pins
	rng    *rand.Rand
	now    uint32 // ms
	qs     [packet.BurstSize]Query
	out    [packet.BurstSize]Result
	slots  [packet.BurstSize]uint32
	// evicted is how many flows had to go to make room for those that moved
	// when the subject was opened.
	evicted uint64
}

// Sizes of a subject's world.
const (
	subjectTuples = 24 // flows that there can be
	subjectBound  = 12 // further tuples, and keys to claim
	subjectMax    = 64 // slots of each table, unless it is to be full
	subjectPins   = 64
)

// Offsets in the memory.
const (
	atDone    = 0   // number of steps done
	atTouched = 8   // bits of the flows that the step under way is about
	atClock   = 16  // ms
	atPhase   = 24  // 1: a step is under way
	atGen     = 64  // by flow: how often it began
	atOwner   = 512 // by bucket: the worker that has it
	atJournal = atOwner + steer.Buckets
	atTables  = 8192
)

// fact is what is known of a flow.
type fact struct {
	live, worker, slot uint32
	gen                uint32 // of the function's state; 0: none yet
	state, bound       uint32 // bound: bits of further tuples
	claimed            uint32 // bits of keys
}

const factBytes = 7 * 4

// layout of the rest.
func subjectOptions(full bool) Options {
	o := Options{Key: secret, Max: subjectMax, Bindings: 2 * subjectMax, Buckets: steer.Buckets, Chain: 3, Sparse: true, Timeouts: shortTimeouts}
	if full {
		o.Max, o.Bindings = 12, 6
	}
	o.Claims = new(steer.Pins) // counted as there: it decides the size
	return o
}

func stateBytes(o Options) int { return int(o.Max) * 8 }

func subjectBytes(o Options) int {
	n := atTables + 2*(MemoryBytes(o)+4096) + 2*steer.PinsSize(subjectPins)
	return (n + 4095) / 4096 * 4096
}

// pieces of the memory.
func pieces(mem []byte, o Options) (tables, state [2][]byte, pins, claims []byte) {
	rest := mem[atTables:]
	take := func(n int) []byte {
		p := rest[:n:n]
		rest = rest[n:]
		return p
	}
	for i := range tables {
		tables[i], state[i] = take(MemoryBytes(o)), take(4096)
	}
	return tables, state, take(steer.PinsSize(subjectPins)), take(steer.PinsSize(subjectPins))
}

// openSubject begins in memory, or goes on with what is there.
func openSubject(mem []byte, full bool, seed uint64) (*subject, [2]Restored, error) {
	s := &subject{mem: mem, opts: subjectOptions(full), rng: rand.New(rand.NewPCG(seed, 1))}
	tables, state, pins, claims := pieces(mem, s.opts)
	s.words = state
	var found [2]Restored
	var err error
	if s.pins, _, err = steer.OpenPins(pins); err != nil {
		return nil, found, err
	}
	if s.claims, _, err = steer.OpenPins(claims); err != nil {
		return nil, found, err
	}
	s.opts.Pins, s.opts.Claims = s.pins, s.claims
	for i := range s.tables {
		s.opts.Memory = tables[i]
		s.tables[i], found[i], err = Restore(s.opts)
		if errors.Is(err, ErrNoTable) {
			s.tables[i], err = New(s.opts)
		}
		if err != nil {
			return nil, found, err
		}
		for slot := range s.tables[i].Vacant() {
			clear(state[i][slot*8:][:8])
		}
	}
	s.evicted -= s.evictions()
	Reconcile(s.tables[:], s.owner, func(from int, slot uint32, to int, into uint32) {
		if into != NoSlot {
			copy(state[to][into*8:][:8], state[from][slot*8:][:8])
		}
		clear(state[from][slot*8:][:8])
	})
	s.evicted += s.evictions()
	s.pins.Sweep()
	s.claims.Sweep()
	s.now = binary.LittleEndian.Uint32(mem[atClock:])
	return s, found, nil
}

// newRegion is memory for a subject.
func newRegion(t *testing.T, full bool) *arena.Region {
	t.Helper()
	r, err := arena.Open("subject", subjectBytes(subjectOptions(full)), arena.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func (s *subject) evictions() (n uint64) {
	for _, t := range s.tables {
		n += sum(t.count.Evicted)
	}
	return n
}

func (s *subject) owner(bucket uint16) int { return int(s.mem[atOwner+int(bucket)]) }

func (s *subject) state(worker int, slot uint32) []byte {
	return s.words[worker][slot*8:][:8]
}

// query is a packet of flow i, which is TCP when i is odd.
func (s *subject) query(i uint32, reverse bool) Query {
	q := Query{kind: Packet, at: s.now, seq: 100, ack: 101}
	proto := packet.ProtoUDP
	if i&1 != 0 {
		proto = packet.ProtoTCP
		q.bits = []uint8{tcpSYN, tcpSYN | tcpACK, tcpACK, tcpACK, tcpACK | tcpFIN, tcpRST}[s.rng.IntN(6)]
	}
	swap := q.key.setV4(endV4(10+i, uint16(3*i)), endV4(5, 80), lastWord(4, proto, 0))
	if reverse {
		swap ^= 1
	}
	q.bits |= swap << querySwapShift
	q.hash = q.key.hash(secret)
	return q
}

// boundTuple is further tuple j as flow i would bind it.
func boundTuple(i, j uint32) Tuple {
	f := udp(200, 5, uint16(j), 80)
	if i&1 != 0 {
		f.proto = packet.ProtoTCP
	}
	return *f.tuple()
}

// claimKey is a key that flows want: a hash, so spread.
func claimKey(j uint32) uint64 { return uint64(j+1) * 0x9e3779b97f4a7c15 }

// find returns where flow i is.
func (s *subject) find(i uint32) (worker int, slot uint32, ok bool) {
	q := s.query(i, false)
	for w, t := range s.tables {
		if ref := t.find(&q.key, q.hash); ref != 0 && ref <= t.slots() {
			return w, ref - 1, true
		}
	}
	return 0, NoSlot, false
}

// census says what there is.
func (s *subject) census() (all [subjectTuples]fact) {
	for i := range uint32(subjectTuples) {
		w, slot, ok := s.find(i)
		if !ok {
			continue
		}
		t := s.tables[w]
		k := fact{live: 1, worker: uint32(w), slot: slot, state: uint32(t.entries[slot].kind.state())}
		if word := binary.LittleEndian.Uint64(s.state(w, slot)); word != 0 {
			k.gen = uint32(word)
			if word>>32 != uint64(i)+1 {
				k.gen = ^uint32(0) // another flow's
			}
		}
		for n := t.entries[slot].bind; n != 0; n = t.bindings[n-1].next {
			b := &t.bindings[n-1]
			tuple := b.key.tuple(b.swap)
			k.bound |= 1 << tuple.SrcPort
		}
		for j := range uint32(subjectBound) {
			if h := &t.ledger.Flows[slot]; h.Claims[0] == claimKey(j) || h.Claims[1] == claimKey(j) {
				k.claimed |= 1 << j
			}
		}
		all[i] = k
	}
	return all
}

// record writes down what there is after a step, and then that it is done.
func (s *subject) record() {
	done := binary.LittleEndian.Uint64(s.mem[atDone:]) + 1
	page := s.mem[atJournal+int(done&1)*subjectTuples*factBytes:]
	for i, k := range s.census() {
		for f, v := range [...]uint32{k.live, k.worker, k.slot, k.gen, k.state, k.bound, k.claimed} {
			binary.LittleEndian.PutUint32(page[i*factBytes+4*f:], v)
		}
	}
	s.done().Store(done)
}

// journal reads what there was after a step, one of the last two.
func journal(mem []byte, done uint64) (all [subjectTuples]fact) {
	page := mem[atJournal+int(done&1)*subjectTuples*factBytes:]
	for i := range all {
		at := func(f int) uint32 { return binary.LittleEndian.Uint32(page[i*factBytes+4*f:]) }
		all[i] = fact{at(0), at(1), at(2), at(3), at(4), at(5), at(6)}
	}
	return all
}

// sound fails when anything contradicts itself, or something is left over.
func (s *subject) sound() error {
	held := [2]int{}
	for w, t := range s.tables {
		if err := t.Verify(); err != nil {
			return err
		}
		for slot := range t.top {
			word := binary.LittleEndian.Uint64(s.state(w, slot))
			if word != 0 && t.entries[slot].kind.state() == unused {
				return fmt.Errorf("worker %d, slot %d is vacant, and its state is %#x", w, slot, word)
			}
			if !t.entries[slot].kind.live() {
				continue
			}
			h := &t.ledger.Flows[slot]
			held[0] += int(h.Binds)
			for _, key := range h.Claims {
				if key == 0 {
					continue
				}
				held[1]++
				if v, _ := s.claims.Lookup(key); word != 0 && v != word>>32 {
					return fmt.Errorf("worker %d, slot %d holds key %#x of flow %d, state %#x", w, slot, key, v, word)
				}
			}
		}
	}
	for i, p := range []*steer.Pins{s.pins, s.claims} {
		if n, err := p.Verify(); err != nil || n != held[i] {
			return fmt.Errorf("%d entries, %d are held: %w", n, held[i], err)
		}
	}
	return nil
}

func (s *subject) close() error {
	return errors.Join(s.tables[0].Detach(), s.tables[1].Detach())
}

// run works until the process is killed, or for so many steps. before and after
// are called around each step.
func (s *subject) run(steps int, before, after func()) {
	for range steps {
		step := s.work()
		before()
		step()
		after()
		s.record()
	}
}

// done is the number of steps done, as the other process reads it.
func (s *subject) done() *atomic.Uint64 { return wordAt(s.mem, atDone) }
