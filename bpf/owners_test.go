package bpf

import (
	"errors"
	"maps"
	"runtime"
	"sync"
	"testing"

	"github.com/cilium/ebpf"

	"sfc/dataplane/classify"
	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
	"sfc/testbed/netns"
)

// fixtureChains are the chains of the fixtures' paths: paths 0 to 2, 3 to 5,
// and, not mentioned, 6 and more again the first one.
var fixtureChains = []uint16{0, 0, 0, 1, 1, 2}

// shared loads the fixtures' rules for several workers on two ports, and makes
// the owners. Every worker has a socket on queue 0 of both.
func shared(tb testing.TB, workers int, pinned ...bool) (*Steering, *steer.Owners) {
	tb.Helper()
	needKernel(tb)
	c := Config{Table: compile(tb, fixtureRules), Ports: []PortConfig{{Ifindex: loopback}, {Ifindex: loopback}},
		Workers: workers, PathChain: fixtureChains, PinBytes: steer.PinsSize(10)}
	for i := range 3 {
		c.Chains = append(c.Chains, ChainConfig{Pins: i < len(pinned) && pinned[i]})
	}
	s := steering(tb, c)
	o, err := steer.NewOwners(s.OwnerMemory(), len(c.Chains), workers)
	if err != nil {
		tb.Fatal(err)
	}
	for port := range c.Ports {
		for w := range workers {
			if err := s.SetSocket(port, 0, w, socket(tb)); err != nil {
				tb.Fatal(err)
			}
		}
	}
	return s, o
}

// sent returns the counts of all buckets that are not 0, by row and bucket.
func sent(o *steer.Owners) map[[2]uint16]uint64 {
	m := map[[2]uint16]uint64{}
	for row := uint16(0); row <= o.Odd(); row++ {
		for b := uint16(0); b < steer.Buckets; b++ {
			if n := o.Sent(row, b); n != 0 {
				m[[2]uint16{row, b}] = n
			}
		}
	}
	return m
}

// Every claimed frame is counted once, in the bucket that its metadata says, of
// the row that the mirror says; nothing else is counted.
func TestFramesAreCountedForTheirOwner(t *testing.T) {
	s, o := shared(t, 3)
	table := compile(t, fixtureRules)
	placing := s.placing(nil)
	want, rows := map[[2]uint16]uint64{}, map[uint16]int{}
	for _, f := range fixtures {
		_, meta := agreeOn(t, s, table, placing, f.in)
		if meta == nil {
			continue
		}
		in, _ := packet.Parse(f.in)
		at := placing.Place(meta.Path, &in)
		if odd := meta.Flags&packet.FlagOdd != 0; odd != (at.Row == o.Odd()) || !odd && at.Row != map[uint16]uint16{3: 1, 4: 1, 5: 2}[meta.Path] {
			t.Errorf("%s: path %d, flags %#x, row %d", f.name, meta.Path, meta.Flags, at.Row)
		}
		want[[2]uint16{at.Row, meta.Bucket}]++
		rows[at.Row]++
		if got := sent(o); !maps.Equal(got, want) {
			t.Fatalf("%s: counted %v, want %v", f.name, got, want)
		}
	}
	if len(rows) != 4 {
		t.Errorf("fixtures in rows %v, want all 4", rows)
	}
}

