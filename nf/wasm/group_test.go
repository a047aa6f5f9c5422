package wasm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"sfc/chains"
	"sfc/dataplane/packet"
	"sfc/nf"
)

// The functions of a chain find the same packets at the same guest address,
// and each sees what the one before it wrote: nothing is copied between them.
func TestFunctionsShareFrames(t *testing.T) {
	f := newFixture(t, fixtureOptions{}, repeat("stamp", 3)...)
	f.fill(packet.BurstSize, 200)
	region := f.mem.Frames.Bytes()
	f.group.Process(&f.burst)

	le := binary.LittleEndian
	for k := range packet.BurstSize {
		fr := f.burst.Frames[k]
		if o := f.burst.Out[k]; o.Verdict != packet.Tx || o.Port != 1 {
			t.Fatalf("packet %d: outcome %+v", k, o)
		}
		frame := fr.Bytes(region)
		want := uint32(nf.FramesStart + fr.Pos())
		before := le.Uint32(frame) // what the receiver left
		for hop := range 3 {
			at := frame[8*hop:]
			if got := le.Uint32(at[8:]); got != want {
				t.Errorf("packet %d: hop %d found it at %#x, want %#x", k, hop, got, want)
			}
			if got := le.Uint32(at[12:]); got != before {
				t.Errorf("packet %d: hop %d read %#x, want %#x that hop %d wrote", k, hop, got, before, hop-1)
			}
			before = le.Uint32(at[8:])
		}
	}

	// The same bytes seen through every function's own mapping are one page:
	// a write through one shows in the others and in the host's.
	addr := uint32(nf.FramesStart + f.burst.Frames[5].Pos())
	views := [][]byte{region[f.burst.Frames[5].Pos():][:64]}
	for _, h := range f.group.hops {
		views = append(views, h.current.Load().memory(addr, 64))
	}
	for i, v := range views {
		copy(v, bytes.Repeat([]byte{byte(0xa0 + i)}, 64))
		for j, other := range views {
			if !bytes.Equal(v, other) {
				t.Errorf("a write through view %d does not show in view %d", i, j)
			}
			if i != j && &v[0] == &other[0] {
				t.Errorf("views %d and %d have one host address: no mapping was tested", i, j)
			}
		}
	}
}

// Private memory is private: what one function writes above DataStart, the
// next does not see, nor another tenant's through the scrap.
func TestPrivateMemoryIsPrivate(t *testing.T) {
	f := newFixture(t, fixtureOptions{}, "empty", "empty")
	a, b := f.group.hops[0].current.Load(), f.group.hops[1].current.Load()
	for _, addr := range []uint32{nf.CountersStart, nf.ConfigStart + nf.ConfigMax - 8, nf.DataStart} {
		copy(a.memory(addr, 8), "private!")
		if got := b.memory(addr, 8); bytes.Equal(got, []byte("private!")) {
			t.Errorf("address %#x is shared", addr)
		}
	}
}

func TestGroupDoesNotAllocate(t *testing.T) {
	f := newFixture(t, fixtureOptions{}, "empty", "stamp", "empty")
	f.fill(64, 200)
	if n := testing.AllocsPerRun(1000, func() {
		f.burst.N = 64
		f.group.Process(&f.burst)
	}); n != 0 {
		t.Errorf("%v allocations per burst", n)
	}
	if s := f.group.Stats()[1]; s.Counters["stamped"] < 64*1000 {
		t.Errorf("only %d packets went through", s.Counters["stamped"])
	}
}

// script is testdata/good/script.wat in Go.
type script struct{ region []byte }

func (s script) Process(descs []packet.Desc) {
	le := binary.LittleEndian
	for i := range descs {
		d := &descs[i]
		p := s.region[d.Chunk-nf.FramesStart+256+d.Mark*12:][:12]
		d.Mark++
		if p[1]&1 != 0 {
			d.Off = le.Uint16(p[4:])
		}
		if p[1]&2 != 0 {
			d.Len = le.Uint16(p[6:])
		}
		if p[1]&4 != 0 {
			d.OutPort = le.Uint16(p[8:])
		}
		d.Verdict = packet.Verdict(p[0])
		d.Reason = le.Uint16(p[2:])
		if p[1]&8 != 0 {
			d.Chunk = uint32(le.Uint16(p[10:]))
		}
	}
}

func (script) Close() error { return nil }

// The C side and chains.Forwarder settle every verdict, honest or not, alike.
func TestGroupSettlesLikeForwarder(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("TEST_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("TEST_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	const hops = 4
	f := newFixture(t, fixtureOptions{}, repeat("script", hops)...)
	region := f.mem.Frames.Bytes()
	descs := f.mem.Descs()
	fns := make([]chains.Function, hops)
	reasons := make([]uint16, hops)
	for i := range fns {
		fns[i], reasons[i] = script{region}, 2
	}
	fwd := chains.NewForwarder(descs, 2, fns, reasons)

	seen := map[packet.Outcome]int{}
	for range 3000 {
		n := 1 + rng.IntN(packet.BurstSize)
		f.fill(n, 200)
		for k := range n {
			p := f.burst.Frames[k].Bytes(region)
			for hop := range hops {
				s := p[12*hop:]
				s[0], s[1] = byte(packet.Next), 0
				if rng.IntN(4) == 0 {
					for i := range 12 {
						s[i] = byte(rng.Uint32())
					}
					s[0], s[1] = byte(rng.IntN(6)), byte(rng.IntN(16))
					binary.LittleEndian.PutUint16(s[2:], uint16(rng.IntN(4)))
					binary.LittleEndian.PutUint16(s[4:], uint16(rng.IntN(2100)))
					binary.LittleEndian.PutUint16(s[6:], uint16(rng.IntN(2100)))
					binary.LittleEndian.PutUint16(s[8:], uint16(rng.IntN(3)))
				}
				if s[1]&8 != 0 && hop < hops-1 {
					// A chunk address that is not one ends the packet here, so
					// that the next hop does not follow it.
					s[0] = byte(packet.Next)
				}
			}
		}
		saved := *descs
		a := f.burst
		f.group.Process(&a)
		*descs = saved
		b := f.burst
		fwd.Process(&b)
		for k := range n {
			if a.Out[k] != b.Out[k] || (a.Out[k].Verdict != packet.Drop && a.Frames[k] != b.Frames[k]) {
				t.Fatalf("packet %d of %d: C says %+v %+v, Go says %+v %+v", k, n, a.Out[k], a.Frames[k], b.Out[k], b.Frames[k])
			}
			o := a.Out[k]
			o.Port = 0
			seen[o]++
		}
	}
	if len(seen) < 20 {
		t.Errorf("only %d kinds of outcome were seen", len(seen))
	}
}

func TestConfigRefused(t *testing.T) {
	rt := openRuntime(t)
	m, err := rt.Compile(module(t, "configure_refuses"))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	_, err = rt.NewGroup(newMemory(t, 64), []Hop{{Name: "f", Module: m, Config: []byte("{}")}}, GroupOptions{})
	if !errors.Is(err, ErrConfigRefused) {
		t.Errorf("got %v", err)
	}
}
