package dataplane

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
	"sfc/dataplane/ring"
	"sfc/dataplane/steer"
	"sfc/nf"
	"sfc/testbed/gate"
)

// played is a kernel with a steering program and several workers, in memory.
// It numbers the packets of each flow; the workers' functions compare that with
// what they keep of the flow.
type played struct {
	playedOptions
	t          *testing.T
	set        *Set
	owners     *steer.Owners
	key        [2]uint64
	region     []byte
	depot      *packet.Depot
	pool       *packet.Pool // of the sender
	rings      []*ring.Ring[packet.Frame]
	ports      []*playedPort
	flowTables []*flow.Table // by worker and chain
	clock      Clock
	wrong      atomic.Pointer[string]
	// last is the number behind that of the last packet of each flow that was
	// processed, wherever it was.
	last []atomic.Uint32
	// wire is the same of those that left by each port.
	wire [2][]atomic.Uint32
	// stopping says that packets may be dropped, by workers that stop.
	stopping atomic.Bool

	// running is held while the steering program runs: what a grace period
	// waits for.
	running sync.RWMutex
	// lose is how many of a thousand packets do not fit into the RX ring.
	lose   int
	lost   uint64
	offers uint64
	serial uint32        // of the packet that is written next
	others atomic.Uint64 // packets that were dropped or passed
	// window is how many packets may be under way; 0: any number.
	window uint64
}

// playedKey is the secret of the flow hash.
var playedKey = [2]uint64{3, 5}

// playedOptions say what there is.
type playedOptions struct {
	workers, flows int // flows: of every table
	chains         int // 0: one
	// arena copies packets into memory of their chain.
	arena bool
	// verdicts lets functions drop and pass some packets, by their numbers.
	verdicts bool
	// forgetful says that tables are smaller than the number of flows, so that
	// a flow may begin anew at any packet.
	forgetful bool
	// tables changes the options of the flow tables.
	tables func(*flow.Options)
	// config changes a worker's configuration.
	config func(*Config)
}

// playedPort is a worker's end. What it is given leaves a few frames at a time.
type playedPort struct {
	b    *played
	in   *ring.Ring[packet.Frame]
	pool *packet.Pool
	tx   []packet.Frame
	sent atomic.Uint64
	rnd  *rand.Rand
	// egress is the port's index.
	egress int
	// stuck, when set, decides how many frames leave instead.
	stuck func(waiting int) int
}

func (p *playedPort) Receive(f []packet.Frame) int {
	if p.in == nil {
		return 0
	}
	return p.in.Pop(f)
}

func (p *playedPort) Transmit(f []packet.Frame) int {
	n := min(len(f), cap(p.tx)-len(p.tx))
	p.tx = append(p.tx, f[:n]...)
	return n
}

func (p *playedPort) Flush() bool {
	n := min(p.rnd.IntN(128), len(p.tx))
	if p.stuck != nil {
		n = min(p.stuck(len(p.tx)), len(p.tx))
	}
	for _, f := range p.tx[:n] {
		p.b.leaves(p.egress, f.Bytes(p.b.region))
		clear(f.Bytes(p.b.region)) // somebody else's from now on
		p.pool.Put(f.Chunk)
	}
	p.sent.Add(uint64(n))
	p.tx = p.tx[:copy(p.tx, p.tx[n:])]
	return len(p.tx) > 0
}

func (p *playedPort) Refill()     {}
func (p *playedPort) PollFD() int { return -1 }
func (p *playedPort) Waiting() (rx, tx int) {
	if p.in != nil {
		rx = p.in.Len()
	}
	return rx, len(p.tx)
}
func (p *playedPort) Census() packet.Census {
	rx, tx := p.Waiting()
	return packet.Census{Rx: rx, Tx: tx}
}

// counter is a function that keeps in every slot how many packets of the flow
// it saw, and knows which number the next one has to have.
type counter struct {
	b      *played
	region []byte
	descs  *[packet.BurstSize]packet.Desc
	state  []uint32 // by slot
	pause  time.Duration
	asked  atomic.Uint32
	// end, when set, is called for ended flows.
	end func(slots []uint32)
}

