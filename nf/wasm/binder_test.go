package wasm

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
)

// Answers of the imports, as in nf/ABI.md.
const (
	bindOK = iota
	bindTaken
	bindFull
	bindNoFlow
	bindLimit
	bindBad
)

// What testdata/good/gives.wat does for a packet.
const (
	giveTuple = iota + 1
	giveClaim
	giveFind
	giveTrap
	givePointer
)

var bindKey = [2]uint64{3, 4}

// giver is a worker: the function gives, a flow table, and what both share
// with other workers of their chain.
type giver struct {
	*fixture
	t       testing.TB
	pins    *steer.Pins
	claims  *steer.Pins
	table   *flow.Table
	reader  *flow.Reader
	queries [packet.BurstSize]flow.Query
	results [packet.BurstSize]flow.Result
	now     uint64
}

type giverOptions struct {
	fixtureOptions
	chain        uint16
	pins, claims *steer.Pins // nil: of its own
	max, room    uint32      // flows and bindings; 0: 256
	modules      []string    // default: gives
}

func newTestPins(tb testing.TB, entries int) *steer.Pins {
	tb.Helper()
	p, err := steer.NewPins(make([]byte, steer.PinsSize(entries)))
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func newGiver(tb testing.TB, o giverOptions) *giver {
	tb.Helper()
	g := &giver{t: tb, pins: o.pins, claims: o.claims, now: 1e9}
	if g.pins == nil {
		g.pins = newTestPins(tb, 1000)
	}
	if g.claims == nil {
		g.claims = newTestPins(tb, 1000)
	}
	if o.max == 0 {
		o.max = 256
	}
	if o.room == 0 {
		o.room = 256
	}
	var err error
	if g.reader, err = flow.NewReader(flow.ReaderOptions{Key: bindKey}); err != nil {
		tb.Fatal(err)
	}
	g.table, err = flow.New(flow.Options{
		Key: bindKey, Max: o.max, Bindings: o.room, Pins: g.pins, Claims: g.claims, Chain: o.chain, Buckets: steer.Buckets,
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := g.table.Close(); err != nil {
			tb.Error(err)
		}
	})
	o.group.Flows = int(o.max)
	o.group.Grants = Grants{Pins: g.pins, Claims: g.claims, Chain: o.chain, Key: bindKey, Ledger: g.table.Ledger()}
	if o.modules == nil {
		o.modules = []string{"gives"}
	}
	g.fixture = newFixture(tb, o.fixtureOptions, o.modules...)
	return g
}

// give is one packet: of which flow, and what the function is to do.
type give struct {
	flow     uint32 // 0: none
	what     uint8
	i        int32 // -1: its own descriptor
	hi, lo   uint64
	value    uint64
	tuple    [flow.TupleSize]byte
	wantSlot uint32
}

// frameOf is a packet of flow n: UDP from 10.0.0.n to 10.9.9.9.
func frameOf(n uint32) []byte {
	f := make([]byte, 14+20+8)
	f[12] = 8
	ip := f[14:]
	ip[0], ip[3], ip[8], ip[9] = 0x45, 28, 64, packet.ProtoUDP
	binary.BigEndian.PutUint32(ip[12:], 10<<24|n)
	copy(ip[16:], []byte{10, 9, 9, 9})
	binary.BigEndian.PutUint16(ip[20:], 1000)
	binary.BigEndian.PutUint16(ip[22:], 53)
	binary.BigEndian.PutUint16(ip[24:], 8)
	return f
}

// ownTuple is that of frameOf.
func ownTuple(n uint32) flow.Tuple {
	return flow.Tuple{
		Src: netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), Dst: netip.AddrFrom4([4]byte{10, 9, 9, 9}),
		SrcPort: 1000, DstPort: 53, Proto: packet.ProtoUDP,
	}
}

// translated is a tuple as a source translation to port makes it.
func translated(port uint16) (raw [flow.TupleSize]byte) {
	t := ownTuple(1)
	t.Src, t.SrcPort = netip.AddrFrom4([4]byte{192, 0, 2, 1}), port
	return [flow.TupleSize]byte(flow.AppendTuple(nil, &t))
}

