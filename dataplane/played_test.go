package dataplane

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

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

// playedRing is the size of an RX ring.
const playedRing = 2048

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
	// pair is held while frames get into the ring that come together.
	pair sync.Mutex
	// egress is the port's index.
	egress int
	// stuck, when set, decides how many frames leave instead.
	stuck func(waiting int) int
}

func (p *playedPort) Receive(f []packet.Frame) int {
	if p.in == nil || !p.pair.TryLock() {
		return 0
	}
	defer p.pair.Unlock()
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
	in, err := ring.New[packet.Frame](playedRing)
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
