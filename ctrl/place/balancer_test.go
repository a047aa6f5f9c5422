package place

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sfc/dataplane/steer"
)

// apply gives buckets to their new owners.
func apply(t testing.TB, s *Snapshot, moves []Move) {
	t.Helper()
	for _, m := range moves {
		i := slices.IndexFunc(s.Buckets, func(b Bucket) bool { return b.Chain == m.Chain && b.Bucket == m.Bucket })
		if i < 0 || s.Buckets[i].Owner != m.From || m.To == m.From || m.To < 0 || m.To >= s.Workers {
			t.Fatalf("move %+v of %d workers makes no sense", m, s.Workers)
		}
		s.Buckets[i].Owner = m.To
	}
}

// workerLoads adds up the load of every worker.
func workerLoads(s *Snapshot) []float64 {
	loads := make([]float64, s.Workers)
	for i := range s.Buckets {
		loads[s.Buckets[i].Owner] += s.load(&s.Buckets[i])
	}
	return loads
}

// settle rebalances a load that stays the same until nothing has moved for
// longer than buckets rest. It returns the number of moves.
func settle(t testing.TB, b *Balancer, s *Snapshot) (moves, intervals int) {
	t.Helper()
	for quiet := 0; quiet <= b.opts.Rest+1; intervals++ {
		if intervals > 2000 {
			t.Fatalf("still moving after %d intervals and %d moves", intervals, moves)
		}
		m := b.Rebalance(*s)
		apply(t, s, m)
		moves += len(m)
		quiet++
		if len(m) > 0 {
			quiet = 0
		}
	}
	return moves, intervals
}

// zipf deals packets over the buckets of chains as flows with popularity
// 1/rank^exponent do, to buckets dealt out to workers in turn.
func zipf(workers, chains, packets int, exponent float64, seed uint64) Snapshot {
	rng := rand.New(rand.NewPCG(seed, 1))
	s := Snapshot{Workers: workers}
	for c := range chains {
		for k := range steer.Buckets {
			s.Buckets = append(s.Buckets, Bucket{Chain: uint16(c), Bucket: uint16(k), Owner: k % workers})
		}
	}
	var sum float64
	flows := 20 * len(s.Buckets)
	for r := range flows {
		sum += math.Pow(float64(r+1), -exponent)
	}
	for r := range flows {
		b := &s.Buckets[rng.IntN(len(s.Buckets))]
		b.Packets += uint64(float64(packets) * math.Pow(float64(r+1), -exponent) / sum)
		b.Flows++
	}
	return s
}

// Skewed loads are balanced to the slack, or to the elephant where there is one,
// with few of the buckets moved, and then nothing moves any more.
func TestZipfConverges(t *testing.T) {
	for _, workers := range []int{2, 3, 4, 8, 16} {
		for _, exponent := range []float64{0, 0.8, 1, 1.2} {
			t.Run(fmt.Sprintf("%d workers, exponent %v", workers, exponent), func(t *testing.T) {
				s := zipf(workers, 1, 1_000_000, exponent, 7)
				b := New(Options{})
				moves, intervals := settle(t, b, &s)
				loads := workerLoads(&s)
				for w, load := range loads {
					most := b.fair
					for _, e := range b.Elephants() {
						if e.Owner == w {
							most = max(most, e.Load)
						}
					}
					if load > most+b.slack(most) {
						t.Errorf("worker %d has %.0f, want at most %.0f + %.0f; elephants %+v", w, load, most, b.slack(most), b.Elephants())
					}
				}
				if moves > steer.Buckets/4 {
					t.Errorf("%d moves", moves)
				}
				t.Logf("%d moves in %d intervals, fair %.0f, worst %.0f, %d elephants", moves, intervals, b.fair, slices.Max(loads), len(b.Elephants()))
			})
		}
	}
}

