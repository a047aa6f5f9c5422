package dataplane

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/bytecodealliance/wasmtime-go/v39"

	"sfc/dataplane/arena"
	"sfc/dataplane/packet"
	"sfc/nf"
	"sfc/nf/nftest"
	"sfc/nf/wasm"
	"sfc/testbed/gate"
)

// guest is one function of a wasmBed's path.
type guest struct {
	module string // file below nf/, .wasm or .wat
	config string // default {}
	open   bool   // fault policy
}

// catalogue is a path of all four functions that lets the test's traffic pass.
var catalogue = []guest{
	{module: "catalog/acl/acl.wasm", config: `{"default":"permit","rules":[
		{"action":"deny","src":"192.0.2.0/24"},{"action":"deny","proto":"tcp","dst_ports":23},{"action":"deny","src":"2001:db8:bad::/48"}]}`},
	{module: "catalog/ratelimit/ratelimit.wasm", config: `{"rate":1000000000,"burst":1000000000}`},
	{module: "catalog/dnsguard/dnsguard.wasm", config: `{"block":["ads.example"]}`},
	{module: "catalog/hop/hop.wasm", config: `{"src_mac":"02:00:00:00:00:51","dst_mac":"02:00:00:00:00:52"}`},
}

// wasmBed is a worker with two ports in memory and one path of guests.
type wasmBed struct {
	w       *Worker
	group   *wasm.Group
	in, out *MemPort
}

// bedOptions configure a wasmBed.
type bedOptions struct {
	shared   bool // the path has an arena of its own
	burst    int  // most packets per burst
	group    wasm.GroupOptions
	observer Observer // sets the packets' time
}

