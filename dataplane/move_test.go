package dataplane

import (
	"errors"
	"testing"
	"time"

	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
)

// A function of a tenant who has the ports alone can write whatever it likes in
// front of frames that wait. What names no bucket must not wait for one.
func TestForgedBucketIsNotHeldForEver(t *testing.T) {
	h := newHands(t, playedOptions{workers: 2, flows: 64})
	sources := h.sources(64)
	s := h.ownedBy(sources, 0)
	bucket := s.at[0].Bucket
	done := h.move(bucket, 1)
	h.flipped(bucket, 0, 1)
	for k := range uint16(1<<16/steer.Buckets - 1) {
		s.at[0].Bucket = bucket + (k+1)*steer.Buckets
		h.put(s, 0, 1)
	}
	s.at[0].Bucket = bucket
	if h.turn(1); h.set.workers[1].local.Held == 0 {
		t.Error("nothing was held")
	}
	if m := h.until(done, 0, 1); m.err != nil {
		t.Fatal(m.err)
	}
	h.turn(0, 1)
	if n := len(h.set.workers[1].moves.held); n != 0 {
		t.Errorf("%d packets are still held", n)
	}
	h.finish()
	if n := h.engineDrops(packet.ReasonShutdown); n != 0 {
		t.Errorf("%d packets waited until the end", n)
	}
}

// A link that does not send holds flows up for a bounded time.
func TestMoveWhileLinkIsDown(t *testing.T) {
	h := newHands(t, playedOptions{workers: 2, flows: 64})
	s := h.ownedBy(h.sources(64), 0)
	h.ports[1].stuck = func(int) int { return 0 } // egress of worker 0
	h.send(s, 0, h.rnd)
	h.turn(0)
	start := time.Now()
	m := h.until(h.move(s.at[0].Bucket, 1), 0, 1)
	if m.err != nil || !m.Stuck || m.Flows != 1 {
		t.Errorf("%+v", m)
	}
	if took := time.Since(start); took > 20*txPatience {
		t.Errorf("it took %v", took)
	}
	h.finish()
}

// Flows leave although there are always frames in the TX ring: only those that
// were there first have to go.
func TestMoveWhileTXRingIsNeverEmpty(t *testing.T) {
	h := newHands(t, playedOptions{workers: 2, flows: 256})
	sources := h.sources(256)
	s := h.ownedBy(sources, 0)
	h.ports[1].stuck = func(waiting int) int { return max(waiting-2, 0) }
	var others []*source
	for i := range sources {
		if o := &sources[i]; o.at[0].Bucket != s.at[0].Bucket && h.owners.Owner(0, o.at[0].Bucket) == 0 {
			others = append(others, o)
		}
	}
	h.send(s, 0, h.rnd)
	h.turn(0)
	done := h.move(s.at[0].Bucket, 1)
	for i := 0; ; i++ {
		h.send(others[i%len(others)], 0, h.rnd)
		h.send(others[(i+1)%len(others)], 0, h.rnd)
		h.turn(0, 1)
		select {
		case m := <-done:
			if m.err != nil || m.Stuck || m.Forced || m.Flows != 1 {
				t.Errorf("%+v", m)
			}
			if _, tx := h.ports[1].Waiting(); tx == 0 {
				t.Error("the TX ring was empty")
			}
			h.finish()
			return
		default:
		}
	}
}

// Flows that come to a full table find room: others go, and their functions are
// told before a slot is used again.
func TestMoveIntoFullTable(t *testing.T) {
	const slots = 256
	h := newHands(t, playedOptions{workers: 2, flows: slots, forgetful: true})
	var full []source // of worker 1
	for i, list := 0, h.sources(4*slots); len(full) < slots-64; i++ {
		if h.owners.Owner(0, list[i].at[0].Bucket) == 1 {
			full = append(full, list[i])
		}
	}
	const moving = 180
	leaving := h.sameBucket(moving)
	for i := range leaving {
		leaving[i].id += 4 * slots
		h.send(&leaving[i], 0, h.rnd)
		h.turn(0)
	}
	for i := range full {
		h.send(&full[i], 0, h.rnd)
		h.turn(1)
	}
	ended := 0
	h.runner(1, 0).end = func(list []uint32) {
		ended += len(list)
		for _, slot := range list {
			if h.runner(1, 0).state[slot] == 0 {
				t.Errorf("slot %d ends with nothing in it", slot)
			}
		}
	}
	m := h.until(h.move(0, 1), 0, 1)
	if m.err != nil || m.Flows != moving || m.Refused != 0 {
		t.Errorf("%+v", m)
	}
	if want := moving; ended < want-64 {
		t.Errorf("%d flows were told that they end, want about %d", ended, want)
	}
	for i := range leaving { // they are where they should be
		h.send(&leaving[i], 1, h.rnd)
		h.turn(1)
	}
	h.finish()
}