// lookup finds the flows of frames, and returns their slots.
func (g *giver) lookup(frames ...[]byte) []uint32 {
	for k, f := range frames {
		in, _ := packet.Parse(f)
		m := packet.Meta{RxNs: g.now, Hash: packet.FlowHash(bindKey, &in), L3: in.L3, L4: in.L4, Flags: in.Flags, Proto: in.Proto}
		g.reader.Read(f, &m, &g.queries[k])
	}
	g.table.Lookup(&g.queries, len(frames), &g.results)
	slots := make([]uint32, len(frames))
	for k := range frames {
		slots[k] = g.results[k].Slot
	}
	return slots
}

// run processes one burst and returns the function's answers. Without apply the
// flow table is not told.
func (g *giver) run(apply bool, gives ...give) []uint64 {
	g.t.Helper()
	answers := g.process(gives)
	if apply {
		g.group.ApplyBinds(g.table)
		g.verify()
	}
	return answers
}

// process is run up to the end of the function.
func (g *giver) process(gives []give) []uint64 {
	g.lay(gives)
	g.group.Process(&g.burst)
	region := g.mem.Frames.Bytes()
	answers := make([]uint64, len(gives))
	for k := range gives {
		answers[k] = binary.LittleEndian.Uint64(g.burst.Frames[k].Bytes(region)[72:])
	}
	return answers
}

// lay lays a burst out.
func (g *giver) lay(gives []give) {
	frames := make([][]byte, len(gives))
	for k, o := range gives {
		if frames[k] = make([]byte, 60); o.flow != 0 {
			frames[k] = frameOf(o.flow)
		}
	}
	copy(g.burst.Slot[:], g.lookup(frames...))
	g.fill(len(gives), 100)
	region := g.mem.Frames.Bytes()
	for k, o := range gives {
		f := g.burst.Frames[k].Bytes(region)
		clear(f)
		f[0] = o.what
		binary.LittleEndian.PutUint32(f[4:], uint32(o.i))
		binary.LittleEndian.PutUint64(f[8:], o.hi)
		binary.LittleEndian.PutUint64(f[16:], o.lo)
		binary.LittleEndian.PutUint64(f[24:], o.value)
		copy(f[32:], o.tuple[:])
		// What the descriptor says is not what counts.
		g.mem.Descs()[k].Slot = o.wantSlot
	}
}

func (g *giver) verify() {
	g.t.Helper()
	if err := g.table.Verify(); err != nil {
		g.t.Fatal(err)
	}
	for _, p := range []*steer.Pins{g.pins, g.claims} {
		if _, err := p.Verify(); err != nil {
			g.t.Fatal(err)
		}
	}
}

// want compares answers.
func (g *giver) want(what string, got []uint64, want ...uint64) {
	g.t.Helper()
	for k := range want {
		if got[k] != want[k] {
			g.t.Errorf("%s: packet %d: answer %d, want %d", what, k, got[k], want[k])
		}
	}
}

// endAll lets all flows end, and expects that nothing is left behind.
func (g *giver) endAll() {
	g.t.Helper()
	g.now += 1e15
	for range 1 << 10 {
		g.now += 10e9
		g.table.Age(g.now, 1<<20)
		if g.table.Live() == 0 {
			break
		}
	}
	var slots [64]uint32
	for n := g.table.Drain(slots[:]); n > 0; n = g.table.Drain(slots[:]) {
		g.group.FlowEnd(slots[:n])
	}
	g.verify()
	if g.table.Live() != 0 || g.pins.Live() != 0 || g.claims.Live() != 0 {
		g.t.Errorf("left: %d flows, %d pins, %d claims", g.table.Live(), g.pins.Live(), g.claims.Live())
	}
}