// newWasmBed makes everything; the test starts and stops the worker. What it
// made is closed, and looked for leaks, at the end of the test.
func newWasmBed(t *testing.T, opts bedOptions, guests ...guest) *wasmBed {
	t.Helper()
	gate.Leaks(t)
	rt, err := wasm.Open(wasm.Options{})
	check(t, err)
	t.Cleanup(func() { check(t, rt.Close()) })
	region := openRegion(t, 512)
	mem := wasm.Memory{Frames: region}
	mem.Control, err = wasm.NewControl()
	check(t, err)
	t.Cleanup(func() { check(t, mem.Control.Close()) })
	var own []byte
	if opts.shared {
		mem.Frames = openRegion(t, packet.BurstSize)
		own = mem.Frames.Bytes()
	}

	b := &wasmBed{}
	opts.group.Tenant, opts.group.Ports, opts.group.TimeEvery = "test", 2, 1
	b.group, err = rt.NewGroup(mem, compileHops(t, rt, guests), opts.group)
	check(t, err)
	t.Cleanup(func() { check(t, b.group.Close()) })

	pool := packet.NewPool(len(region.Bytes()))
	b.in = NewMemPort(region.Bytes(), pool, traffic(t), opts.burst, 0)
	b.out = NewMemPort(region.Bytes(), pool, nil, 0, 0)
	b.w, err = NewWorker(Config{
		Core: -1, Ports: []Port{b.in, b.out}, Region: region.Bytes(), Pool: pool, GuestBase: nf.FramesStart,
		Paths:    []Path{{Runner: b.group, Descs: mem.Descs(), Arena: own, Egress: 1}},
		Observer: opts.observer, PacketTime: opts.observer != nil,
	})
	check(t, err)
	return b
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openRegion(t *testing.T, chunks int) *arena.Region {
	t.Helper()
	r, err := arena.Open("frames", chunks*packet.ChunkSize, arena.Options{})
	check(t, err)
	t.Cleanup(func() { check(t, r.Close()) })
	return r
}

// compileHops compiles each module once.
func compileHops(t *testing.T, rt *wasm.Runtime, guests []guest) []wasm.Hop {
	t.Helper()
	compiled := map[string]*wasm.Module{}
	hops := make([]wasm.Hop, len(guests))
	for i, g := range guests {
		m := compiled[g.module]
		if m == nil {
			code, err := os.ReadFile(filepath.Join("../nf", g.module))
			check(t, err)
			if filepath.Ext(g.module) == ".wat" {
				code, err = wasmtime.Wat2Wasm(string(code))
				check(t, err)
			}
			m, err = rt.Compile(code)
			check(t, err)
			t.Cleanup(m.Close)
			compiled[g.module] = m
		}
		if g.config == "" {
			g.config = "{}"
		}
		hops[i] = wasm.Hop{Name: m.Manifest.Name, Module: m, Config: []byte(g.config), Open: g.open}
	}
	return hops
}

// traffic is what the catalogue's functions look at: IPv4 and IPv6, TCP, UDP,
// ICMP and DNS queries. All of it passes the catalogue.
func traffic(t *testing.T) []Template {
	t.Helper()
	a4, b4 := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	a6, b6 := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	query := []byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x00\x00\x01\x00\x01")
	var list []Template
	for i, s := range []nftest.Spec{
		{Src: a4, Dst: b4, Proto: packet.ProtoTCP, SPort: 1234, DPort: 80, TCPFlags: 2},
		{Src: a4, Dst: b4, Proto: packet.ProtoUDP, SPort: 1234, DPort: 53, Payload: query},
		{Src: a6, Dst: b6, Proto: packet.ProtoTCP, SPort: 1234, DPort: 443, Payload: make([]byte, 1000)},
		{Src: a6, Dst: b6, Proto: packet.ProtoUDP, SPort: 1234, DPort: 53, Payload: query},
		{Src: b4, Dst: a4, Proto: packet.ProtoICMP},
	} {
		frame := s.Frame()
		in, result := packet.Parse(frame)
		if result != packet.ParsedIP {
			t.Fatalf("template %d: %v", i, result)
		}
		list = append(list, Template{Frame: frame, Meta: packet.Meta{
			Seq: uint32(i), Hash: uint32(i), L3: in.L3, L4: in.L4, Flags: in.Flags, Proto: in.Proto, Version: packet.MetaVersion,
		}})
	}
	return list
}

// stop ends the worker and checks its books.
func (b *wasmBed) stop(t *testing.T) Counters {
	t.Helper()
	if err := b.w.Stop(); err != nil {
		t.Error(err)
	}
	c := b.w.Counters()
	if c.Received != c.Sent+c.Passed+c.Dropped || c.Sent != b.in.Transmitted+b.out.Transmitted {
		t.Errorf("received %d, sent %d (ports: %d) + passed %d + dropped %d", c.Received, c.Sent, b.in.Transmitted+b.out.Transmitted, c.Passed, c.Dropped)
	}
	if err := b.w.Verify(); err != nil {
		t.Error(err)
	}
	return c
}

// A turn over a whole chain of guests allocates nothing, in both memory modes.
func TestCatalogueTurnDoesNotAllocate(t *testing.T) {
	for _, shared := range []bool{false, true} {
		t.Run(map[bool]string{false: "exclusive", true: "shared"}[shared], func(t *testing.T) {
			b := newWasmBed(t, bedOptions{shared: shared, group: wasm.GroupOptions{Budget: time.Second}}, catalogue...)
			b.in.Left = 1 << 30
			if n := testing.AllocsPerRun(2000, func() { b.w.turn() }); n != 0 {
				t.Errorf("%v allocations per turn", n)
			}
			b.in.Left = 0
			b.w.Run(func() bool { return true })
			c := b.stop(t)
			if c.Sent < 2000*packet.BurstSize || c.Dropped != 0 {
				t.Errorf("sent %d, dropped %d: the traffic must pass", c.Sent, c.Dropped)
			}
			for _, s := range b.group.Stats() {
				if s.Packets != c.Received || s.Verdicts[packet.Next] != c.Received {
					t.Errorf("%s: %d packets of %d, %v", s.Name, s.Packets, c.Received, s.Verdicts)
				}
			}
		})
	}
}

// stepClock is an Observer that makes each burst step later than the one
// before.
type stepClock struct{ now, step uint64 }

func (s *stepClock) Received(b *packet.Burst) {
	s.now += s.step
	b.NowNs = s.now
}
func (s *stepClock) Decided(*packet.Burst, []byte)      {}
func (s *stepClock) Sent([]uint64, uint64)              {}
func (s *stepClock) TxFull(uint32, uint16)              {}
func (s *stepClock) Unknown(uint32)                     {}
func (s *stepClock) Dropped(packet.Meta, packet.Reason) {}

// On the packets' clock sfc_tick is called every 100 ms of their time, not of
// ours, and not at all without packets.
func TestTicksFollowPacketClock(t *testing.T) {
	clock := &stepClock{step: uint64(50 * time.Millisecond)}
	b := newWasmBed(t, bedOptions{burst: 10, observer: clock}, guest{module: "wasm/testdata/good/tick_counts.wat"})
	b.in.Left = 500
	check(t, b.w.Start())
	b.await(t, func() bool { return b.w.Counters().Received == 500 && b.w.Counters().Sleeps > 2 })
	b.stop(t)
	if s := b.group.Stats()[0]; s.Counters["ticks"] != 25 || s.Counters["packets"] != 500 {
		t.Errorf("counters %v, want 25 ticks in 50 bursts of 50 ms", s.Counters)
	}
}

// On the wall clock sfc_tick is called without packets too.
func TestTicksWithoutTraffic(t *testing.T) {
	b := newWasmBed(t, bedOptions{}, guest{module: "wasm/testdata/good/tick_counts.wat"})
	start := time.Now()
	check(t, b.w.Start())
	b.await(t, func() bool { return b.group.Stats()[0].Counters["ticks"] >= 3 })
	b.stop(t)
	if took, n := time.Since(start), b.group.Stats()[0].Counters["ticks"]; n > uint64(took/tickEvery)+1 {
		t.Errorf("%d ticks in %v", n, took)
	}
}

// await waits until ok.
func (b *wasmBed) await(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			b.w.Stop()
			t.Fatalf("not reached; counters %+v, functions %+v", b.w.Counters(), b.group.Stats())
		}
	}
}
