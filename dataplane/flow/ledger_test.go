package flow

import (
	"testing"

	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
)

// shared are the tables that flow tables of one chain have in common.
type shared struct {
	pins, claims *steer.Pins
	mem          [2][]byte
}

func newShared(t *testing.T, entries int) shared {
	t.Helper()
	var s shared
	for i, p := range []**steer.Pins{&s.pins, &s.claims} {
		s.mem[i] = make([]byte, steer.PinsSize(entries))
		var err error
		if *p, err = steer.NewPins(s.mem[i]); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s shared) options(o Options) Options {
	o.Pins, o.Claims, o.Chain = s.pins, s.claims, 3
	return o
}

// want expects so many pins and claims.
func (s shared) want(t *testing.T, what string, pins, claims int) {
	t.Helper()
	if s.pins.Live() != pins || s.claims.Live() != claims {
		t.Errorf("%s: %d pins and %d claims, want %d and %d", what, s.pins.Live(), s.claims.Live(), pins, claims)
	}
	for _, p := range []*steer.Pins{s.pins, s.claims} {
		if _, err := p.Verify(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// load gives a flow a tuple, and two keys.
func (s shared) load(t *testing.T, g *rig, slot uint32, n uint16) {
	t.Helper()
	if got := g.t.Bind(slot, udp(200, 9, n, 1).tuple()); got != Bound {
		t.Fatal(got)
	}
	for k := range uint64(2) {
		key := (uint64(n)*2 + k + 1) * 0x9e3779b97f4a7c15 // spread as hashes are
		if s.claims.Insert(key, 1) != steer.PinOK || !g.t.Claim(slot, key) {
			t.Fatal("not claimed")
		}
	}
	if g.t.Claim(slot, 99) {
		t.Error("a third key")
	}
}

// However a flow ends, what it holds is given back.
func TestEndGivesBack(t *testing.T) {
	for name, end := range map[string]func(g *rig, slot uint32){
		"idle": func(g *rig, _ uint32) {
			g.now += 10_000 * second
			g.sweep()
		},
		"evicted": func(g *rig, _ uint32) {
			for i := range uint32(8) {
				g.one(udp(300+i, 9, 1, 1))
				g.drain()
			}
		},
		"found idle by its own packet": func(g *rig, _ uint32) {
			g.now += 10_000 * second
			g.one(udp(1, 9, 1, 1))
		},
		"abandoned": func(g *rig, slot uint32) {
			r, _ := g.t.Extract(slot)
			g.t.Abandon(&r)
			g.t.Abandon(&r)
		},
		"refused": func(g *rig, slot uint32) {
			r, _ := g.t.Extract(slot)
			g.one(udp(1, 9, 1, 1))
			if g.t.Insert(&r) != NoSlot || g.t.Insert(&r) != NoSlot {
				g.tb.Error("inserted beside itself")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShared(t, 100)
			g := newRig(t, s.options(Options{Max: 4, Bindings: 4}))
			slot := g.one(udp(1, 9, 1, 1)).Slot
			s.load(t, g, slot, 1)
			s.want(t, "loaded", 1, 2)
			if h := g.t.Ledger().Flows[slot]; h.Binds != 1 || g.t.Ledger().Head.Room != 3 || g.t.BindRoom() != 3 {
				t.Errorf("%+v, room %d", h, g.t.BindRoom())
			}
			end(g, slot)
			s.want(t, "ended", 0, 0)
		})
	}
}

// A table that is closed leaves nothing in those it shares.
func TestCloseGivesBack(t *testing.T) {
	s := newShared(t, 100)
	opts := s.options(Options{Max: 16, Bindings: 4, Key: secret})
	table, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	g := newRig(t, Options{})
	own := g.t
	g.t = table
	s.load(t, g, g.one(udp(1, 9, 1, 1)).Slot, 1)
	g.t = own
	s.want(t, "loaded", 1, 2)
	for range 2 {
		if err := table.Close(); err != nil {
			t.Error(err)
		}
		s.want(t, "closed", 0, 0)
	}
}

// A connection that begins anew has nothing of the one before.
func TestReplacedGivesBack(t *testing.T) {
	s := newShared(t, 100)
	g := newRig(t, s.options(Options{Max: 16, Bindings: 4}))
	rst := tcp(1, 9, 1, 80, tcpRST)
	s.load(t, g, g.one(rst).Slot, 1)
	r := g.one(tcp(1, 9, 1, 80, tcpSYN))
	g.want("again", r, Created, r.Slot, packet.FlagNewFlow)
	s.want(t, "replaced", 0, 0)
	if h := g.t.Ledger().Flows[r.Slot]; h.Ident == 0 || h.Binds != 0 || h.Claims != [2]uint64{} {
		t.Errorf("%+v", h)
	}
}

// A flow that moves keeps what it holds, without a moment in between.
func TestMoveKeeps(t *testing.T) {
	s := newShared(t, 1000)
	opts := s.options(Options{Max: 256, Bindings: 128})
	from, to := newRig(t, opts), newRig(t, opts)
	tuple := udp(200, 9, 7, 1).tuple()
	k, _, _ := tuple.normalise()
	key := steer.PinKey(k.hash64(secret), 3)
	for i := range uint16(100) {
		s.load(t, from, from.one(udp(1, 9, i, 1)).Slot, i)
	}
	before, _ := s.pins.Lookup(key)
	for range 3 {
		for bucket := range uint32(len(from.t.heads)) {
			for slot := from.t.First(bucket); slot != NoSlot; slot = from.t.First(bucket) {
				r, _ := from.t.Extract(slot)
				s.want(t, "on its way", 100, 200)
				into := to.t.Insert(&r)
				if into == NoSlot {
					t.Fatal("refused")
				}
				to.t.Arrive(into)
				from.t.Leave(&r)
			}
		}
		s.want(t, "moved", 100, 200)
		from.verify()
		to.verify()
		from, to = to, from
	}
	if after, ok := s.pins.Lookup(key); !ok || after != before {
		t.Errorf("pinned to %#x, then %#x", before, after)
	}
	if chain, _ := steer.PinOwner(before); chain != 3 {
		t.Errorf("chain %d", chain)
	}
	slot := from.one(udp(200, 9, 7, 1)).Slot
	if h := from.t.Ledger().Flows[slot]; h.Claims[0]|h.Claims[1] == 0 || h.Binds != 1 {
		t.Errorf("%+v", h)
	}
	// The tuple of a flow in one table is nobody else's in another.
	to.now = from.now
	if got := to.t.Bind(to.one(udp(5, 9, 1, 1)).Slot, tuple); got != BindConflict {
		t.Errorf("another worker's tuple: %v", got)
	}
	from.now += 10_000 * second
	from.sweep()
	s.want(t, "ended", 0, 0)
}

// What a table has no room for stays behind, unpinned.
func TestInsertLeavesNoPins(t *testing.T) {
	s := newShared(t, 100)
	from, to := newRig(t, s.options(Options{Max: 16, Bindings: 4})), newRig(t, s.options(Options{Max: 16, Bindings: 1}))
	slot := from.one(udp(1, 9, 1, 1)).Slot
	s.load(t, from, slot, 1)
	if got := from.t.Bind(slot, udp(200, 9, 2, 1).tuple()); got != Bound {
		t.Fatal(got)
	}
	r, _ := from.t.Extract(slot)
	if to.t.Insert(&r) == NoSlot {
		t.Fatal("refused")
	}
	to.verify()
	s.want(t, "moved", 1, 2)
}

// A full share refuses, and the table keeps nothing of it.
func TestBindRefusedByPins(t *testing.T) {
	s := newShared(t, 100)
	s.pins = s.pins.Share(1)
	g := newRig(t, s.options(Options{Max: 16, Bindings: 8}))
	a := g.one(udp(1, 9, 1, 1)).Slot
	if got := g.t.Bind(a, udp(200, 9, 1, 1).tuple()); got != Bound {
		t.Fatal(got)
	}
	if got := g.t.Bind(a, udp(200, 9, 2, 1).tuple()); got != BindFull || g.t.BindRoom() != 7 {
		t.Errorf("%v, room %d", got, g.t.BindRoom())
	}
	g.verify()
	s.want(t, "refused", 1, 0)
}

// Without pins and claims there is no ledger.
func TestNoLedger(t *testing.T) {
	g := newRig(t, Options{Max: 16})
	slot := g.one(udp(1, 9, 1, 1)).Slot
	var raw [TupleSize]byte
	copy(raw[:], AppendTuple(nil, udp(200, 9, 1, 1).tuple()))
	g.t.Adopt(slot, 1, &raw)
	if g.t.Ledger() != nil || g.t.Claim(slot, 1) || g.t.BindRoom() != 0 || g.t.Counters().BindRefused != 1 {
		t.Errorf("%+v", g.t.Counters())
	}
}
