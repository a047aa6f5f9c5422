package flow

import (
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sfc/dataplane/packet"
)

// testSeed returns the seed of random tests: TEST_SEED, else the clock. It is
// logged, so that a failure can be seen again.
func testSeed(tb testing.TB) uint64 {
	tb.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			tb.Fatalf("TEST_SEED=%q: %v", text, err)
		}
	}
	tb.Logf("TEST_SEED=%d", seed)
	return seed
}

// chooser draws numbers below n; rapid and a plain generator are ones.
type chooser func(n int) uint32

// failer is what testing.T and rapid.T have in common.
type failer interface {
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// traffic compares a table with the oracle on whatever a chooser makes up.
type traffic struct {
	t      failer
	g, far *rig // flows move to far and back
	opts   [2]Options
	o      *oracle
	pick   chooser
	slots  map[int]uint32 // slot by the oracle's number of the flow
	owner  map[uint32]int // and back
	count  [Unknown + 1]int
}

// shortTimeouts make flows expire within a test.
var shortTimeouts = Timeouts{
	TCPOpening: 4 * time.Second, TCPEstablished: 60 * time.Second, TCPClosing: 5 * time.Second, TCPClosed: 3 * time.Second, TCPReset: time.Second,
	UDPOneWay: 2 * time.Second, UDPTwoWay: 7 * time.Second, ICMP: 2500 * time.Millisecond, OtherOneWay: 2 * time.Second, OtherTwoWay: 9 * time.Second,
}

func newTraffic(t *testing.T, fail failer, pick chooser, opts Options) *traffic {
	opts.Timeouts = shortTimeouts
	here, there := memoryOf(opts), memoryOf(opts)
	x := &traffic{
		t: fail, g: newRig(t, here), far: newRig(t, there), opts: [2]Options{here, there}, o: newOracle(shortTimeouts), pick: pick,
		slots: map[int]uint32{}, owner: map[uint32]int{},
	}
	// So many notes that none is ever lost, of which the oracle knows nothing.
	r, err := NewReader(ReaderOptions{Key: secret, Fragments: 1 << 15})
	if err != nil {
		t.Fatal(err)
	}
	x.g.r = r
	return x
}

// packet makes one up. Few hosts and ports, so that flows meet.
func (x *traffic) packet() *sent {
	p := x.pick
	s := &sent{v6: p(3) == 0, src: 1 + p(4), dst: 1 + p(4), vlan: uint16(p(8) / 7)}
	if p(6) == 0 {
		s.src = 5 + p(3) // hosts that bindings speak of
	}
	icmp, echo := packet.ProtoICMP, uint8(8)
	if s.v6 {
		icmp, echo, s.ext = packet.ProtoICMPv6, 128, p(4) == 0
	}
	switch p(10) {
	case 0, 1, 2, 3:
		s.proto, s.sport, s.dport = packet.ProtoTCP, uint16(1+p(3)), uint16(1+p(3))
		s.tcp = []uint8{tcpACK, tcpSYN, tcpSYN | tcpACK, tcpACK | tcpFIN, tcpACK, tcpRST, tcpACK | 8, 0}[p(8)]
		s.seq, s.ack = 100, 101+p(2)
	case 4, 5:
		s.proto, s.sport, s.dport = packet.ProtoUDP, uint16(1+p(3)), uint16(1+p(3))
	case 6:
		s.proto, s.sport, s.dport = packet.ProtoSCTP, uint16(1+p(2)), uint16(1+p(2))
	case 7:
		s.proto, s.typ, s.sport = icmp, echo, uint16(1+p(3))
		s.dport = s.sport
		if p(2) == 0 {
			s.typ = s.back().typ
		}
	case 8:
		s.proto = packet.ProtoESP
	case 9:
		s.proto, s.typ = icmp, 3
		if s.v6 {
			s.typ = 1
		}
		q := x.packet()
		for q.quote != nil || q.v6 != s.v6 || q.frag == laterPart {
			q = x.packet()
		}
		s.quote = q
		return s
	}
	if p(6) == 0 {
		s.frag, s.id = fragmentPart(1+p(2)), 1+p(3)
	}
	return s
}

// burst looks 1 to 64 packets up and compares every answer.
func (x *traffic) burst() {
	g := x.g
	var packets []*sent
	var want []verdict
	for range 1 + x.pick(packet.BurstSize) {
		s := x.packet()
		packets = append(packets, s)
		want = append(want, x.o.packet(s, g.now/1e6))
	}
	for k, r := range g.burst(packets...) {
		w := want[k]
		x.count[r.Status]++
		if r.Status != w.status || r.Status <= Created != (r.Slot != NoSlot) {
			x.t.Fatalf("packet %d of %d, %+v: %v, slot %d, the oracle says %+v", k, len(packets), *packets[k], r.Status, int32(r.Slot), w)
		}
		if r.Slot == NoSlot {
			continue
		}
		if r.Status == Created {
			if other, used := x.owner[r.Slot]; used {
				x.t.Fatalf("packet %d: slot %d is still flow %d's", k, r.Slot, other)
			}
			x.slots[w.flow], x.owner[r.Slot] = r.Slot, w.flow
		}
		if x.slots[w.flow] != r.Slot || r.Flags&packet.FlagReverse != 0 != w.reverse || r.Flags&packet.FlagNewFlow != 0 != (w.status == Created) {
			x.t.Fatalf("packet %d of %d, %+v: slot %d, flags %#x, the oracle says %+v, slot %d", k, len(packets), *packets[k], r.Slot, r.Flags, w, x.slots[w.flow])
		}
	}
}

// drain takes ended slots, which the oracle must not think alive.
func (x *traffic) drain() {
	for _, slot := range x.g.drain() {
		flow := x.owner[slot]
		if _, alive := x.o.flows[flow]; alive {
			x.t.Fatalf("slot %d was drained, its flow %d lives", slot, flow)
		}
		delete(x.owner, slot)
		delete(x.slots, flow)
	}
	if len(x.owner) != len(x.o.flows) {
		x.t.Fatalf("%d slots in use, the oracle has %d flows", len(x.owner), len(x.o.flows))
	}
}

// age sweeps the whole table, as the oracle does.
func (x *traffic) age() {
	ended := x.o.age(x.g.now / 1e6)
	n := x.g.sweep()
	if n > len(ended) {
		x.t.Fatalf("%d flows ended by age, by the oracle %d", n, len(ended))
	}
	x.drain()
}

// bind binds a made-up tuple to some flow.
func (x *traffic) bind() {
	s := x.packet()
	for s.quote != nil || s.proto == packet.ProtoESP {
		s = x.packet()
	}
	if s.typ == 0 && s.proto == packet.ProtoICMP {
		s.typ = 8
	}
	if s.typ == 129 {
		s.typ = 128
	}
	s.src = 5 + x.pick(3)
	x.age()
	slot := x.pick(64)
	if live := slices.Sorted(maps.Keys(x.owner)); len(live) > 0 && x.pick(8) != 0 {
		slot = live[x.pick(len(live))]
	}
	flow, used := x.owner[slot]
	if !used {
		flow = -1
	}
	if got, want := x.g.t.Bind(slot, s.tuple()), x.o.bind(flow, s); got != want {
		x.t.Fatalf("bind %+v to slot %d, flow %d: %v, the oracle says %v", *s, slot, flow, got, want)
	}
}

// move takes all flows to another table and goes on there.
func (x *traffic) move() {
	x.drain()
	slots, owner := map[int]uint32{}, map[uint32]int{}
	for bucket := range uint32(len(x.g.t.heads)) {
		for slot := x.g.t.First(bucket); slot != NoSlot; slot = x.g.t.First(bucket) {
			to := carryOver(x.t, x.g.t, x.far.t, slot)
			flow := x.owner[slot]
			slots[flow], owner[to] = to, flow
		}
	}
	x.far.now, x.far.r = x.g.now, x.g.r
	x.g, x.far = x.far, x.g
	x.opts[0], x.opts[1] = x.opts[1], x.opts[0]
	x.slots, x.owner = slots, owner
}

// step does one thing.
func (x *traffic) step() {
	switch x.pick(17) {
	case 0, 1, 2, 3, 4:
		x.bind()
	case 5:
		x.age()
	case 6:
		x.move()
	case 7:
		x.g.now += uint64(x.pick(4000)) * 1e6
	case 8: // another process goes on
		if r := x.g.restore(x.opts[0]); r.Torn+r.LostBinds+r.Arriving+r.Leaving != 0 {
			x.t.Fatalf("restored %+v", r)
		}
	default:
		x.g.now += uint64(x.pick(100)) * 1e6
		x.burst()
		x.drain()
	}
}

// Anything rapid can think of, as short as it can make it.
func TestTableAgainstOracleRapid(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		pick := func(n int) uint32 { return rapid.Uint32Range(0, uint32(n-1)).Draw(rt, "n") }
		x := newTraffic(t, rt, pick, Options{Max: 4096, Bindings: 4096, Buckets: 4})
		for range rapid.IntRange(1, 20).Draw(rt, "steps") {
			x.step()
		}
		x.g.verify()
		x.far.verify()
	})
}