// markOf is what the sender wrote into a packet: the number of its flow, its
// own among the flow's, and its own among all.
func markOf(frame []byte) (flow, n, serial uint32) {
	at := frame[len(frame)-20:]
	return binary.LittleEndian.Uint32(at[4:]), binary.LittleEndian.Uint32(at), binary.LittleEndian.Uint32(at[8:])
}

func (c *counter) Process(b *packet.Burst) {
	if c.pause > 0 {
		time.Sleep(c.pause)
	}
	for k := range int(b.N) {
		id, n, _ := markOf(b.Frames[k].Bytes(c.region))
		c.note(b, k, id, n)
		b.Out[k] = packet.Outcome{Verdict: packet.Tx, Port: c.descs[k].OutPort}
		if c.b.verdicts {
			switch (id + n) % 8 {
			case 1:
				b.Out[k] = packet.Outcome{Verdict: packet.Drop, Reason: 1}
				c.b.others.Add(1)
			case 5:
				b.Out[k].Verdict = packet.Pass
				c.b.others.Add(1)
			}
		}
	}
}

// note compares a packet with what was seen of its flow.
func (c *counter) note(b *packet.Burst, k int, id, n uint32) {
	slot, fresh := b.Slot[k], c.descs[k].Flags&packet.FlagNewFlow != 0
	last := &c.b.last[id]
	if was := last.Load(); n < was || n > was && !c.b.stopping.Load() {
		c.b.fail("packet %d of flow %d: %d was due", n, id, was)
	}
	last.Store(n + 1)
	switch {
	case slot == packet.NoSlot:
		if !c.b.forgetful {
			c.b.fail("packet %d of flow %d has no flow", n, id)
		}
	case fresh && c.state[slot] != 0:
		c.b.fail("packet %d begins flow %d, whose state is %d", n, id, c.state[slot])
	case !(fresh && c.b.forgetful) && c.state[slot] != n && !c.b.stopping.Load():
		c.b.fail("packet %d of flow %d: the function has seen %d", n, id, c.state[slot])
	default:
		c.state[slot] = n + 1
	}
}

func (c *counter) Tick(uint64) {}
func (c *counter) FlowEnd(slots []uint32) {
	if c.end != nil {
		c.end(slots)
	}
	for _, s := range slots {
		c.state[s] = 0
	}
}

// FlowBytes differs between workers and changes all the time, as it does when
// functions are replaced.
func (c *counter) FlowBytes() int { return 4 + 8*int(c.asked.Add(1)%3) }
func (c *counter) TakeFlow(slot uint32, dst []byte) {
	binary.LittleEndian.PutUint32(dst, c.state[slot])
	c.state[slot] = 0
}
func (c *counter) GiveFlow(slot uint32, src []byte) { c.state[slot] = binary.LittleEndian.Uint32(src) }

// countingStack takes everything.
type countingStack struct{}

func (countingStack) Inject([]byte) bool { return true }

// fail notes the first thing that went wrong.
func (b *played) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	b.wrong.CompareAndSwap(nil, &text)
}

func newPlayed(t *testing.T, workers, flows int) *played {
	t.Helper()
	b := makePlayed(t, playedOptions{workers: workers, flows: flows})
	b.start()
	return b
}

