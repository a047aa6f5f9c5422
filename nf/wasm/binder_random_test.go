package wasm

import (
	"math/rand/v2"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
)

// goGiver does in Go what bind.c does, with pins.go, on a table and shares of
// its own.
type goGiver struct{ *giver }

func (g *goGiver) hash(t *flow.Tuple) uint64 {
	in := packet.Info{Flags: packet.FlagIPv6, Proto: t.Proto, SrcPort: t.SrcPort, DstPort: t.DstPort}
	if t.Src.Is4() {
		in.Flags = packet.FlagIPv4
	}
	copy(in.Src[:], t.Src.AsSlice())
	copy(in.Dst[:], t.Dst.AsSlice())
	return packet.FlowHash64(bindKey, &in)
}

func (g *goGiver) bind(slot uint32, raw [flow.TupleSize]byte) uint64 {
	t, ok := flow.ParseTuple(&raw)
	if !ok {
		return bindBad
	}
	switch g.table.Bind(slot, &t) {
	case flow.Bound:
		return bindOK
	case flow.BindConflict:
		return bindTaken
	case flow.BindFull:
		return bindFull
	case flow.BindLimit:
		return bindLimit
	}
	return bindNoFlow
}

func (g *goGiver) claim(slot uint32, key, value uint64) uint64 {
	h := &g.table.Ledger().Flows[slot]
	free := false
	for _, k := range h.Claims {
		if k == key {
			if have, _ := g.claims.Lookup(key); have == value {
				return bindOK
			}
			return bindTaken
		}
		free = free || k == 0
	}
	if !free {
		return bindLimit
	}
	switch g.claims.Insert(key, value) {
	case steer.PinTaken:
		return bindTaken
	case steer.PinFull:
		return bindFull
	case steer.PinOK, steer.PinHeld:
	}
	if !g.table.Claim(slot, key) {
		panic("there was room")
	}
	return bindOK
}

// Random operations through a guest and C answer as the same in Go.
func TestBindTwins(t *testing.T) {
	rt := openRuntime(t)
	rapid.Check(t, func(rp *rapid.T) {
		share := rapid.IntRange(1, 12).Draw(rp, "share")
		room := rapid.Uint32Range(1, 12).Draw(rp, "room")
		made := func() *giver {
			return newGiver(t, giverOptions{
				fixtureOptions: fixtureOptions{runtime: rt}, room: room,
				pins: newTestPins(t, 100).Share(share), claims: newTestPins(t, 100).Share(share),
			})
		}
		inC, inGo := made(), goGiver{giver: made()}
		rp.Repeat(map[string]func(*rapid.T){
			"give": func(rp *rapid.T) {
				o := give{
					flow: rapid.Uint32Range(1, 6).Draw(rp, "flow"), what: rapid.SampledFrom([]uint8{giveTuple, giveClaim, giveFind}).Draw(rp, "what"),
					i: -1, lo: rapid.Uint64Range(1, 6).Draw(rp, "key"), value: rapid.Uint64Range(1, 3).Draw(rp, "value"),
					tuple: translated(rapid.Uint16Range(1, 8).Draw(rp, "port")),
				}
				got := inC.run(true, o)[0]
				slot := inGo.lookup(frameOf(o.flow))[0]
				var want uint64
				switch o.what {
				case giveTuple:
					want = inGo.bind(slot, o.tuple)
				case giveClaim:
					want = inGo.claim(slot, o.lo, o.value)
				case giveFind:
					want, _ = inGo.claims.Lookup(o.lo)
				}
				if got != want {
					rp.Fatalf("%+v: C says %d, Go %d", o, got, want)
				}
			},
			"move": func(rp *rapid.T) { // out of the table and in again
				n := rapid.Uint32Range(1, 6).Draw(rp, "flow")
				for _, g := range []*giver{inC, inGo.giver} {
					r, ok := g.table.Extract(g.lookup(frameOf(n))[0])
					if !ok || g.table.Insert(&r) == flow.NoSlot {
						rp.Fatal("not moved")
					}
				}
			},
			"end": func(rp *rapid.T) {
				n := rapid.Uint32Range(1, 6).Draw(rp, "flow")
				for _, g := range []*giver{inC, inGo.giver} {
					r, _ := g.table.Extract(g.lookup(frameOf(n))[0])
					g.table.Abandon(&r)
				}
			},
			"": func(rp *rapid.T) {
				if inC.pins.Live() != inGo.pins.Live() || inC.claims.Live() != inGo.claims.Live() || inC.table.BindRoom() != inGo.table.BindRoom() {
					rp.Fatalf("C has %d pins, %d claims, room %d; Go %d, %d, %d", inC.pins.Live(), inC.claims.Live(), inC.table.BindRoom(),
						inGo.pins.Live(), inGo.claims.Live(), inGo.table.BindRoom())
				}
				inC.verify()
				inGo.verify()
			},
		})
		inC.endAll()
		inGo.endAll()
		if err := inC.group.Close(); err != nil {
			rp.Fatal(err)
		}
		if err := inGo.group.Close(); err != nil {
			rp.Fatal(err)
		}
	})
}

