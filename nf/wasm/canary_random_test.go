package wasm

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
)

// trialFlow is a flow as the model sees it.
type trialFlow struct {
	worker int
	slot   uint32
	bucket uint16
	count  uint64
	met    bool   // it has met the version on trial
	before uint64 // count when it did
}

// trials is two workers of a chain on which versions are tried, and a slow model
// of what they know of each flow.
type trials struct {
	t       *testing.T
	rng     *rand.Rand
	beds    [2]*bed
	flows   map[*trialFlow]bool
	free    [2][]uint32
	runs    guest
	tried   guest
	percent int // 0: no trial
	list    [2]*Replacement
}

const trialSlots = 16

// Flows come, go, move and end while versions of the same and of other layouts
// are tried, promoted and taken back: of each flow is known what its packets were,
// but for those that met a version of another layout that was taken back.
func TestCanaryRandom(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("TEST_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("TEST_SEED=%d", seed)
	w := &trials{t: t, rng: rand.New(rand.NewPCG(seed, 4)), flows: map[*trialFlow]bool{}, runs: v1}
	for i := range w.beds {
		w.beds[i] = newBed(t, v1, 1, GroupOptions{Flows: trialSlots})
		for s := range uint32(trialSlots) {
			w.free[i] = append(w.free[i], s)
		}
	}
	for range 1500 {
		switch w.rng.IntN(12) {
		case 0, 1, 2:
			w.create()
		case 3:
			w.end()
		case 4:
			w.move()
		case 5:
			w.trial()
		case 6:
			if w.rng.IntN(3) == 0 {
				w.settle()
			}
		default:
			w.send()
		}
		if t.Failed() {
			return
		}
	}
}

func (w *trials) slot(worker int) (s uint32, ok bool) {
	f := w.free[worker]
	if len(f) == 0 {
		return 0, false
	}
	i := w.rng.IntN(len(f))
	s = f[i]
	w.free[worker] = append(f[:i], f[i+1:]...)
	return s, true
}

func (w *trials) any() *trialFlow {
	for f := range w.flows { // the map's own order is random enough, and no part of the model
		return f
	}
	return nil
}

func (w *trials) create() {
	worker := w.rng.IntN(2)
	if s, ok := w.slot(worker); ok {
		w.flows[&trialFlow{worker: worker, slot: s, bucket: uint16(w.rng.IntN(steer.Buckets))}] = true
	}
}

func (w *trials) end() {
	if f := w.any(); f != nil {
		w.beds[f.worker].f.group.FlowEnd([]uint32{f.slot})
		w.free[f.worker] = append(w.free[f.worker], f.slot)
		delete(w.flows, f)
	}
}

func (w *trials) move() {
	f := w.any()
	if f == nil {
		return
	}
	to := 1 - f.worker
	s, ok := w.slot(to)
	if !ok {
		return
	}
	w.beds[to].f.group.GiveFlow(s, w.beds[f.worker].take(f.slot))
	w.free[f.worker] = append(w.free[f.worker], f.slot)
	f.worker, f.slot = to, s
}

// trial begins one, or has more flows meet it.
func (w *trials) trial() {
	w.percent = min(99, w.percent+1+w.rng.IntN(40))
	if w.list[0] == nil {
		w.tried = []guest{v1, v2, v3}[w.rng.IntN(3)]
		w.tried.number = 1 + w.runs.number%9
	}
	for i, b := range w.beds {
		if w.list[i] == nil {
			w.list[i] = b.prepare(w.tried, ReplaceOptions{Canary: true, Probation: -1})
		}
		if err := w.list[i].Canary(w.percent); err != nil {
			w.t.Fatal(err)
		}
	}
}

// settle ends a trial, either way.
func (w *trials) settle() {
	if w.list[0] == nil {
		return
	}
	promote := w.rng.IntN(2) == 0
	for i, r := range w.list {
		if !promote {
			if err := r.RollBack("the model wants it"); err != nil {
				w.t.Fatal(err)
			}
		} else if err := r.Install(); err != nil {
			w.t.Fatal(err)
		}
		for turn := 0; promote && r.Status().Phase != Accepted; turn++ {
			if w.beds[i].f.group.Tick(0); turn > 5000 {
				w.t.Fatal("it is never accepted")
			}
			time.Sleep(time.Millisecond)
		}
		w.beds[i].settle()
		w.list[i] = nil
	}
	for f := range w.flows {
		if f.met && !promote && w.tried.format != w.runs.format {
			f.count = f.before
		}
		f.met = false
	}
	if promote {
		w.runs = w.tried
	}
	w.percent = 0
}

func (w *trials) send() {
	worker := w.rng.IntN(2)
	var sent []*trialFlow
	var slots []uint32
	var buckets []uint16
	for f := range w.flows {
		if f.worker == worker && len(sent) < packet.BurstSize && w.rng.IntN(2) == 0 {
			sent, slots, buckets = append(sent, f), append(slots, f.slot), append(buckets, f.bucket)
		}
	}
	for k, got := range w.beds[worker].sendIn(buckets, slots) {
		f, want := sent[k], w.runs
		if int(f.bucket) < w.percent*steer.Buckets/100 {
			if want = w.tried; !f.met {
				f.met, f.before = true, f.count
			}
		}
		f.count++
		if got.version != want.number || got.count != f.count {
			w.t.Errorf("%d%%: worker %d, slot %d, bucket %d: version %d counts %d, want %d and %d (from format %d to %d)",
				w.percent, worker, f.slot, f.bucket, got.version, got.count, want.number, f.count, w.runs.format, w.tried.format)
		}
	}
}