// makePlayed makes everything; the workers do not run yet.
func makePlayed(t *testing.T, o playedOptions) *played {
	t.Helper()
	gate.Leaks(t)
	// Workers keep their P while they spin; senders and movers need others.
	procs := runtime.GOMAXPROCS(o.workers + 3)
	t.Cleanup(func() { runtime.GOMAXPROCS(procs) })
	o.chains = max(o.chains, 1)
	b := &played{playedOptions: o, t: t, key: playedKey, clock: NewClock(), region: make([]byte, 8192*packet.ChunkSize)}
	for _, list := range []*[]atomic.Uint32{&b.last, &b.wire[0], &b.wire[1]} {
		*list = make([]atomic.Uint32, 1<<14)
	}
	b.depot = packet.NewDepot(len(b.region))
	b.pool = b.depot.Pool()
	var err error
	if b.owners, err = steer.NewOwners(make([]byte, steer.OwnersSize(o.chains)), o.chains, o.workers); err != nil {
		t.Fatal(err)
	}
	cfgs := make([]Config, o.workers)
	for i := range cfgs {
		cfgs[i] = b.worker(i)
	}
	if b.set, err = NewSet(cfgs, b.owners, b.graceTime); err != nil {
		t.Fatal(err)
	}
	return b
}

// worker makes a worker's configuration.
func (b *played) worker(i int) Config {
	in, err := ring.New[packet.Frame](2048)
	if err != nil {
		b.t.Fatal(err)
	}
	b.rings = append(b.rings, in)
	tuples, err := flow.NewReader(flow.ReaderOptions{Key: b.key})
	if err != nil {
		b.t.Fatal(err)
	}
	cfg := Config{Core: -1, Region: b.region, Pool: b.depot.Pool(), GuestBase: nf.FramesStart, Tuples: tuples, Stack: countingStack{}}
	for k := range 2 {
		p := &playedPort{b: b, pool: cfg.Pool, egress: k, tx: make([]packet.Frame, 0, 256), rnd: rand.New(rand.NewPCG(uint64(i), uint64(k)))}
		if k == 0 {
			p.in = in
		}
		b.ports = append(b.ports, p)
		cfg.Ports = append(cfg.Ports, p)
	}
	for c := range b.chains {
		opts := flow.Options{Key: b.key, Max: uint32(b.flows), Buckets: steer.Buckets, Sparse: true}
		if b.tables != nil {
			b.tables(&opts)
		}
		table, err := flow.New(opts)
		if err != nil {
			b.t.Fatal(err)
		}
		b.t.Cleanup(func() { table.Close() })
		b.flowTables = append(b.flowTables, table)
		descs := new([packet.BurstSize]packet.Desc)
		r := &counter{b: b, descs: descs, region: b.region, state: make([]uint32, b.flows)}
		path := Path{Chain: uint16(c), Runner: r, Descs: descs, Flows: table}
		if b.arena {
			path.Arena = make([]byte, packet.BurstSize*packet.ChunkSize)
			r.region = path.Arena
		}
		for _, path.Egress = range []uint16{1, 0} { // there, and the way back
			cfg.Paths = append(cfg.Paths, path)
		}
	}
	if b.config != nil {
		b.config(&cfg)
	}
	return cfg
}

// leaves checks that a frame leaves behind those of its flow that were sent
// before it in the same direction, whoever sent them.
func (b *played) leaves(egress int, frame []byte) {
	id, n, _ := markOf(frame)
	if was := b.wire[egress][id].Swap(n + 1); n < was {
		b.fail("packet %d of flow %d leaves by port %d behind packet %d", n, id, egress, was-1)
	}
}

// runner is the function of a chain on a worker.
func (b *played) runner(worker, chain int) *counter {
	return b.set.workers[worker].chains[chain].runner.(*counter)
}

// table is the flow table of a chain on a worker.
func (b *played) table(worker, chain int) *flow.Table { return b.flowTables[worker*b.chains+chain] }

// start lets the workers run.
func (b *played) start() {
	b.t.Helper()
	if err := b.set.Start(); err != nil {
		b.t.Fatal(err)
	}
}

// left returns how many packets have left, or have another fate.
func (b *played) left() (n uint64) {
	n = b.others.Load()
	for _, p := range b.ports {
		n += p.sent.Load()
	}
	return n
}

// graceTime waits until the steering program does not run.
func (b *played) graceTime() error {
	b.running.Lock()
	b.running.Unlock() //nolint:staticcheck // waiting is the point
	return nil
}

// source is a flow that packets are sent of.
type source struct {
	id    uint32
	chain uint16
	n     uint32 // packets so far
	at    [2]packet.Meta
	wire  [2][]byte // there, and the way back
}