// A worker that stops by itself leaves nobody waiting.
func TestMoveWithWorkerThatStops(t *testing.T) {
	for name, who := range map[string]int{"the old owner": 0, "the new owner": 1} {
		t.Run(name, func(t *testing.T) {
			h := newHands(t, playedOptions{workers: 3, flows: 4096, forgetful: true})
			h.stopping.Store(true)
			list := h.sameBucket(parcelFlows + 100) // more than a parcel
			for i := range list {
				h.send(&list[i], 0, h.rnd)
				h.turn(0)
			}
			h.owners.Take(0, 0) // lost: the move has to wait
			done := h.move(0, 1)
			h.flipped(0, 0, 1)
			h.turn(0)
			h.end(who)
			m := h.until(done, without(who)...)
			if !errors.Is(m.err, ErrStopped) {
				t.Errorf("%+v", m)
			}
			// Whoever is named as the owner, the others are asked in vain.
			if m := h.until(h.move(uint16(3+who), 2), without(who)...); !errors.Is(m.err, ErrStopped) {
				t.Errorf("from a worker that has stopped: %+v", m)
			}
			if m := h.until(h.move(2, who), without(who)...); !errors.Is(m.err, ErrStopped) {
				t.Errorf("to a worker that has stopped: %+v", m)
			}
			h.finish()
		})
	}
}

// without are the workers but one.
func without(who int) (list []int) {
	for i := range 3 {
		if i != who {
			list = append(list, i)
		}
	}
	return list
}

// A packet that comes between two parcels is too late: the new owner holds it
// until it has them all.
func TestLatePacketBetweenParcels(t *testing.T) {
	h := newHands(t, playedOptions{workers: 2, flows: 8192})
	const flows = 2*parcelFlows + 100
	list := h.sameBucket(flows)
	for i := range list {
		h.send(&list[i], 0, h.rnd)
		h.turn(0)
	}
	done := h.move(0, 1)
	for h.table(0, 0).Live() == flows { // until the first parcel is packed
		h.turn(1, 0)
	}
	for i := range list {
		if i%7 == 0 {
			h.put(&list[i], 0, 0)
		}
	}
	for range 100 {
		h.turn(0)
	}
	m := h.until(done, 0, 1)
	if m.err != nil || m.Flows != flows || m.Refused != 0 {
		t.Errorf("%+v", m)
	}
	h.finish()
	if n := h.table(1, 0).Live(); n != flows {
		t.Errorf("%d flows, want %d", n, flows)
	}
}

// Functions that take long to be told of ended flows, or to take flows over, do
// not stop the worker for long.
func TestSlowFlowEndsAreSpread(t *testing.T) {
	h := newHands(t, playedOptions{workers: 1, flows: 8192, forgetful: true,
		tables: func(o *flow.Options) { o.Timeouts.UDPOneWay = 300 * time.Millisecond; o.Sweep = time.Millisecond }})
	list := h.sources(4096)
	for i := range list {
		h.send(&list[i], 0, h.rnd)
		h.turn(0)
	}
	ended, calls := 0, 0
	h.runner(0, 0).end = func(slots []uint32) {
		ended += len(slots)
		calls++
		time.Sleep(time.Millisecond)
	}
	time.Sleep(310 * time.Millisecond)
	w := h.set.workers[0]
	for turns := 0; h.table(0, 0).Live()+h.table(0, 0).Pending() > 0; turns++ {
		for _, step := range []func(){func() { w.chains[0].nextTick = 0; w.quietTick() }, func() { w.turn() }} {
			before := calls
			if step(); calls-before > 2 {
				t.Fatalf("%d calls of a millisecond at once", calls-before)
			}
		}
		if turns > 10000 {
			t.Fatalf("%d of %d flows were told that they end", ended, len(list))
		}
	}
	if ended != len(list) {
		t.Errorf("%d flows ended, want %d", ended, len(list))
	}
	h.finish()
}

// What the old owner sent is on the wire before the new one sends anything.
func TestMoveWaitsForTXRing(t *testing.T) {
	h := newHands(t, playedOptions{workers: 2, flows: 64})
	s := h.ownedBy(h.sources(64), 0)
	bucket := s.at[0].Bucket
	open := false
	h.ports[1].stuck = func(waiting int) int { // egress of worker 0
		if !open {
			return 0
		}
		return waiting
	}
	h.ports[3].stuck = func(waiting int) int { return waiting }
	h.send(s, 0, h.rnd)
	h.turn(0)
	done := h.move(bucket, 1)
	h.flipped(bucket, 0, 1)
	h.send(s, 0, h.rnd)
	for range 20 {
		h.turn(0, 1)
		h.patient(0)
	}
	open = true
	if m := h.until(done, 0, 1); m.err != nil || m.Stuck {
		t.Errorf("%+v", m)
	}
	h.finish()
}
