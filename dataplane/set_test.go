package dataplane

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
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
	t      *testing.T
	set    *Set
	owners *steer.Owners
	key    [2]uint64
	region []byte
	depot  *packet.Depot
	pool   *packet.Pool // of the sender
	rings  []*ring.Ring[packet.Frame]
	ports  []*playedPort
	tables []*flow.Table
	clock  Clock
	wrong  atomic.Pointer[string]

	// running is held while the steering program runs: what a grace period
	// waits for.
	running sync.RWMutex
	// lose is how many of a thousand packets do not fit into the RX ring.
	lose   int
	lost   uint64
	offers uint64
	// window is how many packets may be under way; 0: any number.
	window uint64
}

// playedPort is a worker's end. What it is given leaves a few frames at a time.
type playedPort struct {
	b    *played
	in   *ring.Ring[packet.Frame]
	pool *packet.Pool
	tx   []packet.Frame
	sent atomic.Uint64
	rnd  *rand.Rand
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
	for _, f := range p.tx[:n] {
		p.pool.Put(f.Chunk)
	}
	p.sent.Add(uint64(n))
	p.tx = p.tx[:copy(p.tx, p.tx[n:])]
	return len(p.tx) > 0
}

func (p *playedPort) Refill()         {}
func (p *playedPort) TxDrained() bool { return len(p.tx) == 0 }
func (p *playedPort) PollFD() int     { return -1 }
func (p *playedPort) Census() packet.Census {
	c := packet.Census{Tx: len(p.tx)}
	if p.in != nil {
		c.Rx = p.in.Len()
	}
	return c
}

// counter is a function that keeps in every slot how many packets of the flow
// it saw, and knows which number the next one has to have.
type counter struct {
	b     *played
	descs *[packet.BurstSize]packet.Desc
	state []uint32 // by slot
	pause time.Duration
	asked atomic.Uint32
}

func (c *counter) Process(b *packet.Burst) {
	if c.pause > 0 {
		time.Sleep(c.pause)
	}
	for k := range int(b.N) {
		slot := b.Slot[k]
		frame := b.Frames[k].Bytes(c.b.region)
		want := binary.LittleEndian.Uint32(frame[len(frame)-20:])
		switch {
		case slot == packet.NoSlot:
			c.b.fail("packet %d of flow %d has no flow", want, frame[48])
		case c.state[slot] != want:
			c.b.fail("packet %d of flow %x: the function has seen %d", want, frame[26:38], c.state[slot])
		default:
			c.state[slot]++
		}
		b.Out[k] = packet.Outcome{Verdict: packet.Tx, Port: c.descs[k].OutPort}
	}
}

func (c *counter) Tick(uint64) {}
func (c *counter) FlowEnd(slots []uint32) {
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

// fail notes the first thing that went wrong.
func (b *played) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	b.wrong.CompareAndSwap(nil, &text)
}

func newPlayed(t *testing.T, workers, flows int) *played {
	t.Helper()
	gate.Leaks(t)
	// Workers keep their P while they spin; senders and movers need others.
	procs := runtime.GOMAXPROCS(workers + 3)
	t.Cleanup(func() { runtime.GOMAXPROCS(procs) })
	b := &played{t: t, key: [2]uint64{3, 5}, clock: NewClock(), region: make([]byte, 8192*packet.ChunkSize)}
	b.depot = packet.NewDepot(len(b.region))
	b.pool = b.depot.Pool()
	var err error
	if b.owners, err = steer.NewOwners(make([]byte, steer.OwnersSize(1)), 1, workers); err != nil {
		t.Fatal(err)
	}
	cfgs := make([]Config, workers)
	for i := range cfgs {
		in, err := ring.New[packet.Frame](2048)
		if err != nil {
			t.Fatal(err)
		}
		b.rings = append(b.rings, in)
		table, err := flow.New(flow.Options{Key: b.key, Max: uint32(flows), Buckets: steer.Buckets, Sparse: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { table.Close() })
		b.tables = append(b.tables, table)
		tuples, err := flow.NewReader(flow.ReaderOptions{Key: b.key})
		if err != nil {
			t.Fatal(err)
		}
		cfg := Config{Core: -1, Region: b.region, Pool: b.depot.Pool(), GuestBase: nf.FramesStart, Tuples: tuples}
		for k := range 2 {
			p := &playedPort{b: b, pool: cfg.Pool, tx: make([]packet.Frame, 0, 256), rnd: rand.New(rand.NewPCG(uint64(i), uint64(k)))}
			if k == 0 {
				p.in = in
			}
			b.ports = append(b.ports, p)
			cfg.Ports = append(cfg.Ports, p)
		}
		descs := new([packet.BurstSize]packet.Desc)
		r := &counter{b: b, descs: descs, state: make([]uint32, flows)}
		for _, egress := range []uint16{1, 0} { // there, and the way back
			cfg.Paths = append(cfg.Paths, Path{Runner: r, Descs: descs, Flows: table, Egress: egress})
		}
		cfgs[i] = cfg
	}
	if b.set, err = NewSet(cfgs, b.owners, b.graceTime); err != nil {
		t.Fatal(err)
	}
	if err := b.set.Start(); err != nil {
		t.Fatal(err)
	}
	return b
}

// left returns how many packets have left.
func (b *played) left() (n uint64) {
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
	n    uint32 // packets so far
	at   [2]packet.Meta
	wire [2][]byte // there, and the way back
}

func (b *played) sources(n int) []source {
	list := make([]source, n)
	for i := range list {
		s := &list[i]
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
			f[48] = byte(i)
			in := packet.Info{Flags: packet.FlagIPv4, Proto: 17, SrcPort: sport, DstPort: dport}
			copy(in.Src[:], src)
			copy(in.Dst[:], dst)
			h := packet.FlowHash(b.key, &in)
			s.wire[back] = f
			s.at[back] = packet.Meta{Hash: h, Path: uint16(back), L3: 14, L4: 34, Flags: packet.FlagIPv4, Proto: 17,
				Version: packet.MetaVersion, Bucket: steer.Bucket(h)}
		}
	}
	return list
}

