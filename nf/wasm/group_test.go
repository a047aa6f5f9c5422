package wasm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

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
		views = append(views, h.cur.Load().current.Load().memory(addr, 64))
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
	a, b := f.group.hops[0].cur.Load().current.Load(), f.group.hops[1].cur.Load().current.Load()
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

func TestConfigTooLong(t *testing.T) {
	rt := openRuntime(t)
	m, err := rt.Compile(module(t, "empty"))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, err := rt.NewGroup(newMemory(t, 64), []Hop{{Name: "f", Module: m, Config: make([]byte, nf.ConfigMax+1)}}, GroupOptions{}); err == nil {
		t.Error("a configuration longer than its place was taken")
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

// A function sends only where its tenant has a say.
func TestEgressPorts(t *testing.T) {
	f := newFixture(t, fixtureOptions{group: GroupOptions{Ports: 3, Egress: 1<<1 | 1<<2}}, "script")
	region := f.mem.Frames.Bytes()
	for port, want := range map[uint16]string{0: "script.bad_port", 1: "", 2: "", 3: "script.bad_port", 64: "script.bad_port"} {
		f.fill(1, 100)
		s := f.burst.Frames[0].Bytes(region)
		s[0], s[1] = byte(packet.Tx), 4
		binary.LittleEndian.PutUint16(s[8:], port)
		f.group.Process(&f.burst)
		switch o := f.burst.Out[0]; {
		case want == "" && (o.Verdict != packet.Tx || o.Port != port):
			t.Errorf("port %d: %+v, want it sent there", port, o)
		case want != "" && f.group.ReasonName(o) != want:
			t.Errorf("port %d: %+v, want %s", port, o, want)
		}
	}
}