// reply is the packet that answers translated(port).
func reply(port uint16) []byte {
	f := frameOf(1)
	ip := f[14:]
	copy(ip[12:16], []byte{10, 9, 9, 9})
	copy(ip[16:20], []byte{192, 0, 2, 1})
	binary.BigEndian.PutUint16(ip[20:], 53)
	binary.BigEndian.PutUint16(ip[22:], port)
	return f
}

// A bound tuple finds its flow, steering is told, and all of it goes with the
// flow.
func TestBind(t *testing.T) {
	g := newGiver(t, giverOptions{chain: 5})
	own := ownTuple(1)
	g.want("bind", g.run(true,
		give{flow: 1, what: giveTuple, i: -1, tuple: translated(40000)},
		give{flow: 1, what: giveTuple, i: -1, tuple: translated(40000)}, // again
		give{flow: 2, what: giveTuple, i: -1, tuple: translated(40000)}, // another flow
		give{flow: 1, what: giveTuple, i: -1, tuple: [flow.TupleSize]byte(flow.AppendTuple(nil, &own))},
	), bindOK, bindOK, bindTaken, bindOK)
	slot := g.burst.Slot[0]
	if got := g.lookup(reply(40000)); got[0] != slot || g.results[0].Flags != packet.FlagReverse {
		t.Errorf("the reply finds %+v, want slot %d", g.results[0], slot)
	}
	// What the steering program reads.
	in, _ := packet.Parse(reply(40000))
	v, ok := g.pins.Lookup(steer.PinKey(packet.FlowHash64(bindKey, &in), 5))
	owner, _ := g.table.OwnerOf(slot)
	if chain, bucket := steer.PinOwner(v); !ok || chain != 5 || bucket != steer.Bucket(owner) {
		t.Errorf("pinned to chain %d, bucket %d (%v), want bucket %d", chain, bucket, ok, steer.Bucket(owner))
	}
	// Its own tuple needs no pin.
	if g.pins.Live() != 1 {
		t.Errorf("%d pins", g.pins.Live())
	}
	g.want("the flow has room for one more", g.run(true,
		give{flow: 1, what: giveTuple, i: -1, tuple: translated(40001)},
		give{flow: 1, what: giveTuple, i: -1, tuple: translated(40002)},
		give{flow: 1, what: giveTuple, i: -1, tuple: translated(40001)},
	), bindOK, bindLimit, bindOK)
	g.endAll()
}

// Keys belong to the function that claims them, and to all flows that do with
// the same value.
func TestClaim(t *testing.T) {
	g := newGiver(t, giverOptions{modules: []string{"gives", "gives"}})
	claim := func(flow uint32, key, value uint64) give {
		return give{flow: flow, what: giveClaim, i: -1, hi: 7, lo: key, value: value}
	}
	find := give{flow: 1, what: giveFind, i: -1, hi: 7, lo: 1}
	// Two functions do the same one after the other: what the second is told
	// shows.
	g.want("claim", g.run(true, claim(1, 1, 100), claim(2, 1, 100), claim(3, 1, 101), claim(1, 1, 100), claim(1, 1, 101), find),
		bindOK, bindOK, bindTaken, bindOK, bindTaken, 100)
	if g.claims.Live() != 2 {
		t.Errorf("%d keys: each function has its own", g.claims.Live())
	}
	g.want("limit", g.run(true, claim(1, 2, 1)), bindLimit) // one key of each function
	other := newGiver(t, giverOptions{fixtureOptions: fixtureOptions{runtime: g.rt}, chain: 1, claims: g.claims})
	other.want("another chain", other.run(true, find, claim(1, 1, 5), find), 0, bindOK, 5)
	other.endAllBut(2)
	g.endAll()
}

// endAllBut is endAll where others hold so many keys of the same table.
func (g *giver) endAllBut(claims int) {
	g.t.Helper()
	if err := g.table.Close(); err != nil {
		g.t.Fatal(err)
	}
	if got := g.claims.Live(); got != claims {
		g.t.Errorf("%d keys are left, want %d", got, claims)
	}
}

