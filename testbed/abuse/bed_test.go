package abuse

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sfc/ctrl/agent"
	"sfc/dataplane"
	"sfc/dataplane/classify"
	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
	"sfc/testbed/gate"
)

func TestMain(m *testing.M) { os.Exit(gate.Main(m)) }

// The ports: clients are behind the first, servers behind the second.
const (
	portIn = iota
	portOut
)

var portNames = []string{"in", "out"}

// bed is an engine with ports in memory, and the steering program in front of
// it. One goroutine offers packets.
type bed struct {
	tb     testing.TB
	e      *agent.Engine
	place  *classify.Placing
	owners *steer.Owners
	lanes  []*lane
	clock  dataplane.Clock
	skew   uint64 // how far the packets' time is ahead of the clock, ns
	base   int    // the process's memory before the tables were made, bytes; see bedOptions.measure
	region []byte

	records  []record // by sequence number
	offered  uint32
	settled  atomic.Uint32 // packets that have met their fate
	twice    atomic.Uint32 // fates that were told of one packet after the first
	overflow bool          // a full ring drops, as the kernel's does; else the sender waits

	// running is held while the steering program runs: what a grace period
	// waits for.
	running sync.RWMutex
	// seen is told of every packet that leaves; it runs on the workers.
	seen func(ref uint32, kind kind, port uint16, frame []byte)
}

// bedOptions say what to build.
type bedOptions struct {
	chain   string // YAML, see chainText
	workers int    // default 1
	packets int    // the most that will be offered
	measure bool   // how much memory there was before
}

