package dataplane

import (
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sfc/dataplane/packet"
	"sfc/nf/wasm"
)

var (
	trapsRarely  = guest{module: "wasm/testdata/hostile/counts_and_traps.wat"}
	trapsAlways  = guest{module: "wasm/testdata/hostile/traps_every_packet.wat"}
	loopsForever = guest{module: "wasm/testdata/hostile/loops_forever.wat"}
	counts       = guest{module: "wasm/testdata/good/tick_counts.wat"}
)

// TestReadersWhileFunctionsFault reads all counters from several goroutines
// while a worker runs at full speed and its functions fault and are replaced.
// No counter ever falls, and in the end everything adds up.
func TestReadersWhileFunctionsFault(t *testing.T) {
	for _, shared := range []bool{false, true} {
		t.Run(map[bool]string{false: "exclusive", true: "shared"}[shared], func(t *testing.T) {
			open := trapsRarely
			open.open = true
			var faults atomic.Uint64
			b := newWasmBed(t, bedOptions{shared: shared, group: wasm.GroupOptions{Spares: 2, Budget: time.Second, Events: func(e wasm.Event) {
				if e.Kind == wasm.EventFault {
					faults.Add(1)
				}
			}}}, counts, trapsRarely, open, trapsRarely, counts)
			b.in.Left = 1 << 40
			check(t, b.w.Start())
			var readers sync.WaitGroup
			done := make(chan struct{})
			for range 3 {
				readers.Go(func() { readUntil(t, b, done) })
			}
			time.Sleep(400 * time.Millisecond)
			c := b.stop(t)
			close(done)
			readers.Wait()
			stats := b.group.Stats()
			var traps, dropped uint64
			for i, s := range stats {
				traps += s.Traps
				if own := s.Counters["packets"]; own > s.Packets || own < s.Verdicts[packet.Next] {
					t.Errorf("function %d counts %d packets in all its instances; took %d, let %d go on", i, own, s.Packets, s.Verdicts[packet.Next])
				}
				dropped += s.Faulted[packet.ReasonFault.String()] + s.Faulted[packet.ReasonSuspended.String()]
			}
			if traps < 10 || dropped != c.Dropped {
				t.Errorf("%d traps; functions account for %d drops of %d", traps, dropped, c.Dropped)
			}
			first, last := stats[0], stats[len(stats)-1]
			if first.Counters["packets"] != c.Received || last.Counters["packets"] != c.Sent {
				t.Errorf("received %d, first function counts %d; sent %d, last function counts %d",
					c.Received, first.Counters["packets"], c.Sent, last.Counters["packets"])
			}
			check(t, b.group.Close())
			if n := faults.Load(); n != traps {
				t.Errorf("%d faults were told of, %d happened", n, traps)
			}
		})
	}
}

// readUntil reads counters and complains about any that falls.
func readUntil(t *testing.T, b *wasmBed, done chan struct{}) {
	var last Counters
	functions := b.group.Stats()
	for {
		select {
		case <-done:
			return
		default:
		}
		c := b.w.Counters()
		if c.Received < last.Received || c.Turns < last.Turns || c.Dropped < last.Dropped {
			t.Errorf("worker's counters fell from %+v to %+v", last, c)
			return
		}
		last = c
		now := b.group.Stats()
		for i, s := range now {
			was := functions[i]
			if s.Packets < was.Packets || s.Traps < was.Traps || s.Counters["packets"] < was.Counters["packets"] {
				t.Errorf("%s: counters fell: packets %d to %d, traps %d to %d, own %v to %v", s.Name,
					was.Packets, s.Packets, was.Traps, s.Traps, was.Counters, s.Counters)
				return
			}
		}
		functions = now
		runtime.Gosched()
	}
}

