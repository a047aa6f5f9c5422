package dataplane

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"sfc/dataplane/packet"
	"sfc/nf"
	"sfc/testbed/gate"
)

func TestMain(m *testing.M) { os.Exit(gate.Main(m)) }

func TestWorkerForwardsInOrder(t *testing.T) {
	for _, shared := range []bool{false, true} {
		t.Run(fmt.Sprintf("shared=%t", shared), func(t *testing.T) {
			b := newBed(t, shared, allNext, allNext)
			b.offer(1000)
			want := make([][]byte, 0, 1000)
			for _, tmpl := range b.ports[0].in {
				want = append(want, tmpl.Frame)
			}
			c := b.run(t, 1000)
			if c.Sent != 1000 {
				t.Fatalf("sent %d", c.Sent)
			}
			// Each path keeps its own order; the two may be interleaved anew.
			for path := range 2 {
				var got, exp [][]byte
				for _, f := range b.ports[1].sent {
					if n, _ := strconv.Atoi(string(f[6:12])); n%2 == path {
						got = append(got, f)
					}
				}
				for i, f := range want {
					if i%2 == path {
						exp = append(exp, f)
					}
				}
				if !bytes.Equal(bytes.Join(got, nil), bytes.Join(exp, nil)) {
					t.Errorf("path %d: frames differ in content or order", path)
				}
			}
		})
	}
}

func TestWorkerActsOnVerdicts(t *testing.T) {
	verdicts := []packet.Verdict{packet.Next, packet.Drop, packet.Tx, packet.Pass, packet.Abort, 99}
	b := newBed(t, false, func(region []byte, d []packet.Desc) {
		for i := range d {
			pos := int(d[i].Chunk-nf.FramesStart) + int(d[i].Off)
			n, _ := strconv.Atoi(string(region[pos+6 : pos+12])) // see offer
			d[i].Verdict = verdicts[n%len(verdicts)]
			d[i].Reason = 1
			d[i].OutPort = 0
		}
	})
	b.offer(600)
	c := b.run(t, 600)
	if len(b.ports[0].sent) != 200 || len(b.ports[1].sent) != 0 {
		t.Errorf("sent %d by port 0 and %d by port 1, want 200 and 0", len(b.ports[0].sent), len(b.ports[1].sent))
	}
	// Pass without a stack is a drop with a reason; drop, abort and 99 are drops.
	if c.Dropped != 400 || c.Engine[packet.ReasonStackFull] != 100 {
		t.Errorf("dropped %d, stack_full %d, want 400 and 100", c.Dropped, c.Engine[packet.ReasonStackFull])
	}
}

func TestWorkerStopsUnstarted(t *testing.T) {
	gate.Leaks(t)
	b := newBed(t, false, allNext)
	for range 2 {
		if err := b.w.Stop(); err != nil {
			t.Error(err)
		}
	}
}

// stuckPort never sends.
type stuckPort struct{ fakePort }

func (p *stuckPort) Transmit([]packet.Frame) int { return 0 }

func TestWorkerDropsWhenTxStaysFull(t *testing.T) {
	b := newBed(t, false, allNext)
	b.w.swapPort(1, &stuckPort{*b.ports[1]})
	b.offer(128)
	c := b.run(t, 128)
	if c.Engine[packet.ReasonTxFull] != 128 {
		t.Errorf("tx_full %d, want 128", c.Engine[packet.ReasonTxFull])
	}
}

func TestWorkerRefusesUnknownPath(t *testing.T) {
	b := newBed(t, false, allNext)
	b.offer(10)
	for i := range b.ports[0].in {
		b.ports[0].in[i].Meta.Path = 7
	}
	if c := b.run(t, 10); c.Engine[packet.ReasonNoPath] != 10 {
		t.Errorf("no_path %d, want 10", c.Engine[packet.ReasonNoPath])
	}
}

// runnerFunc is a chains.Runner that obeys no rule, and counts its ticks.
type runnerFunc struct {
	process func(*packet.Burst)
	ticks   int
}