// send is the steering program for one packet.
func (b *played) send(s *source, back int, rnd *rand.Rand) {
	bucket := s.at[back].Bucket
	b.sendTo(s, back, rnd, func() int { return b.owners.Take(0, bucket) })
}

func (b *played) sendTo(s *source, back int, rnd *rand.Rand, take func() int) {
	for b.window > 0 && b.offers-b.left() >= b.window {
		runtime.Gosched()
	}
	chunk, ok := b.pool.Get()
	for !ok { // all are under way
		runtime.Gosched()
		chunk, ok = b.pool.Get()
	}
	b.running.RLock()
	defer b.running.RUnlock()
	f := packet.Frame{Chunk: chunk, Off: packet.Headroom, Len: uint16(len(s.wire[back]))}
	data := f.Bytes(b.region)
	copy(data, s.wire[back])
	binary.LittleEndian.PutUint32(data[len(data)-20:], s.n)
	m := s.at[back]
	m.RxNs = b.clock.Now()
	*packet.MetaAt(b.region, f.Pos()) = m
	owner := take()
	if rnd.IntN(1000) < b.lose {
		b.pool.Put(chunk)
		b.lost++
		return
	}
	for !b.rings[owner].Push(&f) {
		runtime.Gosched()
	}
	s.n++
	b.offers++
}

// finish waits until everything that was sent has left, stops the workers and
// checks the books.
func (b *played) finish(sources []source) {
	b.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		if c := b.set.Counters(); c.Sent+c.Dropped >= b.offers || time.Now().After(deadline) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err := b.set.Stop(); err != nil {
		b.t.Fatal(err)
	}
	if wrong := b.wrong.Load(); wrong != nil {
		b.t.Fatal(*wrong)
	}
	c := b.set.Counters()
	if c.Received != b.offers || c.Sent != b.offers || c.Dropped != 0 || c.HandedIn != c.HandedOut {
		b.t.Fatalf("offered %d packets: %+v", b.offers, c)
	}
	live := uint32(0)
	for _, table := range b.tables {
		if err := table.Verify(); err != nil {
			b.t.Error(err)
		}
		live += table.Live()
	}
	used := uint32(0)
	for i := range sources {
		if sources[i].n > 0 {
			used++
		}
	}
	if live != used {
		b.t.Errorf("%d flows in the tables, %d were sent", live, used)
	}
	free := 0
	if err := b.depot.Check(func(uint32) { free++ }); err != nil {
		b.t.Error(err)
	}
	for _, p := range b.ports {
		for len(p.tx) > 0 {
			free++
			p.tx = p.tx[1:]
		}
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

func TestMoveUnderTraffic(t *testing.T) {
	for _, c := range []struct {
		name          string
		workers, lose int
	}{{"two workers", 2, 0}, {"four workers", 4, 0}, {"RX ring overflows", 2, 20}} {
		t.Run(c.name, func(t *testing.T) {
			b := newPlayed(t, c.workers, 8192)
			b.lose = c.lose
			sources := b.sources(3000)
			stop := make(chan struct{})
			var sender sync.WaitGroup
			sender.Go(func() { b.traffic(sources, stop) })
			rnd := rand.New(rand.NewPCG(7, uint64(c.workers)))
			moves, flows, forced := 0, 0, 0
			tested := func() bool { return flows > 100 && (c.lose == 0 || forced > 0) }
			// A busy machine may need longer until something happened.
			for start := time.Now(); time.Since(start) < time.Second || !tested() && time.Since(start) < 20*time.Second; moves++ {
				// Few buckets, so that they move again and again.
				r, err := b.set.Move(0, uint16(rnd.IntN(64)), rnd.IntN(c.workers))
				if err != nil {
					t.Fatal(err)
				}
				if r.Refused != 0 {
					t.Errorf("%d flows were refused", r.Refused)
				}
				flows += r.Flows
				if r.Forced {
					forced++
				}
			}
			close(stop)
			sender.Wait()
			b.finish(sources)
			holds, err := b.set.Holds()
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d packets, %d lost by the kernel, %d moves of %d flows, %d forced, %d packets held, p50 %d us, p99 %d us, max %d us",
				b.offers, b.lost, moves, flows, forced, holds.TotalCount(),
				holds.ValueAtQuantile(50)/1000, holds.ValueAtQuantile(99)/1000, holds.Max()/1000)
			if !tested() {
				t.Error("nothing was tested")
			}
		})
	}
}

func TestMoveRefusals(t *testing.T) {
	b := newPlayed(t, 2, 64)
	for _, c := range []struct {
		chain, bucket uint16
		to            int
	}{{0, 0, 2}, {0, 0, -1}, {0, steer.Buckets, 0}, {1, 0, 0}, {9, 0, 0}} {
		if _, err := b.set.Move(c.chain, c.bucket, c.to); err == nil {
			t.Errorf("chain %d bucket %d to %d: no error", c.chain, c.bucket, c.to)
		}
	}
	b.finish(nil)
	if _, err := b.set.Move(0, 0, 1); err == nil {
		t.Error("a set that has stopped moves flows")
	}
}