// What a guest may not do it is told, and harms nobody.
func TestBindHostile(t *testing.T) {
	bad := func(change func(raw *[flow.TupleSize]byte)) [flow.TupleSize]byte {
		raw := translated(1)
		change(&raw)
		return raw
	}
	g := newGiver(t, giverOptions{})
	g.run(true, give{flow: 9}) // a flow to forge the slot of
	victim := g.burst.Slot[0]
	for _, c := range []struct {
		name string
		give give
		want uint64
	}{
		{"no flow", give{what: giveTuple, i: -1, tuple: translated(1)}, bindNoFlow},
		{"no flow, a slot forged", give{what: giveTuple, i: -1, tuple: translated(1), wantSlot: victim}, bindNoFlow},
		{"claim, a slot forged", give{what: giveClaim, i: -1, wantSlot: victim}, bindNoFlow},
		{"descriptor past the burst", give{flow: 1, what: giveTuple, i: 1, tuple: translated(1)}, bindNoFlow},
		{"descriptor 64", give{flow: 1, what: giveClaim, i: 64}, bindNoFlow},
		{"descriptor 2^31", give{flow: 1, what: giveClaim, i: -1 << 31}, bindNoFlow},
		{"pointer past memory", give{flow: 1, what: givePointer, i: -1, hi: 4097 << 16}, bindBad},
		{"pointer across the end", give{flow: 1, what: givePointer, i: -1, hi: 4097<<16 - 39}, bindBad},
		{"pointer that wraps", give{flow: 1, what: givePointer, i: -1, hi: 0xffffffff}, bindBad},
		{"pointer to zeros", give{flow: 1, what: givePointer, i: -1, hi: 4097<<16 - 40}, bindBad},
		{"family 0", give{flow: 1, what: giveTuple, i: -1, tuple: bad(func(r *[flow.TupleSize]byte) { r[37] = 0 })}, bindBad},
		{"family 5", give{flow: 1, what: giveTuple, i: -1, tuple: bad(func(r *[flow.TupleSize]byte) { r[37] = 5 })}, bindBad},
		{"padding", give{flow: 1, what: giveTuple, i: -1, tuple: bad(func(r *[flow.TupleSize]byte) { r[39] = 1 })}, bindBad},
		{"query of UDP", give{flow: 1, what: giveTuple, i: -1, tuple: bad(func(r *[flow.TupleSize]byte) { r[38] = 8 })}, bindBad},
		{"ports of ICMP", give{flow: 1, what: giveTuple, i: -1, tuple: bad(func(r *[flow.TupleSize]byte) { r[36] = 1 })}, bindBad},
		{"two identifiers", give{flow: 1, what: giveTuple, i: -1, tuple: bad(func(r *[flow.TupleSize]byte) { r[36], r[38] = 1, 8 })}, bindBad},
	} {
		g.want(c.name, g.run(true, c.give), c.want)
	}
	if g.pins.Live() != 0 || g.claims.Live() != 0 {
		t.Errorf("%d pins and %d claims of nothing", g.pins.Live(), g.claims.Live())
	}
	// Claims without end: two a flow.
	var greedy []give
	for i := range packet.BurstSize {
		greedy = append(greedy, give{flow: 1, what: giveClaim, i: -1, lo: uint64(i)})
	}
	g.run(true, greedy...)
	if g.claims.Live() != steer.MaxClaims {
		t.Errorf("one flow holds %d keys", g.claims.Live())
	}
	g.endAll()
}