// load lists the buckets of worker 0, then those of worker 1 and so on.
func load(owners ...[]uint64) Snapshot {
	s := Snapshot{Workers: len(owners)}
	for w, packets := range owners {
		for _, p := range packets {
			s.Buckets = append(s.Buckets, Bucket{Bucket: uint16(len(s.Buckets)), Owner: w, Packets: p})
		}
	}
	return s
}

func TestMoves(t *testing.T) {
	const k = 10_000
	type moves = [][3]int // bucket, from, to
	tests := []struct {
		name      string
		s         Snapshot
		opts      Options
		want      moves
		elephants []int
	}{
		{name: "nothing", s: load(nil, nil)},
		{name: "no packets", s: load([]uint64{0, 0}, []uint64{0})},
		{name: "one worker", s: load([]uint64{k, k})},
		{name: "balanced", s: load([]uint64{k, k}, []uint64{k, k})},
		{name: "within the slack", s: load([]uint64{k, k, k / 5}, []uint64{k, k})},
		{name: "more slack wanted", s: load([]uint64{3 * k, k, k}, []uint64{3 * k}), opts: Options{Slack: 0.3}},
		{name: "one large bucket rather than many small", s: load([]uint64{k, k, 2 * k, 4 * k}, []uint64{4 * k}), want: moves{{2, 0, 1}}},
		{name: "to the least loaded", s: load([]uint64{k, k, k, k, k}, []uint64{3 * k}, []uint64{k}), want: moves{{0, 0, 2}, {1, 0, 2}}},
		{name: "no more than allowed", s: load([]uint64{k, k, k, k, k}, []uint64{3 * k}, []uint64{k}), opts: Options{MaxMoves: 1}, want: moves{{0, 0, 2}}},
		{name: "coarse, but better than before", s: load([]uint64{70 * k, 65 * k}, []uint64{45 * k}), want: moves{{1, 0, 1}}},
		{name: "coarse, and no better", s: load([]uint64{50 * k, 50 * k}, []uint64{50 * k})},
		{name: "chance is no overload", s: load([]uint64{5, 6, 4}, []uint64{5})},
		{name: "an elephant alone is left alone", s: load([]uint64{100 * k}, []uint64{10 * k}), elephants: []int{0}},
		{name: "an elephant is rid of the others", s: load([]uint64{100 * k, 20 * k}, []uint64{10 * k}), want: moves{{1, 0, 1}}, elephants: []int{0}},
		{name: "what is little beside an elephant stays", s: load([]uint64{100 * k, 5 * k}, []uint64{10 * k}), elephants: []int{0}},
		{name: "two elephants part", s: load([]uint64{100 * k, 90 * k}, []uint64{10 * k}, []uint64{12 * k}), want: moves{{1, 0, 1}, {2, 1, 2}}, elephants: []int{0, 1}},
		{name: "a middling bucket is an elephant once the largest counts for itself", s: load([]uint64{60 * k}, []uint64{20 * k}, []uint64{10 * k}, []uint64{10 * k}), elephants: []int{0, 1}},
		{name: "workers without an elephant are balanced among themselves", s: load([]uint64{100 * k}, []uint64{4 * k, 4 * k, 4 * k, 4 * k}, nil), want: moves{{1, 1, 2}, {2, 1, 2}}, elephants: []int{0}},
		{name: "an owner that is no worker", s: Snapshot{Workers: 2, Buckets: []Bucket{{Bucket: 1, Owner: 5, Packets: k}, {Bucket: 2, Owner: -1, Packets: k}}}},
		{name: "packets that cost more", s: Snapshot{Workers: 2, Cost: []uint64{0, 500}, Buckets: []Bucket{
			{Chain: 0, Owner: 0, Packets: 1000 * k}, {Chain: 1, Bucket: 1, Owner: 1, Packets: 2 * k}, {Chain: 1, Bucket: 2, Owner: 1, Packets: 4 * k}}},
			want: moves{{1, 1, 0}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := New(tt.opts)
			var got moves
			for _, m := range b.Rebalance(tt.s) {
				got = append(got, [3]int{int(m.Bucket), m.From, m.To})
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("moves (-want +got):\n%s", d)
			}
			var elephants []int
			for _, e := range b.Elephants() {
				elephants = append(elephants, int(e.Bucket))
			}
			if d := cmp.Diff(tt.elephants, elephants); d != "" {
				t.Errorf("elephants (-want +got):\n%s", d)
			}
		})
	}
}