// newBed opens the engine and starts its workers. It is closed, and its books
// are checked, at the end of the test.
func newBed(tb testing.TB, o bedOptions) *bed {
	tb.Helper()
	gate.Leaks(tb)
	o.workers = max(o.workers, 1)
	// Workers keep their P while they spin; the sender needs another.
	procs := runtime.GOMAXPROCS(o.workers + 4)
	tb.Cleanup(func() { runtime.GOMAXPROCS(procs) })
	file := filepath.Join(tb.TempDir(), "chain.yaml")
	check(tb, os.WriteFile(file, []byte(o.chain), 0o644))
	specs, err := agent.LoadSpecs([]string{file})
	check(tb, err)
	b := &bed{tb: tb, clock: dataplane.NewClock(), records: make([]record, o.packets)}
	b.e, err = agent.Open(agent.Options{
		Specs: specs, Ports: portNames, Workers: o.workers, PacketTime: true,
		Observer: func(int) dataplane.Observer { return &watcher{b: b} },
	})
	check(tb, err)
	tb.Cleanup(b.close)
	if o.measure {
		clear(b.records)
		b.base = memoryOf(tb)
	}
	err = b.e.ConnectMemory(func(m agent.Memory) []dataplane.Port {
		l := newLane(tb, m)
		b.region, b.lanes = m.Region, append(b.lanes, l)
		return []dataplane.Port{&l.ports[portIn], &l.ports[portOut]}
	}, stack{}, b.grace)
	check(tb, err)
	b.place, b.owners = b.e.Placing(), b.e.Owners()
	check(tb, b.e.Start())
	return b
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// stack takes what is passed to the kernel.
type stack struct{}

func (stack) Inject([]byte) bool { return true }

// grace returns when the steering program does not run.
func (b *bed) grace() error {
	b.running.Lock()
	b.running.Unlock() //nolint:staticcheck // waiting is the point
	return nil
}

// now is the packets' time in ns.
func (b *bed) now() uint64 { return b.clock.Now() + b.skew }

// skip lets time pass. Nothing is under way.
func (b *bed) skip(d time.Duration) { b.skew += uint64(d) }

// offer sends a frame into a port. It returns the packet's number; ref is the
// caller's own.
func (b *bed) offer(port int, frame []byte, k kind, ref uint32) uint32 {
	if int(b.offered) == len(b.records) {
		b.tb.Fatalf("more than %d packets", len(b.records))
	}
	seq := b.offered
	b.offered++
	b.records[seq].kind, b.records[seq].ref = k, ref
	d := b.e.Table().Steer(uint16(port), agent.Policies[b.e.Plan().Ports[port].Unmatched], frame)
	switch d.Action {
	case classify.DropFrame:
		b.meet(seq, engineDrop(d.Reason))
		return seq
	case classify.PassFrame, classify.ForwardFrame:
		b.meet(seq, packet.Outcome{Verdict: packet.Pass, Hop: packet.HopEngine})
		return seq
	}
	b.running.RLock()
	defer b.running.RUnlock()
	at := b.place.Place(d.Path, &d.Info)
	owner := 0
	if len(b.lanes) > 1 {
		owner = b.owners.Take(at.Row, at.Bucket)
	}
	l := b.lanes[owner]
	p := &l.ports[port]
	p.next.meta = packet.Meta{
		RxNs: b.now(), Seq: seq, Hash: uint32(at.Hash), Path: d.Path, Port: uint16(port), L3: d.Info.L3, L4: d.Info.L4,
		Flags: d.Info.Flags, Proto: d.Info.Proto, Version: packet.MetaVersion, VLAN: d.Info.VLAN, Bucket: at.Bucket,
	}
	p.next.n = copy(p.next.data[:], frame)
	for !p.in.Push(&p.next) {
		if b.overflow {
			b.meet(seq, packet.Outcome{Verdict: packet.Drop, Hop: hopRing})
			return seq
		}
		l.wakeUp()
		runtime.Gosched()
	}
	if l.dry.Load() {
		l.wakeUp()
	}
	return seq
}

// patience is for one who looks again and again for a fate: now and then it
// wakes the workers up, and lets others run.
func (b *bed) patience(tries int) {
	if tries%64 != 63 {
		return
	}
	for _, l := range b.lanes {
		if l.dry.Load() {
			l.wakeUp()
		}
	}
	runtime.Gosched()
}

// settle waits until every packet has met its fate.
func (b *bed) settle() {
	b.tb.Helper()
	for end := time.Now().Add(30 * time.Second); b.settled.Load() < b.offered; time.Sleep(50 * time.Microsecond) {
		for _, l := range b.lanes {
			l.wakeUp()
		}
		if time.Now().After(end) {
			b.tb.Fatalf("%d packets of %d have not met their fate", b.offered-b.settled.Load(), b.offered)
		}
	}
}

// close stops the engine and checks that nothing was lost: no packet, and by
// the engine's own check no chunk.
func (b *bed) close() {
	if b.lanes != nil {
		if !b.tb.Failed() {
			b.settle()
		}
		if err := b.e.Stop(); err != nil {
			b.tb.Error(err)
		}
		b.checkBooks()
	}
	if err := b.e.Close(); err != nil {
		b.tb.Error(err)
	}
	for _, l := range b.lanes {
		l.close()
	}
}

// chainText is a chain with functions of the catalogue, each given as its name
// and configuration: "firewall {default: permit}". All packets of port in go
// forward, all of port out the way back.
func chainText(tb testing.TB, flows int, functions ...string) string {
	tb.Helper()
	catalog, err := filepath.Abs("../../nf/catalog")
	check(tb, err)
	var s strings.Builder
	fmt.Fprintf(&s, "apiVersion: sfc/v1\nkind: Chain\nmetadata: {name: abused, tenant: one}\nspec:\n"+
		"  match: [{port: in}]\n  egress: out\n  return: mirrored\n  unmatched: pass\n  budget: 100ms\n  flows: %d\n  functions:\n", flows)
	for _, f := range functions {
		name, config, _ := strings.Cut(f, " ")
		module := name
		if !strings.Contains(name, "/") {
			module = fmt.Sprintf("%s/%s/%s.wasm", catalog, name, name)
		}
		fmt.Fprintf(&s, "    - module: %s\n      config: %s\n", module, config)
	}
	return s.String()
}
