package wasm

import (
	"errors"
	"strings"
	"testing"
	"time"

	"sfc/dataplane/packet"
)

var (
	v1 = guest{number: 1, format: 1}
	v2 = guest{number: 2, format: 1} // the same layout
	v3 = guest{number: 3, format: 2} // another
)

func status(t *testing.T, r *Replacement, want ReplacementStatus) {
	t.Helper()
	got := r.Status()
	same := got
	same.Why = want.Why
	if same != want || !strings.Contains(got.Why, want.Why) || want.Why == "" && got.Why != "" {
		t.Errorf("status %+v, want %+v", got, want)
	}
}

// A version with the same layout finds what the one before it kept, and is
// accepted when its probation is over.
func TestReplaceKeepsState(t *testing.T) {
	b := newBed(t, v1, 1, GroupOptions{})
	b.expect("v1", 1, map[uint32]uint64{3: 1, 999: 1})
	r := b.prepare(v2, ReplaceOptions{Probation: time.Hour})
	status(t, r, ReplacementStatus{Prepared, "1.1.0", "1.2.0", "kept", ""})
	b.expect("v2 is prepared", 1, map[uint32]uint64{3: 2, 999: 2})
	if err := r.Install(); err != nil {
		t.Fatal(err)
	}
	status(t, r, ReplacementStatus{Probation, "1.1.0", "1.2.0", "kept", ""})
	b.expect("v2 runs", 2, map[uint32]uint64{3: 3, 999: 3, 7: 1})

	s := b.f.group.Stats()[0]
	if s.Version != "1.2.0" || s.Replacement == nil || s.Replacement.Phase != Probation || s.Name != "f0" {
		t.Errorf("stats %+v", s)
	}
	if s.Packets != 7 || s.Counters["packets"] != 7 {
		t.Errorf("%d packets, and %d by the function's own counter, want 7", s.Packets, s.Counters["packets"])
	}

	b.f.group.hops[0].trial.until = time.Now()
	b.expect("accepted", 2, map[uint32]uint64{3: 4})
	status(t, r, ReplacementStatus{Accepted, "1.1.0", "1.2.0", "kept", ""})
	b.settle()
	b.expect("v1 is gone", 2, map[uint32]uint64{3: 5})
	if s := b.f.group.Stats()[0]; s.Packets != 9 || s.Counters["packets"] != 9 {
		t.Errorf("%d packets, and %d by the function's own counter, want 9", s.Packets, s.Counters["packets"])
	}
	if got := b.rec.of(EventReplaced); len(got) != 2 || got[0] != "1.1.0 -> 1.2.0, flow state kept" || got[1] != "1.2.0 accepted" {
		t.Errorf("events %q", got)
	}
}

// A fault on probation puts the old version back at once. Of the burst it
// held the policy decides; state is what the old version left where it was
// migrated, what the new one wrote where it is shared.
func TestRollBack(t *testing.T) {
	for _, tt := range []struct {
		name   string
		to     guest
		o      ReplaceOptions
		state  string
		after  uint64 // count of slot 5 once v1 is back
		during uint64
	}{
		{"kept", v2, ReplaceOptions{}, "kept", 4, 3},
		{"migrated", v3, ReplaceOptions{}, "migrated", 3, 3},
		{"reset", v3, ReplaceOptions{ResetState: true}, "reset", 3, 1},
		{"kept, since a reset is not needed", v2, ReplaceOptions{ResetState: true}, "kept", 4, 3},
		{"none", guest{number: 4}, ReplaceOptions{}, "none", 3, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBed(t, v1, 1, GroupOptions{})
			b.send([]uint32{5, 6})
			b.send([]uint32{5, 6})
			r := b.swap(tt.to, tt.o)
			b.expect("on probation", tt.to.number, map[uint32]uint64{5: tt.during})
			b.send([]uint32{9, 10}, 0, markTrap)
			for k := range 2 {
				if name := b.f.group.ReasonName(b.f.burst.Out[k]); name != "f0.fault" {
					t.Errorf("packet %d of the burst that faulted: %s", k, name)
				}
			}
			status(t, r, ReplacementStatus{RolledBack, "1.1.0", r.Status().To, tt.state, "unreachable"})
			b.expect("v1 is back", 1, map[uint32]uint64{5: tt.after, 6: 3})
			b.settle()
			b.expect("settled", 1, map[uint32]uint64{5: tt.after + 1})
			s := b.f.group.Stats()[0]
			if s.Version != "1.1.0" || s.State != Running || s.Traps != 1 || s.Packets != 4+1+2+2+1 || s.Faulted["fault"] != 2 ||
				s.Replacement.Phase != RolledBack || !strings.Contains(s.LastFault, "unreachable") {
				t.Errorf("stats %+v", s)
			}
			if got := b.rec.of(EventAlarm); len(got) != 1 || !strings.Contains(got[0], "went back to 1.1.0: wasm trap") {
				t.Errorf("alarms %q", got)
			}
			// A fault of the version that came back is an ordinary one.
			b.send([]uint32{5}, markTrap)
			b.expect("a spare of v1", 1, map[uint32]uint64{6: 4})
		})
	}
}