// Two workers' functions claim and bind in C while others insert, release and
// look up in Go, all in the same tables: a value never belongs to another key,
// and at the end nothing is left.
func TestBindConcurrently(t *testing.T) {
	const rounds = 300
	pins, claims := newTestPins(t, 60), newTestPins(t, 60)
	rt := openRuntime(t)
	var workers []*giver
	for range 2 {
		workers = append(workers, newGiver(t, giverOptions{fixtureOptions: fixtureOptions{runtime: rt}, pins: pins, claims: claims, max: 64}))
	}
	var wg sync.WaitGroup
	for w, g := range workers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(7, uint64(w)))
			for range rounds {
				gives := make([]give, 1+r.IntN(packet.BurstSize))
				for i := range gives {
					key := r.Uint64N(32)
					gives[i] = give{
						flow: uint32(100*w) + 1 + r.Uint32N(50), what: giveTuple + uint8(r.IntN(3)), i: -1,
						hi: 1, lo: key, value: key<<8 | uint64(r.IntN(2)), tuple: translated(uint16(r.IntN(40))),
					}
				}
				answers := g.process(gives)
				g.group.ApplyBinds(g.table)
				for i, o := range gives {
					switch a := answers[i]; {
					case o.what == giveFind && a != 0 && a>>8 != o.lo:
						t.Errorf("key %d has the value %#x", o.lo, a)
					case o.what != giveFind && a > bindLimit:
						t.Errorf("answer %d", a)
					}
				}
				if r.IntN(4) == 0 { // a flow ends
					if rec, ok := g.table.Extract(g.burst.Slot[0]); ok {
						g.table.Abandon(&rec)
					}
				}
			}
		})
	}
	for w := range 2 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(8, uint64(w)))
			for range rounds * 20 {
				for _, p := range []*steer.Pins{pins, claims} {
					key := r.Uint64N(24)<<32 | 1<<20 | r.Uint64N(4)
					if p.Insert(key, key) == steer.PinOK {
						if v, ok := p.Lookup(key); !ok || v != key {
							t.Errorf("key %#x: %#x %v while held", key, v, ok)
						}
						p.Release(key)
					}
				}
			}
		})
	}
	wg.Wait()
	for _, g := range workers {
		g.verify()
		if err := g.table.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, p := range []*steer.Pins{pins, claims} {
		if n, err := p.Verify(); n != 0 || p.Live() != 0 || err != nil {
			t.Errorf("%d entries, %d live: %v", n, p.Live(), err)
		}
	}
}

// C and Go find the same in what a guest may call a tuple.
func FuzzTuple(f *testing.F) {
	for _, t := range []flow.Tuple{ownTuple(1), ownTuple(1 << 20)} {
		f.Add(flow.AppendTuple(nil, &t))
	}
	raw := translated(9)
	for _, change := range [][2]byte{{36, 1}, {36, 58}, {37, 6}, {38, 8}, {38, 128}, {39, 1}} {
		r := raw
		r[change[0]] = change[1]
		f.Add(r[:])
	}
	g := newGiver(f, giverOptions{})
	f.Fuzz(func(t *testing.T, data []byte) {
		var raw [flow.TupleSize]byte
		copy(raw[:], data)
		tuple, ok := flow.ParseTuple(&raw)
		g.t = t
		answer := g.run(false, give{flow: 1, what: giveTuple, i: -1, tuple: raw})[0]
		if ok != (answer == bindOK) || !ok && answer != bindBad {
			t.Fatalf("%x: Go says %v, C %d", raw, ok, answer)
		}
		if ok {
			key := steer.PinKey((&goGiver{giver: g}).hash(&tuple), 0)
			h := g.table.Ledger().Flows[g.burst.Slot[0]]
			if v, found := g.pins.Lookup(key); !found || v != steer.PinValue(h.Ident, 0, h.Bucket) {
				t.Fatalf("%+v: pinned to %#x (%v)", tuple, v, found)
			}
			again := flow.AppendTuple(nil, &tuple)
			if back, ok := flow.ParseTuple((*[flow.TupleSize]byte)(again)); !ok || back != tuple {
				t.Fatalf("%+v became %+v", tuple, back)
			}
		}
		g.group.ApplyBinds(g.table)
		g.endAll()
	})
}