func (r *runnerFunc) Process(b *packet.Burst) { r.process(b) }
func (r *runnerFunc) Tick(uint64)             { r.ticks++ }
func (r *runnerFunc) FlowEnd([]uint32)        {}
func (r *runnerFunc) FlowBytes() int          { return 0 }
func (r *runnerFunc) TakeFlow(uint32, []byte) {}
func (r *runnerFunc) ClearFlow(uint32)        {}
func (r *runnerFunc) GiveFlow(uint32, []byte) {}

func TestWorkerRefusesUnknownPort(t *testing.T) {
	for _, shared := range []bool{false, true} {
		b := newBed(t, shared, allNext)
		for i := range b.w.lanes {
			b.w.lanes[i].Runner = &runnerFunc{process: func(b *packet.Burst) {
				for k := range int(b.N) {
					b.Out[k] = packet.Outcome{Verdict: packet.Tx, Port: 0xffff}
				}
			}}
		}
		b.offer(10)
		if c := b.run(t, 10); c.Engine[packet.ReasonBadPort] != 10 {
			t.Errorf("shared=%t: bad_port %d, want 10", shared, c.Engine[packet.ReasonBadPort])
		}
	}
}

// A path without traffic has its periodic calls also while another keeps the
// worker busy.
func TestWorkerTicksQuietPaths(t *testing.T) {
	b := newBed(t, false, allNext)
	quiet := &runnerFunc{}
	b.w.chains[1].runner = quiet
	b.w.swapPort(0, NewMemPort(b.w.cfg.Region, b.w.cfg.Pool, []Template{{Frame: make([]byte, 64)}}, 0, 1<<40))
	if err := b.w.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(350 * time.Millisecond)
	if err := b.w.Stop(); err != nil {
		t.Fatal(err)
	}
	if quiet.ticks < 2 || quiet.ticks > 5 {
		t.Errorf("%d ticks in 350 ms, want one in about 100 ms", quiet.ticks)
	}
}

func TestWorkerDoesNotAllocate(t *testing.T) {
	for _, shared := range []bool{false, true} {
		b := newBed(t, shared, allNext)
		mem := NewMemPort(b.w.cfg.Region, b.w.cfg.Pool, []Template{{Frame: make([]byte, 64)}}, 0, 1<<30)
		b.w.swapPort(0, mem)
		b.w.swapPort(1, NewMemPort(b.w.cfg.Region, b.w.cfg.Pool, nil, 0, 0))
		b.w.turn()
		if n := testing.AllocsPerRun(1000, func() { b.w.turn() }); n != 0 {
			t.Errorf("shared=%t: %v allocations per turn", shared, n)
		}
		if mem.Left == 1<<30 {
			t.Error("no frame was received")
		}
		b.w.Run(func() bool { return true })
	}
}

func TestWorkerSleepsWhenIdle(t *testing.T) {
	b := newBed(t, false, allNext)
	if err := b.w.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(250 * time.Millisecond)
	if err := b.w.Stop(); err != nil {
		t.Fatal(err)
	}
	if c := b.w.Counters(); c.Sleeps == 0 || c.Turns > 5000 {
		t.Errorf("%d turns and %d sleeps in 250 ms without traffic", c.Turns, c.Sleeps)
	}
}

// TestWorkerRandomVerdicts lets random functions drop, move and send, and
// checks only the books.
func TestWorkerRandomVerdicts(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("TEST_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("TEST_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	wild := func(_ []byte, d []packet.Desc) {
		for i := range d {
			d[i].Verdict = packet.Verdict(rng.IntN(7))
			d[i].Reason = uint16(rng.IntN(70))
			switch rng.IntN(8) {
			case 0:
				d[i].Off = uint16(rng.Uint32())
			case 1:
				d[i].Len = uint16(rng.Uint32())
			case 2:
				d[i].OutPort = uint16(rng.IntN(4))
			case 3:
				d[i].Chunk = rng.Uint32()
			}
		}
	}
	for _, shared := range []bool{false, true} {
		b := newBed(t, shared, wild, wild, wild)
		b.offer(5000)
		b.run(t, 5000)
	}
}