// A version is put back when somebody says so, as long as it is on probation.
func TestRollBackWhenAsked(t *testing.T) {
	b := newBed(t, v1, 1, GroupOptions{})
	b.expect("v1", 1, map[uint32]uint64{1: 1})
	r := b.prepare(v3, ReplaceOptions{})
	if err := r.RollBack("too soon"); !errors.Is(err, ErrSettled) {
		t.Errorf("prepared: %v", err)
	}
	if err := r.Install(); err != nil {
		t.Fatal(err)
	}
	b.expect("v3", 3, map[uint32]uint64{1: 2})
	if err := r.RollBack("it faulted on worker 1"); err != nil {
		t.Fatal(err)
	}
	b.expect("v1 is back", 1, map[uint32]uint64{1: 2})
	b.settle()
	status(t, r, ReplacementStatus{RolledBack, "1.1.0", "1.3.0", "migrated", "it faulted on worker 1"})
	if err := r.RollBack("again"); !errors.Is(err, ErrSettled) {
		t.Errorf("twice: %v", err)
	}
	if s := b.f.group.Stats()[0]; s.Traps != 0 || s.LastFault != "" || s.Packets != 3 {
		t.Errorf("stats %+v", s)
	}
}

// With the policy open, the burst that faulted goes on.
func TestRollBackOpen(t *testing.T) {
	b := newBed(t, v1, 1, GroupOptions{})
	r, err := b.f.group.Prepare(0, Hop{Module: b.module(v3), Config: config(1), Open: true}, ReplaceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Install(); err != nil {
		t.Fatal(err)
	}
	b.send([]uint32{1, 2}, markTrap)
	if o := b.f.burst.Out[0]; o.Verdict != packet.Tx || r.Status().Phase != RolledBack {
		t.Errorf("%+v, %v", o, r.Status().Phase)
	}
	b.send([]uint32{1, 2}, markTrap) // v1's own policy is closed
	if o := b.f.burst.Out[0]; o.Verdict != packet.Drop {
		t.Errorf("%+v", o)
	}
}

// A function that is out of service runs again with its new version, and is
// where it was if that one goes back.
func TestReplaceOfQuarantined(t *testing.T) {
	b := newBed(t, v1, 1, GroupOptions{})
	h := b.f.group.hops[0]
	for State(h.cur.Load().state.Load()) != Quarantined {
		b.send([]uint32{1}, markTrap)
		h.cur.Load().resumeAt = time.Time{}
	}
	b.swap(v2, ReplaceOptions{})
	b.expect("v2", 2, map[uint32]uint64{5: 1})
	b.send([]uint32{1}, markTrap)
	b.send([]uint32{5})
	if name := b.f.group.ReasonName(b.f.burst.Out[0]); name != "f0.suspended" || b.f.group.Stats()[0].State != Quarantined {
		t.Errorf("%s, %v", name, b.f.group.Stats()[0].State)
	}
	b.swap(v2, ReplaceOptions{})
	b.expect("v2 again", 2, map[uint32]uint64{5: 2})
}

// What cannot be done is refused, and says why; nothing has changed then.
func TestReplaceRefused(t *testing.T) {
	b := newBed(t, v1, 1, GroupOptions{})
	g := b.f.group
	for _, tt := range []struct {
		name   string
		to     guest
		config []byte
		o      ReplaceOptions
		want   error
		text   string
	}{
		{"no migration", guest{number: 3, format: 2, bare: true}, config(1), ReplaceOptions{}, ErrLayout,
			`function f0 keeps "function counts, 8 bytes" of each flow, and counts 1.3.0 expects "function counts, 16 bytes": give both`},
		{"another function", guest{name: "other", number: 3, format: 1}, config(1), ReplaceOptions{}, ErrLayout, `expects "function other, 8 bytes"`},
		{"another layout", guest{number: 3, format: 1, layout: "counts/2", bare: true}, config(1), ReplaceOptions{}, ErrLayout, `expects "layout counts/2, 8 bytes"`},
		{"configuration", v2, config(configRefuse), ReplaceOptions{}, ErrConfigRefused, "version 1.2.0"},
		{"long configuration", v2, make([]byte, 2<<20), ReplaceOptions{}, nil, "at most 1048576 fit"},
	} {
		_, err := g.Prepare(0, Hop{Module: b.module(tt.to), Config: tt.config}, tt.o)
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: got %v", tt.name, err)
		}
	}
	for _, hop := range []int{-1, 1} {
		if _, err := g.Prepare(hop, Hop{Module: b.module(v2), Config: config(1)}, ReplaceOptions{}); err == nil || !strings.Contains(err.Error(), "the chain has 1") {
			t.Errorf("function %d: %v", hop, err)
		}
	}
	if n := len(g.hops[0].versions); n != 1 {
		t.Errorf("%d versions exist", n)
	}

	first, second := b.prepare(v2, ReplaceOptions{Probation: time.Hour}), b.prepare(v2, ReplaceOptions{})
	if err := first.Install(); err != nil {
		t.Fatal(err)
	}
	if err := second.Install(); !errors.Is(err, ErrStale) {
		t.Errorf("a replacement of what runs no more: %v", err)
	}
	if err := first.Install(); !errors.Is(err, ErrUsed) {
		t.Errorf("twice: %v", err)
	}
	second.Discard()
	third := b.prepare(v1, ReplaceOptions{})
	if err := third.Install(); !errors.Is(err, ErrProbation) {
		t.Errorf("on probation: %v", err)
	}
	first.Discard() // does nothing
	b.expect("on probation", 2, map[uint32]uint64{1: 1})
	g.hops[0].trial.until = time.Now()
	if err := third.Install(); err != nil {
		t.Errorf("after probation: %v", err)
	}
	b.expect("third", 1, map[uint32]uint64{1: 2})

	fourth := b.prepare(v1, ReplaceOptions{})
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if err := fourth.Install(); !errors.Is(err, ErrUsed) {
		t.Errorf("closed: %v", err)
	}
	fourth.Discard()
	if _, err := g.Prepare(0, Hop{Module: b.module(v1)}, ReplaceOptions{}); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if _, err := g.Reconfigure(0, config(1), ReplaceOptions{}); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// No more versions than can be looked after are prepared.
func TestTooManyPrepared(t *testing.T) {
	b := newBed(t, v1, 1, GroupOptions{ConfigureBudget: 10 * time.Millisecond})
	for range maxVersions - 1 {
		b.prepare(v2, ReplaceOptions{})
	}
	if _, err := b.f.group.Prepare(0, Hop{Module: b.module(v2), Config: config(1)}, ReplaceOptions{}); err == nil || !strings.Contains(err.Error(), "4 versions exist") {
		t.Errorf("got %v", err)
	}
}

// Names stay true: a drop keeps the name that its version gave it, counters of
// the same name go on, and others begin.
func TestNamesOfVersions(t *testing.T) {
	b := newBed(t, guest{number: 1, format: 1, reason: "denied"}, 1, GroupOptions{})
	check := func(reason string) {
		t.Helper()
		b.send([]uint32{1, 2, 3}, markDrop)
		if name := b.f.group.ReasonName(b.f.burst.Out[0]); name != "f0."+reason {
			t.Errorf("dropped as %s, want %s", name, reason)
		}
	}
	check("denied")
	b.swap(guest{number: 2, format: 1, reason: "blocked", counter: "frames"}, ReplaceOptions{Probation: -1})
	check("blocked")
	b.settle()
	check("blocked")
	s := b.f.group.Stats()[0]
	if s.Drops["denied"] != 3 || s.Drops["blocked"] != 6 || s.Verdicts[packet.Drop] != 9 {
		t.Errorf("drops %v, verdicts %v", s.Drops, s.Verdicts)
	}
	if _, there := s.Counters["packets"]; there || s.Counters["frames"] != 6 {
		t.Errorf("counters %v", s.Counters)
	}
	b.swap(guest{number: 3, format: 1, reason: "denied"}, ReplaceOptions{Probation: -1})
	check("denied")
	if s := b.f.group.Stats()[0]; s.Drops["denied"] != 6 || s.Drops["blocked"] != 6 || s.Counters["packets"] != 6 {
		t.Errorf("drops %v, counters %v", s.Drops, s.Counters)
	}
}