// A tenant that fills its share leaves the others theirs.
func TestBindShares(t *testing.T) {
	pins, claims := newTestPins(t, 1000), newTestPins(t, 1000)
	rt := openRuntime(t)
	a := newGiver(t, giverOptions{fixtureOptions: fixtureOptions{runtime: rt}, pins: pins.Share(10), claims: claims.Share(10)})
	b := newGiver(t, giverOptions{fixtureOptions: fixtureOptions{runtime: rt}, pins: pins.Share(10), claims: claims.Share(10), chain: 1, room: 5})
	fill := func(what uint8) (gives []give) {
		for i := range uint32(packet.BurstSize) {
			gives = append(gives, give{flow: i + 1, what: what, i: -1, lo: uint64(i), tuple: translated(uint16(i))})
		}
		return gives
	}
	count := func(answers []uint64, want uint64) (n int) {
		for _, a := range answers {
			if a == want {
				n++
			}
		}
		return n
	}
	for _, what := range []uint8{giveTuple, giveClaim} {
		if got := a.run(true, fill(what)...); count(got, bindOK) != 10 || count(got, bindFull) != packet.BurstSize-10 {
			t.Errorf("a share of 10: %v", got)
		}
		// The other has its share, and a flow table with room for 5 tuples.
		want := map[uint8]int{giveTuple: 5, giveClaim: 10}[what]
		if got := b.run(true, fill(what)...); count(got, bindOK) != want || count(got, bindFull) != packet.BurstSize-want {
			t.Errorf("room for %d: %v", want, got)
		}
	}
	if _, full := a.pins.Refused(); full != packet.BurstSize-10 {
		t.Errorf("%d refusals counted", full)
	}
	a.endAll()
	b.endAll()
}

// What a function was promised before it trapped holds, and goes with the flow.
func TestBindThenTrap(t *testing.T) {
	g := newGiver(t, giverOptions{})
	g.run(true,
		give{flow: 1, what: giveTuple, i: -1, tuple: translated(40000)},
		give{flow: 1, what: giveClaim, i: -1, lo: 1, value: 9},
		give{flow: 1, what: giveTrap})
	if o := g.burst.Out[0]; o.Verdict != packet.Drop || g.group.ReasonName(o) != "gives.fault" {
		t.Fatalf("no trap: %+v", o)
	}
	slot := g.burst.Slot[0]
	if got := g.lookup(reply(40000)); got[0] != slot {
		t.Errorf("the reply finds slot %d, want %d", got[0], slot)
	}
	g.want("a new instance", g.run(true,
		give{flow: 2, what: giveTuple, i: -1, tuple: translated(40000)},
		give{flow: 2, what: giveFind, i: -1, lo: 1},
		give{flow: 1, what: giveTuple, i: -1, tuple: translated(40000)},
	), bindTaken, 9, bindOK)
	g.endAll()
}

// A flow that has the tuple as its own gives way.
func TestBindTakesOver(t *testing.T) {
	g := newGiver(t, giverOptions{})
	squatter := g.lookup(reply(40000))[0]
	g.want("bind", g.run(true, give{flow: 1, what: giveTuple, i: -1, tuple: translated(40000)}), bindOK)
	if got := g.lookup(reply(40000)); got[0] != g.burst.Slot[0] || got[0] == squatter {
		t.Errorf("the reply finds slot %d, want %d", got[0], g.burst.Slot[0])
	}
	if _, ok := g.table.Describe(squatter); ok {
		t.Error("the other flow is still there")
	}
	g.endAll()
}

// A flow that ends in the same burst, before the table is told, leaves nothing.
func TestBindOfFlowThatEnds(t *testing.T) {
	g := newGiver(t, giverOptions{})
	g.run(false,
		give{flow: 1, what: giveTuple, i: -1, tuple: translated(40000)},
		give{flow: 1, what: giveClaim, i: -1, lo: 1})
	r, _ := g.table.Extract(g.burst.Slot[0])
	g.table.Abandon(&r)
	g.group.ApplyBinds(g.table)
	g.endAll()
}

func TestBindNeedsGrants(t *testing.T) {
	rt := openRuntime(t)
	m, err := rt.Compile(module(t, "gives"))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	_, err = rt.NewGroup(newMemory(t, 64), []Hop{{Name: "nat", Module: m, Config: []byte("{}")}}, GroupOptions{Flows: 8})
	if err == nil || !strings.Contains(err.Error(), "function nat has the capability flow_bind") {
		t.Errorf("got %v", err)
	}
}