// A frame goes to the socket of the worker that owns its bucket, and to no
// other, also after the owner changed.
func TestOwnerChoosesSocket(t *testing.T) {
	const workers = 4
	s, o := shared(t, workers)
	for alone := range workers {
		for w := range workers {
			if w == alone {
				continue
			}
			if err := s.ClearSocket(0, 0, w); err != nil {
				t.Fatal(err)
			}
		}
		hits := 0
		for port := range uint16(64) {
			_, b := flowOf(t, s, udpFrame(port))
			if port%2 == 1 {
				o.Flip(0, b, int(port/2)%workers)
			}
			owner := o.Owner(0, b)
			action, meta, _ := run(t, s, 0, udpFrame(port))
			if (action == xdpRedirect) != (owner == alone) || meta == nil || meta.Bucket != b {
				t.Fatalf("bucket %d of worker %d, sockets of worker %d: action %d, metadata %+v", b, owner, alone, action, meta)
			}
			if action == xdpRedirect {
				hits++
			}
		}
		if hits == 0 {
			t.Errorf("worker %d owns none of 64 flows", alone)
		}
		for w := range workers {
			if err := s.SetSocket(0, 0, w, socket(t)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.SetSocket(0, 0, workers, 0); !errors.Is(err, ErrNoPort) {
		t.Errorf("worker %d of %d: %v", workers, workers, err)
	}
	if err := s.ClearSocket(0, 0, -1); !errors.Is(err, ErrNoPort) {
		t.Errorf("worker -1: %v", err)
	}
}

// udpFrame is a frame of a flow of chain 0.
func udpFrame(port uint16) []byte {
	return build(eth(0x0800), ip4(out4, 17, 0), udp(port, 53), data(20))
}

// flowOf returns a frame's hash, and the bucket that it says.
func flowOf(tb testing.TB, s *Steering, frame []byte) (hash uint64, bucket uint16) {
	tb.Helper()
	in, result := packet.Parse(frame)
	if result != packet.ParsedIP {
		tb.Fatalf("%v\n%x", result, frame)
	}
	hash = packet.FlowHash64(testKey, &in)
	return hash, steer.Bucket(uint32(hash))
}

// A frame goes to a socket of the queue that it came in on.
func TestQueueChoosesSocket(t *testing.T) {
	const queues, workers = 4, 3
	w := newWiresOf(t, netns.VethOptions{Queues: queues})
	in(t, w.near, func() error {
		s := steering(t, Config{Table: compile(t, fixtureRules), Ports: []PortConfig{{Ifindex: w.nearA.Index}}, Workers: workers})
		o, err := steer.NewOwners(s.OwnerMemory(), 1, workers)
		if err != nil {
			return err
		}
		if _, err := s.Attach(0, Native); err != nil { // the kernel sets the queues up for programs
			return err
		}
		_, b := flowOf(t, s, dns4)
		for queue := range queues {
			for worker := range workers {
				if err := s.SetSocket(0, queue, worker, socket(t)); err != nil {
					return err
				}
				for q := range queues {
					for owner := range workers {
						o.Flip(0, b, owner)
						action, err := s.ports[0].prog.Run(&ebpf.RunOptions{Data: dns4,
							Context: xdpMD{DataEnd: uint32(len(dns4)), IngressIfindex: uint32(w.nearA.Index), RxQueueIndex: uint32(q)}})
						if err != nil {
							return err
						}
						if (action == xdpRedirect) != (q == queue && owner == worker) {
							t.Errorf("socket of queue %d, worker %d; frame of queue %d, worker %d: action %d", queue, worker, q, owner, action)
						}
					}
				}
				if err := s.ClearSocket(0, queue, worker); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// With one worker nothing is counted, and no owner asked.
func TestOneWorkerOwnsAll(t *testing.T) {
	s, o := shared(t, 1)
	_, b := flowOf(t, s, dns4)
	o.Flip(0, b, 5)
	if action, meta, _ := run(t, s, 0, dns4); action != xdpRedirect || meta.Bucket != b {
		t.Errorf("action %d, metadata %+v", action, meta)
	}
	if n := sent(o); len(n) != 0 {
		t.Errorf("counted %v", n)
	}
}

// Owners change while every CPU sends: what each of them was sent is known to
// the packet.
func TestCountsAreExactUnderFlips(t *testing.T) {
	s, o := shared(t, 2)
	if err := s.ClearSocket(0, 0, 0); err != nil { // so that the counters tell the workers apart
		t.Fatal(err)
	}
	_, bucket := flowOf(t, s, dns4)
	const each = 1 << 20
	var wg sync.WaitGroup
	done := make(chan struct{})
	senders := runtime.NumCPU()
	for range senders {
		wg.Go(func() {
			if _, err := s.ports[0].prog.Run(&ebpf.RunOptions{Data: dns4, Repeat: each}); err != nil {
				t.Error(err)
			}
		})
	}
	go func() { wg.Wait(); close(done) }()
	var total [2]uint64
	flips := 0
	for running := true; running; flips++ {
		select {
		case <-done:
			running = false
		default:
		}
		owner := o.Owner(0, bucket)
		total[owner] += o.Flip(0, bucket, 1-owner)
		runtime.Gosched()
	}
	c := counters(t, s, 0)
	t.Logf("%d flips, worker 0 was sent %d, worker 1 %d", flips, total[0], total[1])
	if total[0] != c.NoSocket || total[1] != c.Redirected || total[0]+total[1] != uint64(senders*each) {
		t.Errorf("flips say %v, the program %d to worker 0, %d to worker 1", total, c.NoSocket, c.Redirected)
	}
	if total[0] == 0 || total[1] == 0 {
		t.Error("one worker owned the bucket all the time")
	}
}

// Owners and counts belong to all ports and outlive the table.
func TestUpdateKeepsOwners(t *testing.T) {
	s, o := shared(t, 2, true)
	pins, err := steer.NewPins(s.PinMemory())
	if err != nil {
		t.Fatal(err)
	}
	hash, b := flowOf(t, s, dns4)
	to := b ^ 512
	o.Flip(0, to, 1)
	if r := pins.Insert(steer.PinKey(hash, 0), steer.PinValue(0, 0, to)); r != steer.PinOK {
		t.Fatal(r)
	}
	if err := s.ClearSocket(0, 0, 0); err != nil {
		t.Fatal(err)
	}
	want := uint64(0)
	for i := range 3 {
		for port := range 2 {
			action, meta, _ := run(t, s, port, dns4)
			if action != xdpRedirect || meta.Bucket != to {
				t.Errorf("update %d, port %d: action %d, metadata %+v, want bucket %d", i, port, action, meta, to)
			}
			want++
		}
		if n := o.Sent(0, to); n != want || o.Owner(0, to) != 1 {
			t.Errorf("update %d: %d sent to worker %d, want %d", i, n, o.Owner(0, to), want)
		}
		rules := append([]classify.Rule{{Path: 9, VLAN: 7 + i, Proto: 6}}, fixtureRules...)
		if err := s.Update(Rules{Table: compile(t, rules), PathChain: s.config.PathChain, Pins: s.rules.Pins}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOwnerConfigErrors(t *testing.T) {
	ports := []PortConfig{{Ifindex: 1}}
	for name, c := range map[string]Config{
		"workers":          {Workers: steer.MaxWorkers + 1},
		"negative workers": {Workers: -1},
		"chains":           {Chains: make([]ChainConfig, MaxChains+1)},
		"path of no chain": {Chains: make([]ChainConfig, 2), PathChain: []uint16{0, 2}},
		"path, no chains":  {PathChain: []uint16{1}},
		"odd pins":         {PinBytes: 100*pinBucketBytes + 8},
		"few pins":         {PinBytes: pinBucketBytes},
		"many pins":        {PinBytes: 2 * maxPinBytes},
	} {
		c.Ports = ports
		if _, err := Load(c); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The program loads and works at the limits of the configuration.
func TestLargestOwnership(t *testing.T) {
	needKernel(t)
	c := Config{Table: compile(t, fixtureRules), Ports: []PortConfig{{Ifindex: loopback}}, Workers: steer.MaxWorkers,
		Chains: make([]ChainConfig, MaxChains), PinBytes: maxPinBytes, PathChain: make([]uint16, 11)}
	last := uint16(MaxChains - 1)
	c.Chains[last].Pins, c.PathChain[1] = true, last
	s := steering(t, c)
	o, err := steer.NewOwners(s.OwnerMemory(), len(c.Chains), c.Workers)
	if err != nil {
		t.Fatal(err)
	}
	_, b := flowOf(t, s, dns4)
	o.Flip(last, b, steer.MaxWorkers-1)
	if err := s.SetSocket(0, 0, steer.MaxWorkers-1, socket(t)); err != nil {
		t.Fatal(err)
	}
	if action, meta, _ := run(t, s, 0, dns4); action != xdpRedirect || meta.Bucket != b || o.Sent(last, b) != 1 {
		t.Errorf("action %d, metadata %+v, %d counted", action, meta, o.Sent(last, b))
	}
	rng := seed(t)
	rules := make([]classify.Rule, classify.MaxRules)
	for i := range rules {
		rules[i] = randomRule(rng, i)
	}
	if err := s.Update(Rules{Table: compile(t, rules), PathChain: s.config.PathChain, Pins: s.rules.Pins}); err != nil { // all dimensions, the longest searches
		t.Fatal(err)
	}
	if len(s.PinMemory()) != maxPinBytes {
		t.Errorf("%d bytes of pins", len(s.PinMemory()))
	}
}
