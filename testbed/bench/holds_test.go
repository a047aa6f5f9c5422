package bench

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"sfc/ctrl/agent"
	"sfc/dataplane/cpu"
	"sfc/dataplane/packet"
	"sfc/testbed/gate"
)

// How long packets wait while flows change hands, and while a function is
// replaced: the stateful chain on two workers, each on a core of its own, under
// paced traffic. A bucket of 1,000 flows goes back and forth; firewall is
// replaced by the same module, compiled anew each time on the cores of the
// workers, since there are no others. Everything must arrive, and in order.
//
// `make bench-holds` runs it: SFC_HOLDS is the number of moves and of swaps.
const (
	heldFlows   = 1_000
	otherFlows  = 20_000
	heldBucket  = 17
	heldPerSec  = 400_000
	moveEvery   = 5 * time.Millisecond
	swapEvery   = 50 * time.Millisecond
	settledTime = 300 * time.Millisecond
)

func TestHolds(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("SFC_HOLDS"))
	if err != nil || n < 1 {
		t.Skip("set SFC_HOLDS to the number of moves and swaps, or run make bench-holds")
	}
	gate.Leaks(t)
	if len(cpu.Allowed()) < 2 {
		t.Skip("needs 2 cores")
	}
	fmt.Printf("\n### %d packets a second, us\n\n| what waits | times | p50 | p99 | max |\n|---|---|---|---|---|\n", heldPerSec)
	held(t, "nothing", func(*rig) { time.Sleep(time.Duration(n) * moveEvery) })
	t.Run("moves", func(t *testing.T) { moves(t, n) })
	t.Run("swaps", func(t *testing.T) { swaps(t, n) })
}

// held runs do under traffic and prints what the packets saw of it.
func held(t *testing.T, what string, do func(r *rig)) {
	t.Helper()
	cores := cpu.Allowed()
	spec := twoWays("bench", 2*(heldFlows+otherFlows), statefulChain(t, "stateful")...)
	r := openRig(t, spec, cores[len(cores)-2:]...)
	defer r.close(t)
	tr := traffic{proto: packet.ProtoUDP, sizes: []int{64}}
	r.open(t, tr, bucketTuples(t, r))
	j := newPaced(t, r, heldBucket, heldPerSec)
	j.begin(t)
	time.Sleep(settledTime)
	do(r)
	j.end(t)
	if lost, reordered := j.lost.Load(), j.reordered.Load(); lost+reordered != 0 {
		t.Errorf("%s: lost %d, reordered %d", what, lost, reordered)
	}
	of := j.delays()
	row(what+": packets of the bucket, from due to sent", of[1])
	row(what+": all others", of[0])
}

// row prints a histogram of ns.
func row(what string, h *hdrhistogram.Histogram) {
	us := func(ns int64) string { return fmt.Sprintf("%.1f", float64(ns)/1000) }
	fmt.Printf("| %s | %d | %s | %s | %s |\n", what, h.TotalCount(), us(h.ValueAtQuantile(50)), us(h.ValueAtQuantile(99)), us(h.Max()))
}

// bucketTuples are flows of which heldFlows are of the bucket.
func bucketTuples(t *testing.T, r *rig) (list []tuple) {
	k := newKind(packet.ProtoUDP, 64, 0, 0, 0)
	buf := make([]byte, packet.MaxFrame)
	rng := rand.New(rand.NewPCG(7, 8))
	have := map[tuple]bool{}
	in, out := 0, 0
	for in < heldFlows || out < otherFlows {
		tu := randomTuple(rng)
		s, _, err := r.aim(portIn, &k, 0, tu, buf)
		if err != nil {
			t.Fatal(err)
		}
		switch of := s.bucket == heldBucket; {
		case have[tu] || of && in == heldFlows || !of && out == otherFlows:
			continue
		case of:
			in++
		default:
			out++
		}
		have[tu] = true
		list = append(list, tu)
	}
	return list
}

func moves(t *testing.T, n int) {
	took := hdrhistogram.New(1, 60_000_000_000, 3)
	forced := 0
	held(t, fmt.Sprintf("%d moves", n), func(r *rig) {
		to := 1 - r.e.Owners().Owner(0, heldBucket)
		for range n {
			m, err := r.e.Move(0, heldBucket, to)
			if err != nil {
				t.Fatal(err)
			}
			if m.Flows != heldFlows || m.Refused != 0 {
				t.Errorf("%+v: want %d flows", m, heldFlows)
			}
			if m.Forced {
				forced++
			}
			_ = took.RecordValue(m.Took.Nanoseconds()) // a minute is out of range, and not worth an error
			to = 1 - to
			time.Sleep(moveEvery)
		}
		h, err := r.e.Holds()
		if err != nil {
			t.Fatal(err)
		}
		row("packets that were held, as the engine says", h)
	})
	row("a move, from the change of owner on", took)
	if forced > 0 {
		t.Errorf("%d of %d moves had to be forced: packets that were sent never came", forced, n)
	}
}

func swaps(t *testing.T, n int) {
	holds := hdrhistogram.New(1, 60_000_000_000, 3)
	module := function(t, "firewall", "").Module
	held(t, fmt.Sprintf("%d swaps", n), func(r *rig) {
		for range n {
			s, err := r.e.Swap(0, 0, agent.SwapOptions{Module: module, Probation: -1})
			if err != nil {
				t.Fatal(err)
			}
			if s.State != "kept" {
				t.Errorf("%+v: want state kept", s)
			}
			for _, d := range s.Holds {
				_ = holds.RecordValue(d.Nanoseconds()) // see above
			}
			time.Sleep(swapEvery)
		}
	})
	row("a swap on one worker", holds)
}