// sources makes flows, which the chains have in turn.
func (b *played) sources(n int) []source {
	list := make([]source, n)
	for i := range list {
		s := &list[i]
		s.id, s.chain = uint32(i), uint16(i%b.chains)
		for back := range 2 {
			f := make([]byte, 64)
			f[12], f[13] = 8, 0
			ip := f[14:]
			ip[0], ip[8], ip[9] = 0x45, 64, 17
			binary.BigEndian.PutUint16(ip[2:], 50)
			src, dst := []byte{10, 0, byte(i >> 8), byte(i)}, []byte{10, 1, 0, 1}
			sport, dport := uint16(1000+i%7), uint16(53)
			if back == 1 {
				src, dst, sport, dport = dst, src, dport, sport
			}
			copy(ip[12:], src)
			copy(ip[16:], dst)
			binary.BigEndian.PutUint16(ip[20:], sport)
			binary.BigEndian.PutUint16(ip[22:], dport)
			in := packet.Info{Flags: packet.FlagIPv4, Proto: 17, SrcPort: sport, DstPort: dport}
			copy(in.Src[:], src)
			copy(in.Dst[:], dst)
			h := packet.FlowHash(b.key, &in)
			s.wire[back] = f
			s.at[back] = packet.Meta{Hash: h, Path: 2*s.chain + uint16(back), L3: 14, L4: 34, Flags: packet.FlagIPv4, Proto: 17,
				Version: packet.MetaVersion, Bucket: steer.Bucket(h)}
		}
	}
	return list
}

// portsIn are pairs of ports whose flows, between 10.9.0.1 and 10.9.0.2, are of
// bucket 0: found once, since only one in a thousand is.
var portsIn = sync.OnceValue(func() (list [][2]uint16) {
	for i := 0; len(list) < 2*parcelFlows+100; i++ {
		in := packet.Info{Flags: packet.FlagIPv4, Proto: 17, SrcPort: uint16(i), DstPort: uint16(1 + i>>16)}
		copy(in.Src[:], []byte{10, 9, 0, 1})
		copy(in.Dst[:], []byte{10, 9, 0, 2})
		if steer.Bucket(packet.FlowHash(playedKey, &in)) == 0 {
			list = append(list, [2]uint16{in.SrcPort, in.DstPort})
		}
	}
	return list
})

// sameBucket makes flows of the first chain that are all of bucket 0.
func (b *played) sameBucket(n int) []source {
	list := make([]source, n)
	for i, ports := range portsIn()[:n] {
		list[i] = b.sources(1)[0]
		list[i].id = uint32(i)
		src, dst, sport, dport := []byte{10, 9, 0, 1}, []byte{10, 9, 0, 2}, ports[0], ports[1]
		for back, wire := range list[i].wire {
			copy(wire[26:], src)
			copy(wire[30:], dst)
			binary.BigEndian.PutUint16(wire[34:], sport)
			binary.BigEndian.PutUint16(wire[36:], dport)
			in := packet.Info{Flags: packet.FlagIPv4, Proto: 17, SrcPort: sport, DstPort: dport}
			copy(in.Src[:], src)
			copy(in.Dst[:], dst)
			m := &list[i].at[back]
			m.Hash = packet.FlowHash(playedKey, &in)
			m.Bucket = steer.Bucket(m.Hash)
			src, dst, sport, dport = dst, src, dport, sport
		}
	}
	return list
}

// send is the steering program for one packet.
func (b *played) send(s *source, back int, rnd *rand.Rand) {
	bucket := s.at[back].Bucket
	b.sendTo(s, back, rnd, func() int { return b.owners.Take(s.chain, bucket) })
}

