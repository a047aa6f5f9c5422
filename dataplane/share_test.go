package dataplane

import (
	"math/bits"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sfc/dataplane/packet"
	"sfc/nf"
	"sfc/testbed/gate"
)

// stream is packets of one path that arrive at a rate.
type stream struct {
	meta  packet.Meta
	every float64 // ns between two
	due   float64 // of the next one, ns
	came  uint64
}

// timedPort receives streams as they arrive. What finds its ring full is lost.
type timedPort struct {
	MemPort
	clock   Clock
	streams []*stream
	ring    []*stream
	lost    uint64
}

const timedRing = 2048

func (p *timedPort) Receive(f []packet.Frame) int {
	now := float64(p.clock.Now())
	for {
		next := p.streams[0]
		for _, s := range p.streams[1:] {
			if s.due < next.due {
				next = s
			}
		}
		if next.due > now {
			break
		}
		next.due += next.every
		next.came++
		if len(p.ring) == timedRing {
			p.lost++
			continue
		}
		p.ring = append(p.ring, next)
	}
	n := 0
	for ; n < min(len(f), len(p.ring)); n++ {
		chunk, ok := p.pool.Get()
		if !ok {
			break
		}
		f[n] = packet.Frame{Chunk: chunk, Off: packet.Headroom, Len: 64}
		m := p.ring[n].meta
		m.RxNs = uint64(now)
		*packet.MetaAt(p.region, f[n].Pos()) = m
	}
	p.ring = p.ring[:copy(p.ring, p.ring[n:])]
	return n
}

func (p *timedPort) Waiting() (rx, tx int) { return len(p.ring), 0 }

// worked is a runner that takes some time for every packet.
type worked struct {
	runnerFunc
	rounds int
	sum    uint64
}

func (r *worked) Process(b *packet.Burst) {
	sum := r.sum
	for k := range int(b.N) {
		for i := range r.rounds {
			hi, lo := bits.Mul64(sum|1, uint64(i)+0x9e3779b97f4a7c15)
			sum = hi ^ lo
		}
		b.Out[k] = packet.Outcome{Verdict: packet.Tx}
	}
	r.sum = sum
}

// tenants is a worker with a chain for each of some tenants.
type tenants struct {
	w      *Worker
	port   *timedPort
	shares []*Share
}

// newTenants makes a worker for tenants with so many thousandths guaranteed,
// whose functions take so many rounds a packet.
func newTenants(t *testing.T, perMille, rounds []int) *tenants {
	t.Helper()
	region := make([]byte, 8192*packet.ChunkSize)
	pool := packet.NewPool(len(region))
	b := &tenants{port: &timedPort{MemPort: *NewMemPort(region, pool, nil, 0, 0), clock: NewClock(), ring: make([]*stream, 0, timedRing)}}
	cfg := Config{Core: -1, Region: region, Pool: pool, GuestBase: nf.FramesStart, Ports: []Port{b.port}}
	for i := range perMille {
		s, err := NewShare(perMille[i])
		if err != nil {
			t.Fatal(err)
		}
		b.shares = append(b.shares, s)
		cfg.Paths = append(cfg.Paths, Path{Chain: uint16(i), Runner: &worked{rounds: rounds[i]}, Descs: new([packet.BurstSize]packet.Desc), Tenant: s})
	}
	var err error
	if b.w, err = NewWorker(cfg); err != nil {
		t.Fatal(err)
	}
	return b
}

