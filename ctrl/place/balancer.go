package place

import (
	"cmp"
	"math"
	"slices"

	"sfc/dataplane/steer"
)

// noiseDeviations is how many standard deviations of a random arrival (Poisson)
// a worker's load must be off before it is taken for more than chance: with few
// packets in an interval, Slack alone would move buckets for nothing.
const noiseDeviations = 3

// Balancer proposes moves, one snapshot per interval. It remembers what it moved
// lately. Not safe for concurrent use.
//
// With a load that stays the same it comes to rest: every move brings the two
// workers closer together, so the sum of the squares of their loads falls, and
// no state comes twice.
type Balancer struct {
	opts     Options
	interval uint32
	// moved is the interval of a bucket's last move, by chain and bucket.
	moved     []uint32
	elephants []Elephant

	// What follows is the work of one call.
	snap  Snapshot
	moves []Move
	loads []float64 // of each worker
	// target is what each worker's load should come down to: its fair share,
	// or its elephant where that is more.
	target     []float64
	fair       float64 // what a worker without an elephant should bear
	perPacket  float64 // mean cost of a packet
	largest    []int   // the largest buckets, by index, largest first
	candidates []candidate
	tooLarge   []candidate
}

// candidate is a bucket of an overloaded worker that may move.
type candidate struct {
	load float64
	// tie decides between equal loads: flows, then chain and bucket.
	tie   uint64
	index int // in the snapshot
}

// New returns a balancer that has moved nothing yet.
func New(opts Options) *Balancer { return &Balancer{opts: opts.withDefaults()} }

// Rebalance is called once per interval and returns the moves to make, in order
// of importance. No move makes the most loaded worker of the snapshot worse.
// The slice is the caller's until the next call. A move that could not be made
// needs no word: the next snapshot tells.
func (b *Balancer) Rebalance(s Snapshot) []Move {
	b.interval++
	b.moves, b.elephants, b.snap = b.moves[:0], b.elephants[:0], s
	defer func() { b.snap = Snapshot{} }()
	if s.Workers < 2 || !b.measure() {
		return nil
	}
	for range s.Workers {
		from := b.mostOverloaded()
		if from < 0 || len(b.moves) == b.opts.MaxMoves {
			break
		}
		b.relieve(from)
		b.target[from] = math.Inf(1) // once per interval
	}
	return b.moves
}

// Elephants returns the elephants of the last snapshot, largest first. The slice
// is the caller's until the next call of Rebalance.
func (b *Balancer) Elephants() []Elephant { return b.elephants }

// measure adds up loads and finds the fair share and the elephants. It reports
// false when there is no load.
func (b *Balancer) measure() bool {
	s := &b.snap
	b.loads = append(b.loads[:0], make([]float64, s.Workers)...)
	b.target = append(b.target[:0], b.loads...)
	b.largest = b.largest[:0]
	var total, packets float64
	for i := range s.Buckets {
		k := &s.Buckets[i]
		if k.Packets == 0 || k.Owner < 0 || k.Owner >= s.Workers {
			continue
		}
		load := s.load(k)
		b.loads[k.Owner] += load
		total += load
		packets += float64(k.Packets)
		b.keepLargest(i, load)
	}
	if total == 0 {
		return false
	}
	b.fair = b.findElephants(total)
	for w := range b.target {
		b.target[w] = max(b.target[w], b.fair)
	}
	b.perPacket = total / packets
	return true
}

// slack returns by how much a worker may exceed a target.
func (b *Balancer) slack(target float64) float64 {
	return max(b.opts.Slack*target, noiseDeviations*math.Sqrt(target*b.perPacket))
}

// mostOverloaded returns the worker that is furthest above its target, -1 when
// none is by more than the slack.
func (b *Balancer) mostOverloaded() (worker int) {
	worker, most := -1, 0.0
	for w, load := range b.loads {
		if over := load - b.target[w]; over > most && over > b.slack(b.target[w]) {
			worker, most = w, over
		}
	}
	return worker
}

// relieve moves buckets of a worker to the least loaded, the large ones first so
// that there are few, each only where it leaves no new overload. If the worker
// has nothing small enough, buckets move that leave the receiver overloaded, but
// less than this worker was.
func (b *Balancer) relieve(from int) {
	b.collect(from)
	tolerance := b.slack(b.target[from]) / 2
	goal := b.target[from] + tolerance
	room := b.fair + b.slack(b.fair)/2 // for what a receiver bears then
	b.tooLarge = b.tooLarge[:0]
	for _, c := range b.candidates {
		if b.loads[from] <= goal || len(b.moves) == b.opts.MaxMoves {
			return
		}
		to := b.leastLoaded(from)
		// Both bounds only fall, so what did not fit once never will.
		if c.load <= b.loads[from]-b.target[from]+tolerance && b.loads[to]+c.load <= room {
			b.move(c, from, to)
		} else {
			b.tooLarge = append(b.tooLarge, c)
		}
	}
	for _, c := range slices.Backward(b.tooLarge) {
		if b.loads[from] <= goal || len(b.moves) == b.opts.MaxMoves {
			return
		}
		// An elephant leaves only another elephant's worker: else it would
		// take the overload along.
		to, most := b.leastLoaded(from), b.fair+b.slack(b.fair)
		isElephant := c.load > most
		if b.loads[to]+c.load < b.loads[from]-tolerance && (!isElephant || b.loads[from]-c.load > most) {
			b.move(c, from, to)
			if isElephant {
				b.target[to] = max(b.target[to], c.load)
			}
		}
	}
}

// collect finds what may leave a worker: the largest first, of equal ones that
// with the fewest flows, which is the cheapest to move.
func (b *Balancer) collect(from int) {
	s := &b.snap
	b.candidates = b.candidates[:0]
	for i := range s.Buckets {
		if k := &s.Buckets[i]; k.Owner == from && k.Packets > 0 && !b.rests(k) {
			tie := uint64(k.Flows)<<32 | uint64(k.Chain)<<16 | uint64(k.Bucket)
			b.candidates = append(b.candidates, candidate{s.load(k), tie, i})
		}
	}
	slices.SortFunc(b.candidates, func(x, y candidate) int {
		switch {
		case x.load > y.load:
			return -1
		case x.load < y.load:
			return 1
		}
		return cmp.Compare(x.tie, y.tie)
	})
}

// leastLoaded returns the worker with the least load but one.
func (b *Balancer) leastLoaded(but int) (worker int) {
	worker = -1
	for w, load := range b.loads {
		if w != but && (worker < 0 || load < b.loads[worker]) {
			worker = w
		}
	}
	return worker
}

func (b *Balancer) move(c candidate, from, to int) {
	k := &b.snap.Buckets[c.index]
	b.loads[from] -= c.load
	b.loads[to] += c.load
	b.moves = append(b.moves, Move{Chain: k.Chain, Bucket: k.Bucket, From: from, To: to, Packets: k.Packets, Flows: k.Flows})
	i := place(k)
	if i >= len(b.moved) {
		b.moved = append(b.moved, make([]uint32, i+1-len(b.moved))...)
	}
	b.moved[i] = b.interval
}

// rests reports whether a bucket was moved lately.
func (b *Balancer) rests(k *Bucket) bool {
	i := place(k)
	return i < len(b.moved) && b.moved[i] > 0 && int(b.interval-b.moved[i]) <= b.opts.Rest
}

// place is a bucket's index in Balancer.moved.
func place(k *Bucket) int { return int(k.Chain)*steer.Buckets + int(k.Bucket)%steer.Buckets }