// Of two buckets of one load the one with fewer flows moves: it holds fewer up.
func TestFewFlowsMove(t *testing.T) {
	s := load([]uint64{10_000, 10_000, 10_000}, []uint64{10_000})
	s.Buckets[0].Flows, s.Buckets[1].Flows, s.Buckets[2].Flows = 900, 20, 300
	got := New(Options{}).Rebalance(s)
	want := []Move{{Bucket: 1, From: 0, To: 1, Packets: 10_000, Flows: 20}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("moves (-want +got):\n%s", d)
	}
}

// A bucket that moved stays for as many intervals as asked, whatever its load
// does, and may move again then.
func TestRest(t *testing.T) {
	for _, rest := range []int{-1, 3} {
		b := New(Options{Rest: rest})
		s := load([]uint64{10_000, 10_000}, nil)
		apply(t, &s, b.Rebalance(s))
		if s.Buckets[0].Owner != 1 {
			t.Fatalf("nothing moved: %+v", s)
		}
		// What stayed falls idle, a new load shares the moved one's worker.
		s.Buckets[1].Packets = 0
		s.Buckets = append(s.Buckets, Bucket{Bucket: 3, Owner: 1, Packets: 12_000}, Bucket{Bucket: 4, Owner: 0, Packets: 10})
		for i := range max(rest, 0) {
			for _, m := range b.Rebalance(s) {
				if m.Bucket == 0 {
					t.Fatalf("rest %d: moved again after %d intervals", rest, i+1)
				}
			}
		}
		var again bool
		for _, m := range b.Rebalance(s) {
			again = again || m.Bucket == 0
		}
		if !again {
			t.Errorf("rest %d: never moves again", rest)
		}
	}
}

// The order of the snapshot changes nothing, and what one balancer did another
// would do.
func TestDeterministic(t *testing.T) {
	s := zipf(8, 2, 100_000, 1, 3)
	want := slices.Clone(New(Options{}).Rebalance(s))
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		rng.Shuffle(len(s.Buckets), func(i, k int) { s.Buckets[i], s.Buckets[k] = s.Buckets[k], s.Buckets[i] })
		if d := cmp.Diff(want, New(Options{}).Rebalance(s)); d != "" {
			t.Fatalf("moves (-want +got):\n%s", d)
		}
	}
	if len(want) == 0 {
		t.Error("nothing moved")
	}
}

