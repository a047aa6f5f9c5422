package wasm

import (
	"encoding/binary"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"sfc/dataplane/packet"
)

// traffic is a worker that processes bursts of packets of a number of flows
// for as long as the test goes on, and runs what it is asked to in between.
type traffic struct {
	b     *bed
	flows uint32
	do    chan func()
	done  chan struct{}
	ended chan struct{}

	trap     atomic.Bool // the next burst makes the function trap
	faulted  atomic.Uint64
	packets  atomic.Uint64
	versions [16]uint64 // packets by version
	count    []uint64   // packets of each flow
	wrong    []string
}

func (b *bed) traffic(flows uint32) *traffic {
	w := &traffic{b: b, flows: flows, do: make(chan func()), done: make(chan struct{}), ended: make(chan struct{}), count: make([]uint64, flows)}
	go w.run()
	return w
}

func (w *traffic) run() {
	defer close(w.ended)
	slots := make([]uint32, packet.BurstSize)
	var next uint32
	for turn := 0; ; turn++ {
		select {
		case f := <-w.do:
			f()
		case <-w.done:
			return
		default:
		}
		if turn%64 == 0 {
			w.b.f.group.Tick(0)
		}
		for k := range slots {
			next = next*1664525 + 1013904223
			slots[k] = next >> 8 % w.flows
		}
		mark := uint32(0)
		if w.trap.CompareAndSwap(true, false) {
			mark = markTrap
		}
		got := w.b.send(slots, mark)
		w.packets.Add(uint64(len(slots)))
		if mark == markTrap {
			for k := range slots {
				if name := w.b.f.group.ReasonName(w.b.f.burst.Out[k]); name != "f0.fault" {
					w.b.tb.Errorf("turn %d: %s of a burst that trapped", turn, name)
				}
			}
			w.faulted.Add(uint64(len(slots)))
			continue
		}
		for k, s := range slots {
			w.count[s]++
			if o := w.b.f.burst.Out[k]; (o.Verdict != packet.Tx || got[k].count != w.count[s]) && len(w.wrong) < 5 {
				w.wrong = append(w.wrong, w.b.f.group.ReasonName(o))
				w.b.tb.Errorf("turn %d, slot %d: %+v, version %d counted %d, want %d", turn, s, o, got[k].version, got[k].count, w.count[s])
			}
			w.versions[got[k].version&15]++
		}
	}
}

// between runs f between two bursts and returns how long it held the worker.
func (w *traffic) between(f func()) (hold time.Duration) {
	ran := make(chan struct{})
	w.do <- func() {
		start := time.Now()
		f()
		hold = time.Since(start)
		close(ran)
	}
	<-ran
	return hold
}

func (w *traffic) stop() {
	close(w.done)
	<-w.ended
}

// install installs r as soon as probation of the one before is over.
func (w *traffic) install(r *Replacement) (hold time.Duration) {
	w.b.tb.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		var err error
		hold = w.between(func() { err = r.Install() })
		if err == nil {
			return hold
		}
		if time.Now().After(end) {
			w.b.tb.Fatal(err)
		}
	}
}

// Functions are replaced again and again under traffic, kept, migrated there
// and back, reconfigured, refused, made slowly: every packet is sent, every flow
// counted right.
func TestReplaceUnderTraffic(t *testing.T) {
	b := newBed(t, v1, 1, GroupOptions{Flows: 20_000})
	g := b.f.group
	for _, v := range []guest{v1, v2, v3} {
		b.module(v)
	}
	live := guest{number: 4, format: 2, live: true}
	b.module(live)
	w := b.traffic(10_000)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		var last uint64
		for {
			select {
			case <-w.done:
				return
			default:
			}
			s := g.Stats()[0]
			if s.Counters["packets"] < last {
				t.Errorf("the function's counter fell from %d to %d", last, s.Counters["packets"])
			}
			last = s.Counters["packets"]
			time.Sleep(time.Millisecond)
		}
	}()
	var holds []time.Duration
	for round := range 8 {
		for _, to := range []guest{v2, v3, live, v1} {
			id := 1
			if round%4 == 0 {
				id = configSlow
			}
			r, err := g.Prepare(0, Hop{Module: b.module(to), Config: config(id)}, ReplaceOptions{Probation: -1})
			if err != nil {
				t.Fatal(err)
			}
			holds = append(holds, w.install(r))
			if _, err := g.Prepare(0, Hop{Module: b.module(to), Config: config(configRefuse)}, ReplaceOptions{}); err == nil {
				t.Error("a configuration was taken that is refused")
			}
			if r, err = g.Reconfigure(0, config(2), ReplaceOptions{Probation: -1}); err != nil {
				t.Fatal(err)
			}
			if to == v2 {
				r.Discard()
				continue
			}
			// Prepared on probation: it is stale only if that went wrong.
			holds = append(holds, w.install(r))
		}
	}
	w.stop()
	<-stopped
	b.settle()
	slices.Sort(holds)
	t.Logf("%d packets, %d replacements, held the worker for %v (median), %v (most)", w.packets.Load(), len(holds), holds[len(holds)/2], holds[len(holds)-1])
	s := g.Stats()[0]
	if n := w.packets.Load(); s.Packets != n || s.Counters["packets"] != n || s.Verdicts[packet.Next] != n {
		t.Errorf("%d packets sent; counted %d, %d by the function, %v", n, s.Packets, s.Counters["packets"], s.Verdicts)
	}
	for v := 1; v <= 4; v++ {
		if w.versions[v] == 0 {
			t.Errorf("version %d saw no packet", v)
		}
	}
	// What the function has in its slots is what the test counted.
	state := g.FlowState(0)
	for slot, want := range w.count {
		if got := binary.LittleEndian.Uint64(state[8*slot:]); got != want {
			t.Fatalf("slot %d holds %d, want %d", slot, got, want)
		}
	}
}

