package dataplane

import (
	"testing"
	"time"

	"sfc/dataplane/packet"
)

// strict is an Observer that checks in which order it is told things, and that
// it is told each of them once.
type strict struct {
	b        *played
	received uint64
	decided  map[uint32]bool // by Seq
	sent     uint64
	lost     uint64 // TxFull
	dropped  uint64
}

func (s *strict) Received(b *packet.Burst) { s.received += uint64(b.N) }
func (s *strict) Decided(b *packet.Burst, region []byte) {
	for k := range int(b.N) {
		if _, _, serial := markOf(b.Frames[k].Bytes(region)); serial != b.Seq[k] {
			s.b.fail("packet %d has the bytes of packet %d when it is decided about", b.Seq[k], serial)
		}
		if s.decided[b.Seq[k]] {
			s.b.fail("packet %d is decided about twice", b.Seq[k])
		}
		s.decided[b.Seq[k]] = true
	}
}
func (s *strict) Sent(rxNs []uint64, _ uint64) { s.sent += uint64(len(rxNs)) }
func (s *strict) TxFull(seq uint32, _ uint16) {
	if !s.decided[seq] {
		s.b.fail("packet %d found its ring full before it was decided about", seq)
	}
	s.lost++
}
func (s *strict) Dropped(packet.Meta, packet.Reason) { s.dropped++ }
func (s *strict) Unknown(uint32)                     { s.b.fail("a packet has no path") }

// What was held comes out in one go: more than a burst, of both directions. The
// observer sees each packet before it leaves, and the worker needs no memory.
func TestManyHeldPackets(t *testing.T) {
	var seen [2]*strict
	h := newHands(t, playedOptions{workers: 2, flows: 64, config: func(c *Config) {
		for i := range seen {
			if seen[i] == nil {
				seen[i] = &strict{decided: map[uint32]bool{}}
				c.Observer = seen[i]
				break
			}
		}
	}})
	for _, s := range seen {
		s.b = h.played
	}
	// What is given to a port is sent at once, and its chunk used for something
	// else.
	for _, p := range h.ports {
		p.stuck = func(n int) int { return n }
	}
	s := h.ownedBy(h.sources(64), 0)
	h.send(s, 0, h.rnd)
	h.turn(0)
	done := h.move(s.at[0].Bucket, 1)
	h.flipped(s.at[0].Bucket, 0, 1)
	const packets = 1000
	for i := range packets {
		h.send(s, i/37%2, h.rnd)
		h.turn(1)
	}
	if held := h.set.workers[1].local.Held; held != packets {
		t.Fatalf("%d packets are held, want %d", held, packets)
	}
	if m := h.until(done, 0, 1); m.err != nil {
		t.Fatal(m.err)
	}
	if n := cap(h.set.workers[1].active); n != 2 {
		t.Errorf("the list of lanes under way has grown to %d", n)
	}
	h.finish()
	if o := seen[1]; o.received != packets || len(o.decided) != packets || o.sent+o.lost != packets || o.dropped != 0 {
		t.Errorf("received %d, decided %d, sent %d, tx_full %d, dropped %d: want %d", o.received, len(o.decided), o.sent, o.lost, o.dropped, packets)
	}
}

// tickCounter is a counter that counts its ticks.
type tickCounter struct {
	*counter
	ticks int
}

func (c *tickCounter) Tick(uint64) { c.ticks++ }

// A worker all of whose packets are for others, and one whose link is down,
// have their periodic calls and publish their counters.
func TestTicksWithoutBursts(t *testing.T) {
	for _, c := range []struct {
		name string
		prep func(b *played, w *Worker)
		busy bool
	}{
		{"all packets are for another", func(b *played, w *Worker) {
			w.swapPort(0, NewMemPort(w.cfg.Region, w.cfg.Pool, []Template{{Frame: make([]byte, 64), Meta: packet.Meta{Path: 99}}}, 0, 1<<40))
		}, true},
		{"the link is down", func(b *played, w *Worker) {
			b.ports[1].stuck = func(int) int { return 0 }
			chunk, _ := w.cfg.Pool.Get()
			b.ports[1].tx = append(b.ports[1].tx, packet.Frame{Chunk: chunk, Off: packet.Headroom, Len: 64})
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := makePlayed(t, playedOptions{workers: 1, flows: 64})
			w := b.set.workers[0]
			ticks := &tickCounter{counter: b.runner(0, 0)}
			w.chains[0].runner = ticks
			c.prep(b, w)
			b.start()
			time.Sleep(350 * time.Millisecond)
			counters := b.set.Counters()
			if err := b.set.Stop(); err != nil {
				t.Fatal(err)
			}
			if ticks.ticks < 2 || ticks.ticks > 5 {
				t.Errorf("%d ticks in 350 ms, want one in about 100 ms", ticks.ticks)
			}
			if counters.Turns == 0 || c.busy && counters.Received == 0 {
				t.Errorf("counters are not published: %+v", counters)
			}
			if !c.busy && counters.Turns > 50_000 {
				t.Errorf("%d turns in 350 ms without a packet", counters.Turns)
			}
		})
	}
}

// Turns of workers that hand packets over, hold them and move flows need no
// memory.
func TestSeveralWorkersDoNotAllocate(t *testing.T) {
	for _, arena := range []bool{false, true} {
		h := newHands(t, playedOptions{workers: 2, flows: 1024, arena: arena, chains: 2})
		sources := h.sources(200)
		var odd []*fragmentSource
		for i := range 50 {
			odd = append(odd, h.fragmentsOf(&sources[i], i%2 == 0))
		}
		bucket := sources[100].at[0].Bucket
		w := h.set.workers
		turn := func() {
			for range 16 {
				h.send(&sources[50+h.rnd.IntN(150)], 0, h.rnd)
				h.sendFragments(odd[h.rnd.IntN(len(odd))])
			}
			h.turn(0, 1, 0, 1)
		}
		turn()
		for range 200 { // as Set.Move does, with memory made beforehand
			from := h.owners.Owner(0, bucket)
			to := 1 - from
			tr := newTransfer(w[from], w[to])
			tr.reserve(64, nil)
			tr.chain, tr.bucket = 0, bucket
			arrive := func() { w[to].chains[0].buckets[bucket] = arriving }
			leave := func() { w[from].moves.leaving = tr }
			turns := 0
			n := testing.AllocsPerRun(1, func() {
				if turns++; turns == 2 { // the first run is not measured
					w[to].post(arrive)
					h.turn(to)
					h.send(&sources[100], 0, h.rnd)
					tr.want = h.owners.Flip(0, bucket, to)
					w[from].post(leave)
					h.send(&sources[100], 0, h.rnd)
					h.turn(to)
				}
				turn()
			})
			if n != 0 {
				t.Fatalf("arena %v: %v allocations", arena, n)
			}
			for len(tr.done) == 0 && w[from].moves.leaving != nil {
				turn()
			}
			turn()
		}
		var c Counters
		for _, w := range w {
			c.add(&w.local)
		}
		if c.HandedOut == 0 || c.Held == 0 {
			t.Errorf("nothing was tested: %+v", c)
		}
		h.finish()
	}
}
