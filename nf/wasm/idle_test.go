package wasm

import (
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sfc/dataplane/packet"
	"sfc/testbed/gate"
)

// awaitSleep waits until the epoch ticker sleeps.
func awaitSleep(tb testing.TB, rt *Runtime) {
	tb.Helper()
	for end := time.Now().Add(10 * time.Second); ; {
		before := rt.eng.ticks()
		time.Sleep(4 * rt.opts.Tick)
		if rt.eng.ticks() == before {
			return
		}
		if time.Now().After(end) {
			tb.Fatal("it ticks, and no guest runs")
		}
	}
}

// There are no ticks while no guest runs, and the first burst after that has as
// many as it needs; so has a periodic call, which is not followed by any.
func TestTickerSleeps(t *testing.T) {
	gate.Leaks(t)
	f := newFixture(t, fixtureOptions{}, "tick_counts")
	awaitSleep(t, f.rt)
	f.fill(packet.BurstSize, 100)
	before := f.rt.eng.ticks()
	f.group.Process(&f.burst)
	time.Sleep(2 * time.Millisecond)
	if f.rt.eng.ticks() == before {
		t.Error("no tick follows a burst")
	}
	awaitSleep(t, f.rt)
	before = f.rt.eng.ticks()
	const calls = 10
	for i := range calls {
		f.group.Tick(uint64(i))
		time.Sleep(10 * time.Millisecond)
	}
	if n := f.rt.eng.ticks() - before; n > 3*calls {
		t.Errorf("%d ticks for %d periodic calls in 100 ms", n, calls)
	}
}

// threadTime is the CPU time of the calling thread.
func threadTime(tb testing.TB) time.Duration {
	tb.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(now.Nano())
}

// schedulerTick is the period of the kernel's scheduler with HZ=250.
const schedulerTick = 4 * time.Millisecond

// A guest that loops in the first call after the ticker slept is stopped as
// soon as any other, a periodic call after one tick of the kernel's scheduler more.
func TestLoopAfterIdle(t *testing.T) {
	gate.Leaks(t)
	for name, call := range map[string]func(f *fixture){
		"loops_forever": func(f *fixture) { f.group.Process(&f.burst) },
		"tick_loops":    func(f *fixture) { f.group.Tick(1) },
	} {
		t.Run(name, func(t *testing.T) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			f := newFixture(t, fixtureOptions{}, name)
			allowed := f.group.opts.Budget + 3*f.rt.opts.Tick
			if name == "tick_loops" {
				// The kernel likes to wake the thread that ticks on the core of
				// who woke it, where it waits for the scheduler's tick.
				allowed += schedulerTick
			}
			var stopped []time.Duration
			for range 500 { // of which it is suspended for some
				// On a busy machine the thread that ticks may come late.
				if n := len(stopped); n == 20 || n >= 3 && slices.Min(stopped) <= allowed {
					break
				}
				awaitSleep(t, f.rt)
				time.Sleep(10 * time.Millisecond) // the suspension
				f.fill(packet.BurstSize, 100)
				before := f.group.Stats()[0].Overruns
				start := threadTime(t)
				call(f)
				if took := threadTime(t) - start; f.group.Stats()[0].Overruns > before {
					stopped = append(stopped, took)
				}
			}
			if len(stopped) == 0 {
				t.Fatal("it was never stopped")
			}
			t.Logf("stopped after %v of CPU time; allowed are %v", stopped, allowed)
			if least := slices.Min(stopped); least > allowed {
				t.Errorf("it had %v at least, budget and three ticks are %v", least, allowed)
			}
		})
	}
}

// The ticker does not lie down for good between a burst and the next one,
// however these fall.
func TestTickerMissesNothing(t *testing.T) {
	gate.Leaks(t)
	rt, err := Open(Options{Tick: 100 * time.Microsecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rt.Close(); err != nil {
			t.Error(err)
		}
	})
	f := newFixture(t, fixtureOptions{runtime: rt}, "pass_all")
	f.fill(1, 100)
	for i := range 100 {
		// About when it lies down.
		time.Sleep(9*time.Millisecond + time.Duration(i)*20*time.Microsecond)
		before := rt.eng.ticks()
		f.group.Process(&f.burst)
		for end := time.Now().Add(10 * time.Second); rt.eng.ticks() == before; {
			if time.Now().After(end) {
				t.Fatalf("round %d: no tick after a burst", i)
			}
			time.Sleep(50 * time.Microsecond)
		}
	}
}

// What a function logs is told of shortly after, also when it has been idle, and
// by one that was configured just now.
func TestLogAfterIdle(t *testing.T) {
	gate.Leaks(t)
	rec := &recorder{}
	const say = `(call $log (i32.const 3) (i32.const 0x10000000) (i32.const 9))`
	f, err := newGuest(t, rec, wat(say+` i32.const 0`, `(func (export "sfc_process") (param i32) `+say+`)`))
	if err != nil {
		t.Fatal(err)
	}
	await := func(lines int) (took time.Duration) {
		t.Helper()
		for start := time.Now(); ; time.Sleep(time.Millisecond) {
			if took = time.Since(start); len(rec.of(EventLog)) >= lines {
				return took
			}
			if took > 10*time.Second {
				t.Fatalf("%d lines, want %d", len(rec.of(EventLog)), lines)
			}
		}
	}
	await(2) // of the instance and its spare
	time.Sleep(3 * roundEvery)
	f.fill(1, 100)
	f.group.Process(&f.burst)
	took := await(3)
	t.Logf("told after %v", took)
	if took > 20*roundEvery { // of a machine that is busy
		t.Errorf("told after %v", took)
	}
	if got := strings.Join(rec.of(EventLog), ""); got != "look herelook herelook here" {
		t.Errorf("got %q", got)
	}
}