// At least 100,000 packets in one go.
func TestTableAgainstOracle(t *testing.T) {
	seed := testSeed(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	x := newTraffic(t, t, func(n int) uint32 { return rng.Uint32N(uint32(n)) }, Options{Max: 4096, Bindings: 8192, Buckets: 8})
	total := 0
	for i := 0; total < 150_000; i++ {
		x.step()
		if i%64 == 0 {
			x.g.verify()
			x.far.verify()
		}
		total = 0
		for _, n := range x.count {
			total += n
		}
	}
	for _, s := range []Status{Found, Created, Unrelated, Unknown} {
		if x.count[s] < 1000 {
			t.Errorf("only %d packets were %v", x.count[s], s)
		}
	}
	if f := x.g.r.Fragments(); f.Lost != 0 {
		t.Errorf("the oracle expects that no note is lost: %+v", f)
	}
	t.Logf("%d packets by status %v, %+v", total, x.count, x.g.t.Counters())
}

// Tables of a few slots, always full, some bursts without a drain: no slot is
// in two hands, and the table stays sound.
func TestTinyTablesUnderTraffic(t *testing.T) {
	rng := rand.New(rand.NewPCG(testSeed(t), 0))
	for _, size := range []uint32{1, 2, 3, 4, 5, 8, 16, 63} {
		x := newTraffic(t, t, func(n int) uint32 { return rng.Uint32N(uint32(n)) }, Options{Max: size, Bindings: 3, Buckets: 2})
		g := x.g
		taken := map[uint32]bool{}
		refused := 0
		for range 400 {
			g.now += uint64(rng.IntN(200)) * 1e6
			var packets []*sent
			for range 1 + rng.IntN(packet.BurstSize) {
				packets = append(packets, x.packet())
			}
			for _, r := range g.burst(packets...) {
				switch r.Status {
				case Created:
					if taken[r.Slot] || r.Slot >= size {
						t.Fatalf("slot %d of %d was given out twice", r.Slot, size)
					}
					taken[r.Slot] = true
					g.t.Bind(r.Slot, udp(5+rng.Uint32N(3), 1, 1, 1).tuple())
				case Found:
					if !taken[r.Slot] {
						t.Fatalf("slot %d is nobody's", r.Slot)
					}
				case Refused:
					refused++
				case NotAFlow, Unrelated, Unknown:
				}
			}
			g.t.Age(g.now, rng.IntN(10))
			g.verify()
			if rng.IntN(3) == 0 {
				continue
			}
			for _, slot := range g.drain() {
				if !taken[slot] {
					t.Fatalf("slot %d was drained and nobody had it", slot)
				}
				delete(taken, slot)
			}
		}
		if refused == 0 {
			t.Errorf("a table of %d slots refused nobody", size)
		}
	}
}
