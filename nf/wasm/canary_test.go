package wasm

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
)

// Buckets of flows that meet a canary of some percent first and last.
const (
	firstBucket = 0
	lastBucket  = steer.Buckets - 1
)

// sendIn is send with the buckets of the flows.
func (b *bed) sendIn(buckets []uint16, slots []uint32, marks ...uint32) []seen {
	copy(b.f.burst.Bucket[:], buckets)
	defer clear(b.f.burst.Bucket[:])
	return b.send(slots, marks...)
}

// canary puts a version on trial.
func (b *bed) canary(v guest, percent int) *Replacement {
	b.tb.Helper()
	r := b.prepare(v, ReplaceOptions{Canary: true, Probation: -1})
	if err := r.Canary(percent); err != nil {
		b.tb.Fatal(err)
	}
	return r
}

// A burst fares the same whether one version sees all of it or two of the same
// code share it, whatever they do with the packets, and the records of both tell
// so.
func TestCanarySharesBursts(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	s := newSettler(t)
	var list []*Replacement
	for _, h := range []int{0, 2} {
		spec := s.group.hops[h].cur.Load().spec
		r, err := s.group.Prepare(h, spec, ReplaceOptions{Canary: true})
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	trace := everything()
	for i := range 1000 {
		if i == 100 {
			s.group.SetHopTrace(trace)
		}
		if i%50 == 0 {
			for _, r := range list {
				if err := r.Canary(1 + rng.IntN(99)); err != nil {
					t.Fatal(err)
				}
			}
		}
		for k := range s.burst.Bucket {
			s.burst.Bucket[k] = uint16(rng.IntN(steer.Buckets))
		}
		n := 1 + rng.IntN(packet.BurstSize)
		s.fill(n, 200)
		region, descs := s.mem.Frames.Bytes(), s.mem.Descs()
		for k := range n {
			frame := s.burst.Frames[k].Bytes(region)
			clear(frame)
			for hop := range scriptHops {
				p := frame[scriptBytes*hop:][:scriptBytes]
				p[0] = byte(packet.Next)
				if rng.IntN(6) == 0 {
					p[0], p[1] = byte(rng.IntN(6)), byte(rng.IntN(16))
					binary.LittleEndian.PutUint16(p[2:], uint16(rng.IntN(4)))
					binary.LittleEndian.PutUint16(p[4:], uint16(rng.IntN(2100)))
					binary.LittleEndian.PutUint16(p[6:], uint16(rng.IntN(2100)))
					binary.LittleEndian.PutUint16(p[8:], uint16(rng.IntN(3)))
				}
			}
		}
		saved, a, b := *descs, s.burst, s.burst
		s.group.Process(&a)
		*descs = saved
		s.forwarder.Process(&b)
		for k := range n {
			o, want := a.Out[k], b.Out[k]
			if o.Trial != 0 && (o.Hop != 0 && o.Hop != 2 || a.Bucket[k] >= uint16(list[o.Hop/2].percent.Load()*steer.Buckets/100)) {
				t.Fatalf("packet %d of bucket %d: %+v by the version on trial", k, a.Bucket[k], o)
			}
			o.Trial = 0
			if o != want || o.Verdict != packet.Drop && a.Frames[k] != b.Frames[k] {
				t.Fatalf("packet %d of %d: %+v %+v, want %+v %+v", k, n, o, a.Frames[k], want, b.Frames[k])
			}
			if i >= 100 && trace.Lost == 0 {
				checkStory(t, trace, k, &s.burst, &a)
			}
		}
	}
	stats := s.group.Stats()
	if y := stats[0].Canary; y == nil || y.Packets == 0 || y.Packets >= stats[0].Packets || stats[1].Canary != nil {
		t.Errorf("stats %+v and %+v", stats[0].Canary, stats[1].Canary)
	}
	if n := testing.AllocsPerRun(100, func() {
		s.burst.N = packet.BurstSize
		s.group.Process(&s.burst)
		s.group.Tick(0)
	}); n != 0 {
		t.Errorf("%v allocations per burst and tick", n)
	}
}

// Which version a flow meets, and what of it is known, before the trial, in it,
// and after each of its ends.
func TestCanaryState(t *testing.T) {
	buckets, slots := []uint16{firstBucket, 300, lastBucket}, []uint32{5, 6, 7}
	for _, tt := range []struct {
		name     string
		to       guest
		reset    bool
		on       uint64 // count of slot 5 when it first meets the version on trial; others go on from 3
		promoted [3]uint64
		back     [3]uint64
	}{
		{"shared layout", v2, false, 4, [3]uint64{7, 7, 7}, [3]uint64{7, 7, 7}},
		{"handed over", v3, false, 4, [3]uint64{7, 7, 7}, [3]uint64{4, 7, 7}},
		{"reset", v3, true, 1, [3]uint64{4, 1, 1}, [3]uint64{4, 7, 7}},
	} {
		for _, end := range []string{"promoted", "back", "fault"} {
			t.Run(tt.name+"/"+end, func(t *testing.T) {
				b := newBed(t, v1, 1, GroupOptions{})
				for range 3 {
					b.sendIn(buckets, slots)
				}
				r := b.prepare(tt.to, ReplaceOptions{Canary: true, ResetState: tt.reset, Probation: -1})
				if err := r.Canary(10); err != nil {
					t.Fatal(err)
				}
				for i := range uint64(3) {
					got := b.sendIn(buckets, slots)
					want := []seen{{tt.on + i, tt.to.number, 1}, {4 + i, 1, 1}, {4 + i, 1, 1}}
					if !slices.Equal(got, want) {
						t.Fatalf("on trial: %v, want %v", got, want)
					}
				}
				want, version := tt.back, 1
				switch end {
				case "promoted":
					want, version = tt.promoted, tt.to.number
					if err := r.Install(); err != nil {
						t.Fatal(err)
					}
				case "back":
					if err := r.RollBack("not wanted"); err != nil {
						t.Fatal(err)
					}
				case "fault":
					got := b.sendIn(buckets, slots, markTrap, 0)
					if got[1].version != 1 || got[2].version != 1 {
						t.Errorf("a fault of the version on trial: %v", got)
					}
					if name := b.f.group.ReasonName(b.f.burst.Out[0]); name != "f0.fault" || b.f.burst.Out[1].Verdict != packet.Tx {
						t.Errorf("%s, %+v", name, b.f.burst.Out[1])
					}
					want[1]++ // they went on
					want[2]++
				}
				for k, got := range b.sendIn(buckets, slots) {
					if got.version != version || got.count != want[k] {
						t.Errorf("slot %d: version %d counted %d, want %d and %d", slots[k], got.version, got.count, version, want[k])
					}
				}
				for i := 0; end == "promoted" && r.Status().Phase != Accepted; i++ {
					if b.f.group.Tick(0); i > 1000 {
						t.Fatal("it is never accepted")
					}
					time.Sleep(time.Millisecond)
				}
				b.settle()
				if events := b.rec.of(EventAlarm); end != "promoted" && (len(events) != 1 || !strings.Contains(events[0], "went back to 1.1.0")) {
					t.Errorf("alarms %q", events)
				}
				if events := b.rec.of(EventReplaced); end == "promoted" && !slices.Contains(events, r.Status().To+" accepted") {
					t.Errorf("events %q", events)
				}
			})
		}
	}
}

// Flows that end, or go to another worker, are those of the version that they
// met; its drops have its reasons; and Stats tells the two apart.
func TestCanaryFlows(t *testing.T) {
	buckets, slots := []uint16{firstBucket, lastBucket}, []uint32{5, 6}
	b := newBed(t, v1, 1, GroupOptions{})
	b.sendIn(buckets, slots)
	other := v3
	other.reason = "tried"
	r := b.canary(other, 50)
	const told = "1.3.0 on trial beside 1.1.0, flow state migrated, 50% of the flows"
	for i := 0; !slices.Contains(b.rec.of(EventReplaced), told); i++ {
		if time.Sleep(10 * time.Millisecond); i > 200 { // the janitor comes every 100 ms
			t.Fatalf("events %q", b.rec.of(EventReplaced))
		}
	}
	b.sendIn(buckets, slots)
	ended := func(v *version) uint64 {
		v.hop.mu.Lock()
		defer v.hop.mu.Unlock()
		return v.counterValues()[1]
	}
	b.f.group.FlowEnd([]uint32{6})
	if ended(r.to) != 0 || ended(r.from) != 1 {
		t.Errorf("slot 6 ended: %d in the version on trial, %d in the other", ended(r.to), ended(r.from))
	}
	b.sendIn(buckets, slots)
	record := b.take(5)
	if got := b.sendIn(buckets[:1], slots[:1]); got[0].count != 1 {
		t.Errorf("a flow was taken and counts %d", got[0].count)
	}
	b.f.group.FlowEnd([]uint32{5})
	if ended(r.to) != 1 || ended(r.from) != 1 {
		t.Errorf("slot 5 ended: %d in the version on trial, %d in the other", ended(r.to), ended(r.from))
	}
	b.f.group.GiveFlow(8, record)
	if got := b.sendIn(buckets[:1], []uint32{8}); got[0] != (seen{4, 3, 1}) {
		t.Errorf("a flow came back: %v", got[0])
	}
	// To a worker that knows nothing of the trial goes what was known before.
	dst := newBed(t, v1, 1, GroupOptions{})
	dst.f.group.GiveFlow(9, b.take(8))
	if got := dst.send([]uint32{9}); got[0] != (seen{2, 1, 1}) {
		t.Errorf("a flow went elsewhere: %v", got[0])
	}
	b.sendIn(buckets, slots, markDrop)
	names := []string{b.f.group.ReasonName(b.f.burst.Out[0]), b.f.group.ReasonName(b.f.burst.Out[1])}
	if !slices.Equal(names, []string{"f0.tried", "f0.dropped"}) {
		t.Errorf("dropped: %q", names)
	}
	s := b.f.group.Stats()[0]
	if s.Canary == nil || s.Canary.Version != "1.3.0" || s.Canary.Percent != 50 || s.Canary.Verdicts[packet.Drop] != 1 || s.Canary.Latency.Count() != s.Canary.Bursts ||
		s.Version != "1.1.0" || s.Drops["tried"] != 1 || s.Drops["dropped"] != 1 {
		t.Errorf("stats %+v, canary %+v", s, s.Canary)
	}
}

// A slot that ended in one version may be given to a flow of the other: nothing
// of it is lost when the version on trial is promoted, or meets more flows.
func TestCanaryReusedSlot(t *testing.T) {
	for _, grow := range []bool{false, true} {
		b := newBed(t, v1, 1, GroupOptions{})
		r := b.canary(v3, 10)
		b.sendIn([]uint16{firstBucket}, []uint32{5})
		b.f.group.FlowEnd([]uint32{5})
		for range 3 {
			b.sendIn([]uint16{400}, []uint32{5}) // the version in service
		}
		if grow {
			if err := r.Canary(60); err != nil {
				t.Fatal(err)
			}
		} else if err := r.Install(); err != nil {
			t.Fatal(err)
		}
		if got := b.sendIn([]uint16{400}, []uint32{5}); got[0] != (seen{4, 3, 1}) {
			t.Errorf("more flows %v: %v", grow, got[0])
		}
	}
}

// While a version is on trial, the one in service faults and comes back as ever.
func TestCanaryBesideFaults(t *testing.T) {
	b := newBed(t, v1, 1, GroupOptions{})
	r := b.canary(v2, 50)
	buckets, slots := []uint16{firstBucket, lastBucket}, []uint32{5, 6}
	got := b.sendIn(buckets, slots, 0, markTrap)
	if got[0].version != 2 || b.f.burst.Out[0].Verdict != packet.Tx || b.f.group.ReasonName(b.f.burst.Out[1]) != "f0.fault" {
		t.Errorf("%v, %+v", got, b.f.burst.Out[:2])
	}
	if got := b.sendIn(buckets, slots); got[0] != (seen{2, 2, 1}) || got[1].version != 1 {
		t.Errorf("after a fault of the version in service: %v", got)
	}
	if r.Status().Phase != OnTrial {
		t.Errorf("the trial is %v", r.Status().Phase)
	}
}

// What cannot be tried says why.
func TestCanaryRefused(t *testing.T) {
	b := newBed(t, v1, 1, GroupOptions{})
	plain, r := b.prepare(v2, ReplaceOptions{}), b.prepare(v2, ReplaceOptions{Canary: true})
	for _, percent := range []int{-1, 0, 100} {
		if r.Canary(percent) == nil {
			t.Errorf("%d percent were tried", percent)
		}
	}
	if err := plain.Canary(10); !errors.Is(err, ErrNotCanary) {
		t.Errorf("not prepared for it: %v", err)
	}
	if err := r.Canary(10); err != nil {
		t.Fatal(err)
	}
	if err := plain.Install(); !errors.Is(err, ErrOnTrial) {
		t.Errorf("another is installed: %v", err)
	}
	plain.Discard()
	r.Discard()
	if r.Status().Phase != OnTrial {
		t.Error("a version on trial was discarded")
	}
	if err := r.RollBack("enough"); err != nil {
		t.Fatal(err)
	}
	if err := r.Canary(10); !errors.Is(err, ErrNotCanary) {
		t.Errorf("after its end: %v", err)
	}
	b.settle()
	last := b.prepare(v3, ReplaceOptions{Canary: true})
	if err := last.Canary(99); err != nil { // open when the group is closed
		t.Fatal(err)
	}
}