// Stop ends a worker in the middle of traffic, called by anybody, and again.
func TestStopUnderTraffic(t *testing.T) {
	b := newWasmBed(t, bedOptions{group: wasm.GroupOptions{Budget: time.Second}}, catalogue...)
	b.in.Left = 1 << 40
	check(t, b.w.Start())
	b.await(t, func() bool { return b.w.Counters().Received > 0 })
	var stops sync.WaitGroup
	for range 4 {
		stops.Go(func() {
			if err := b.w.Stop(); err != nil {
				t.Error(err)
			}
		})
	}
	stops.Wait()
	sent := b.out.Transmitted // nobody writes it any more
	if c := b.stop(t); c.Sent != sent || c.Sent == 0 {
		t.Errorf("sent %d, then %d", sent, c.Sent)
	}
}

// When no spare is ready a faulted function stays suspended and its packets
// are dropped by name; as soon as there is one again it goes on.
func TestSpareExhaustion(t *testing.T) {
	hold, holding := make(chan struct{}), make(chan struct{})
	var once sync.Once
	b := newWasmBed(t, bedOptions{burst: 1, group: wasm.GroupOptions{Budget: time.Second, Events: func(wasm.Event) {
		once.Do(func() {
			close(holding)
			<-hold // the group's goroutine makes no spare meanwhile
		})
	}}}, trapsAlways)
	fates := func() (fault, suspended uint64) {
		s := b.group.Stats()[0]
		return s.Faulted[packet.ReasonFault.String()], s.Faulted[packet.ReasonSuspended.String()]
	}
	send := func() {
		b.in.Left++
		b.w.turn()
	}
	send() // the first instance dies, the spare steps in at once
	<-holding
	send() // the spare dies
	time.Sleep(10 * time.Millisecond)
	for range 5 { // its back-off of 1 ms is over, but there is nobody to step in
		send()
	}
	if fault, suspended := fates(); fault != 2 || suspended != 5 {
		t.Errorf("%d faults and %d suspended, want 2 and 5", fault, suspended)
	}
	if s := b.group.Stats()[0]; s.State != wasm.BackingOff {
		t.Errorf("state %v", s.State)
	}
	close(hold)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		send()
		if fault, _ := fates(); fault == 3 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("no spare took over: %+v", b.group.Stats()[0])
		}
	}
	b.w.Run(func() bool { return true })
	b.stop(t)
}

// A function that overruns all the time ends in quarantine: Stats says so, an
// alarm was raised, packets go on being accounted for, and Close is clean.
func TestQuarantineShows(t *testing.T) {
	var mu sync.Mutex
	var alarms []string
	// Less than a tick: each overrun takes many budgets, and few are enough.
	const budget = 100 * time.Microsecond
	open := loopsForever
	open.open = true
	b := newWasmBed(t, bedOptions{group: wasm.GroupOptions{Budget: budget, Events: func(e wasm.Event) {
		if e.Kind == wasm.EventAlarm {
			mu.Lock()
			defer mu.Unlock()
			alarms = append(alarms, e.Text)
		}
	}}}, counts, open, loopsForever)
	b.in.Left = 1 << 40
	check(t, b.w.Start())
	b.await(t, func() bool {
		s := b.group.Stats()
		return s[1].State == wasm.Quarantined && s[2].State == wasm.Quarantined
	})
	c := b.stop(t)
	stats := b.group.Stats()
	if c.Sent != 0 || stats[0].State != wasm.Running {
		t.Errorf("sent %d, first function %v", c.Sent, stats[0].State)
	}
	if s := stats[1]; s.Skipped != c.Received || len(s.Faulted) != 0 {
		t.Errorf("policy open: skipped %d of %d, dropped %v", s.Skipped, c.Received, s.Faulted)
	}
	if s := stats[2]; s.Faulted["budget"]+s.Faulted["suspended"] != c.Dropped || s.Overruns == 0 || s.LastFault == "" {
		t.Errorf("policy closed: dropped %v of %d, last fault %q", s.Faulted, c.Dropped, s.LastFault)
	}
	check(t, b.group.Close())
	mu.Lock()
	defer mu.Unlock()
	if len(alarms) != 2 || !strings.Contains(alarms[0], "quarantined") {
		t.Errorf("alarms %q", alarms)
	}
}