// Whatever the loads, and however they change: moves are bounded, none worsens
// the maximum, none is of a bucket that rests; and once the load stays the same
// all comes to rest.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		opts := Options{
			Slack:    rapid.SampledFrom([]float64{0, 0.01, 0.3, 1}).Draw(t, "slack"),
			MaxMoves: rapid.IntRange(0, 8).Draw(t, "most moves"),
			Rest:     rapid.IntRange(-1, 5).Draw(t, "rest"),
		}
		b := New(opts)
		s := Snapshot{Workers: rapid.IntRange(1, 9).Draw(t, "workers"), Cost: rapid.SliceOfN(rapid.Uint64Range(0, 500), 0, 2).Draw(t, "cost")}
		buckets := rapid.IntRange(0, 40).Draw(t, "buckets")
		for i := range buckets {
			s.Buckets = append(s.Buckets, Bucket{Chain: uint16(i % 3), Bucket: uint16(i / 3), Owner: rapid.IntRange(0, s.Workers-1).Draw(t, "owner")})
		}
		last := map[[2]uint16]int{}
		for interval := range rapid.IntRange(1, 6).Draw(t, "intervals") {
			for i := range s.Buckets {
				s.Buckets[i].Packets = rapid.OneOf(rapid.Uint64Range(0, 20), rapid.Uint64Range(0, 5000), rapid.Uint64Range(0, 1_000_000)).Draw(t, "packets")
			}
			moves := b.Rebalance(s)
			if len(moves) > b.opts.MaxMoves {
				t.Fatalf("%d moves, at most %d are allowed", len(moves), b.opts.MaxMoves)
			}
			worst := maximum(&s)
			for _, m := range moves {
				key := [2]uint16{m.Chain, m.Bucket}
				if at, ok := last[key]; ok && interval-at <= max(opts.Rest, 0) {
					t.Fatalf("bucket %v moved in intervals %d and %d", key, at, interval)
				}
				last[key] = interval
				apply2(t, &s, m)
				if now := maximum(&s); now > worst {
					t.Fatalf("move %+v raises the maximum from %.0f to %.0f", m, worst, now)
				}
			}
		}
		idle := 0
		for n := 0; idle <= max(b.opts.Rest, 0)+1; n++ {
			if n > 3000 {
				t.Fatal("never comes to rest")
			}
			moves := b.Rebalance(s)
			for _, m := range moves {
				apply2(t, &s, m)
			}
			if idle++; len(moves) > 0 {
				idle = 0
			}
		}
	})
}

func maximum(s *Snapshot) float64 { return slices.Max(workerLoads(s)) }

// apply2 is apply for one move and rapid's T.
func apply2(t *rapid.T, s *Snapshot, m Move) {
	i := slices.IndexFunc(s.Buckets, func(b Bucket) bool { return b.Chain == m.Chain && b.Bucket == m.Bucket })
	if i < 0 || s.Buckets[i].Owner != m.From || m.From == m.To {
		t.Fatalf("move %+v makes no sense", m)
	}
	s.Buckets[i].Owner = m.To
}

// Loads that only chance makes uneven move next to nothing: 200 intervals of
// random arrivals at equal rates.
func TestChanceMovesLittle(t *testing.T) {
	for _, rate := range []int{1, 5, 50} { // packets per bucket and interval
		rng := rand.New(rand.NewPCG(5, uint64(rate)))
		b := New(Options{})
		s := Snapshot{Workers: 4}
		for k := range steer.Buckets {
			s.Buckets = append(s.Buckets, Bucket{Bucket: uint16(k), Owner: k % 4})
		}
		moved := 0
		for range 200 {
			for i := range s.Buckets {
				s.Buckets[i].Packets = 0
			}
			for range rate * steer.Buckets {
				s.Buckets[rng.IntN(len(s.Buckets))].Packets++
			}
			m := b.Rebalance(s)
			apply(t, &s, m)
			moved += len(m)
		}
		if moved > 40 {
			t.Errorf("%d packets per bucket: %d moves in 200 intervals", rate, moved)
		}
	}
}

// A snapshot of 16 workers, 8 chains and 1024 buckets each: Zipf, and all
// buckets on one worker, which is the most there can be to sort.
func BenchmarkRebalance(b *testing.B) {
	skewed := zipf(16, 8, 10_000_000, 1, 1)
	lopsided := zipf(16, 8, 10_000_000, 1, 1)
	for i := range lopsided.Buckets {
		lopsided.Buckets[i].Owner = 0
	}
	for name, s := range map[string]Snapshot{"zipf": skewed, "one worker has all": lopsided} {
		b.Run(name, func(b *testing.B) {
			bal := New(Options{Rest: -1})
			b.ReportAllocs()
			for b.Loop() {
				if len(bal.Rebalance(s)) == 0 {
					b.Fatal("nothing moved")
				}
			}
		})
	}
}