// run lets packets arrive at these rates per second, 0 for none, for some time.
func (b *tenants) run(t *testing.T, d time.Duration, rates ...float64) {
	t.Helper()
	start := b.port.clock.Now()
	for i, r := range rates {
		if r > 0 {
			b.port.streams = append(b.port.streams, &stream{meta: packet.Meta{Path: uint16(i), Seq: uint32(i)}, every: 1e9 / r, due: float64(start)})
		}
	}
	b.w.Run(func() bool { return b.port.clock.Now() > start+uint64(d) })
	if err := b.w.Verify(); err != nil {
		t.Error(err)
	}
	var all Account
	for _, c := range b.w.chains {
		a := &c.account
		if a.Packets != a.Sent+a.Passed+a.Dropped {
			t.Errorf("chain %d: the account is not even: %+v", c.index, a)
		}
		all.Add(a)
	}
	if c := b.w.Counters(); all.Packets != c.Received || all.Sent != c.Sent || all.Dropped != c.Dropped {
		t.Errorf("all chains: %d packets, %d sent, %d dropped; the worker: %+v", all.Packets, all.Sent, all.Dropped, c)
	}
}

// sent returns how many packets of a tenant left.
func (b *tenants) sent(i int) float64 { return float64(b.w.chains[i].account.Sent) }

const shareTime = 150 * time.Millisecond

// capacity is how many packets a second a function can take.
func capacity(t *testing.T, rounds int) float64 {
	b := newTenants(t, []int{0}, []int{rounds})
	b.run(t, shareTime/3, 50e6)
	return b.sent(0) / (shareTime / 3).Seconds()
}

// attempts is how often a figure may be spoilt by what else the machine does.
const attempts = 8

// undisturbed calls f until it says that it is content. An attempt during which
// the thread did not have the core nearly all the time does not count; when that
// was so every time, the test is skipped.
func undisturbed(t *testing.T, f func() bool) (content bool) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	counted := 0
	for range attempts {
		start, used := time.Now(), threadTime(t)
		content = f()
		if threadTime(t)-used < time.Since(start)*19/20 {
			continue
		}
		if content {
			return true
		}
		counted++
	}
	if counted == 0 {
		t.Skip("the machine is busy with something else")
	}
	return false
}

// threadTime is the CPU time of the calling thread.
func threadTime(t *testing.T) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

// A tenant that wants ten times its half of a worker takes nothing from the
// other half.
func TestGuaranteedShareIsKept(t *testing.T) {
	if gate.Race {
		t.Skip("the race detector takes most of a worker's time")
	}
	const cheap, dear = 600, 6000
	if !undisturbed(t, func() bool {
		a, b := capacity(t, cheap)/2, capacity(t, dear)*5
		alone := newTenants(t, []int{500, 500}, []int{cheap, dear})
		alone.run(t, shareTime, a)
		both := newTenants(t, []int{500, 500}, []int{cheap, dear})
		both.run(t, shareTime, a, b)
		loss, other := 1-both.sent(0)/alone.sent(0), both.sent(1)/shareTime.Seconds()
		t.Logf("%.0f packets/s alone, loses %.1f %% beside %.0f; the other sends %.0f of %.0f that it could alone, %d over its share, %d lost",
			alone.sent(0)/shareTime.Seconds(), 100*loss, b, other, b/5, both.shares[1].over, both.port.lost)
		return loss <= 0.05 && other > 0.25*b/5 && both.shares[1].over > 0 && both.shares[0].over == 0
	}) {
		t.Error("it does")
	}
}

// What one leaves the other may have: alone it has everything.
func TestSharesAreWorkConserving(t *testing.T) {
	const rounds = 1000
	if !undisturbed(t, func() bool {
		most := capacity(t, rounds)
		alone := newTenants(t, []int{900, 100}, []int{rounds, rounds})
		alone.run(t, shareTime, 0, 3*most)
		beside := newTenants(t, []int{900, 100}, []int{rounds, rounds})
		beside.run(t, shareTime, most/4, 3*most)
		a, all := alone.sent(1)/shareTime.Seconds(), (beside.sent(0)+beside.sent(1))/shareTime.Seconds()
		t.Logf("most %.0f, alone %.0f, two %.0f", most, a, all)
		return alone.shares[1].over == 0 && min(a, all) > 0.85*most
	}) {
		t.Error("time is wasted, or somebody is limited without need")
	}
}