// Versions fault on probation under traffic: one burst each is dropped, by name,
// and the version before goes on with every flow as it was left.
func TestRollBackUnderTraffic(t *testing.T) {
	b := newBed(t, v1, 1, GroupOptions{Flows: 20_000})
	b.module(v2)
	w := b.traffic(10_000)
	const rounds = 30
	for range rounds {
		r := b.prepare(v2, ReplaceOptions{Probation: time.Hour})
		w.install(r)
		w.trap.Store(true)
		for end := time.Now().Add(20 * time.Second); r.Status().Phase == Probation; {
			if time.Now().After(end) {
				t.Fatal("it does not go back")
			}
		}
		status(t, r, ReplacementStatus{RolledBack, "1.1.0", "1.2.0", "kept", "unreachable"})
	}
	w.stop()
	b.settle()
	s := b.f.group.Stats()[0]
	if n := w.packets.Load(); s.Packets != n || s.Faulted["fault"] != w.faulted.Load() || s.Traps != rounds ||
		s.Verdicts[packet.Next] != n-w.faulted.Load() || s.State != Running {
		t.Errorf("%d packets, %d faulted; counted %+v", n, w.faulted.Load(), s)
	}
	if w.versions[1] == 0 || w.versions[2] == 0 {
		t.Errorf("packets by version: %v", w.versions)
	}
}

// Whatever a replacement came to, it leaves nothing; a group closed in the
// midst of one leaves nothing either.
func TestReplacementsLeaveNothing(t *testing.T) {
	b := newBed(t, v1, 1, GroupOptions{})
	for _, v := range []guest{v2, v3} {
		b.module(v)
	}
	round := func(n int) {
		for i := range n {
			switch i % 4 {
			case 0: // accepted
				b.swap(v3, ReplaceOptions{Probation: -1})
				b.settle()
				b.swap(v1, ReplaceOptions{Probation: -1})
			case 1: // rolled back
				b.swap(v3, ReplaceOptions{})
				b.send([]uint32{1}, markTrap)
			case 2: // never installed
				b.prepare(v3, ReplaceOptions{}).Discard()
			case 3: // closed while one waits and one is on probation
				c := &bed{tb: t, rec: b.rec, modules: b.modules, f: &fixture{rt: b.f.rt, mem: b.f.mem}}
				var err error
				c.f.group, err = b.f.rt.NewGroup(b.f.mem, []Hop{{Name: "c", Module: b.module(v1), Config: config(1)}},
					GroupOptions{Tenant: "test", Ports: 2, Flows: 1000})
				if err != nil {
					t.Fatal(err)
				}
				c.send([]uint32{1, 2, 3})
				c.swap(v3, ReplaceOptions{})
				c.prepare(v2, ReplaceOptions{ResetState: true})
				if err := c.f.group.Close(); err != nil {
					t.Error(err)
				}
			}
			b.settle()
		}
	}
	round(40)
	before := measure(t)
	round(200)
	before.grew(t, measure(t), 8<<10)
}

// A module may be closed while functions are made of it; its code goes with the
// last of them.
func TestModuleOutlivesClose(t *testing.T) {
	b := newBed(t, v1, 1, GroupOptions{})
	m, err := b.f.rt.Compile(assemble(t, "guest", v2.wat()))
	if err != nil {
		t.Fatal(err)
	}
	r, err := b.f.group.Prepare(0, Hop{Module: m, Config: config(1)}, ReplaceOptions{Probation: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	m.Close()
	if err := r.Install(); err != nil {
		t.Fatal(err)
	}
	b.expect("closed", 2, map[uint32]uint64{1: 1})
	b.send([]uint32{1}, markTrap)
	b.settle()
	b.expect("rolled back", 1, map[uint32]uint64{2: 1})
	if n := m.refs.Load(); n != 0 {
		t.Errorf("%d references are left", n)
	}
}