func (b *played) sendTo(s *source, back int, rnd *rand.Rand, take func() int) {
	for b.window > 0 && b.offers-b.left() >= b.window && !b.stopping.Load() {
		runtime.Gosched()
	}
	chunk, ok := b.pool.Get()
	for !ok { // all are under way
		if b.stopping.Load() {
			return
		}
		runtime.Gosched()
		chunk, ok = b.pool.Get()
	}
	b.running.RLock()
	defer b.running.RUnlock()
	f := b.write(s, back, chunk)
	owner := take()
	if rnd.IntN(1000) < b.lose {
		b.pool.Put(chunk)
		b.lost++
		return
	}
	for !b.rings[owner].Push(&f) {
		if b.stopping.Load() {
			b.pool.Put(chunk)
			return
		}
		runtime.Gosched()
	}
	s.n++
	b.offers++
}

// write puts the next packet of a flow into a chunk.
func (b *played) write(s *source, back int, chunk uint32) packet.Frame {
	f := packet.Frame{Chunk: chunk, Off: packet.Headroom, Len: uint16(len(s.wire[back]))}
	data := f.Bytes(b.region)
	copy(data, s.wire[back])
	binary.LittleEndian.PutUint32(data[len(data)-20:], s.n)
	binary.LittleEndian.PutUint32(data[len(data)-16:], s.id)
	binary.LittleEndian.PutUint32(data[len(data)-12:], b.serial)
	m := s.at[back]
	m.Seq = b.serial
	b.serial++
	m.RxNs = b.clock.Now()
	*packet.MetaAt(b.region, f.Pos()) = m
	return f
}

// settle waits until every packet that was sent has its fate.
func (b *played) settle() {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if c := b.set.Counters(); c.Sent+c.Passed+c.Dropped >= b.offers {
			return
		}
	}
}

// finish waits until everything that was sent has left, stops the workers and
// checks the books.
func (b *played) finish(sources []source) {
	b.t.Helper()
	b.settle()
	if err := b.set.Stop(); err != nil {
		b.t.Fatal(err)
	}
	b.account()
	c := b.set.Counters()
	if c.Received != b.offers || !b.verdicts && c.Sent != b.offers || slices.Max(c.Engine[:]) != 0 {
		b.t.Fatalf("offered %d packets: %+v", b.offers, c)
	}
	live := uint32(0)
	for _, table := range b.flowTables {
		live += table.Live()
	}
	used := uint32(0)
	for i := range sources {
		if sources[i].n > 0 {
			used++
		}
	}
	if live != used && !b.forgetful {
		b.t.Errorf("%d flows in the tables, %d were sent", live, used)
	}
}

// account checks, when the workers have stopped, that every packet has one
// fate, every chunk one holder, and every table is as it should be.
func (b *played) account() {
	b.t.Helper()
	if wrong := b.wrong.Load(); wrong != nil {
		b.t.Fatal(*wrong)
	}
	for i, w := range b.set.workers {
		c := w.Counters()
		if c.Received+c.HandedIn != c.Sent+c.Passed+c.Dropped+c.HandedOut {
			b.t.Errorf("worker %d: the account is not even: %+v", i, c)
		}
	}
	if c := b.set.Counters(); c.HandedIn != c.HandedOut {
		b.t.Errorf("%d packets were handed over, %d taken", c.HandedOut, c.HandedIn)
	}
	for i, table := range b.flowTables {
		if err := table.Verify(); err != nil {
			b.t.Errorf("table %d: %v", i, err)
		}
	}
	free := 0
	if err := b.depot.Check(func(uint32) { free++ }); err != nil {
		b.t.Error(err)
	}
	for _, p := range b.ports {
		rx, tx := p.Waiting()
		free += rx + tx
	}
	if free != b.depot.Total() {
		b.t.Errorf("%d chunks of %d are accounted for", free, b.depot.Total())
	}
}

// traffic sends packets of random flows, both ways, until stop is closed.
func (b *played) traffic(sources []source, stop chan struct{}) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for {
		select {
		case <-stop:
			return
		default:
		}
		for range 100 {
			s := &sources[rnd.IntN(len(sources))]
			back := rnd.IntN(2)
			if s.n == 0 {
				back = 0
			}
			b.send(s, back, rnd)
		}
	}
}
