package bpf

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"sync"
	"testing"

	"github.com/cilium/ebpf"

	"sfc/dataplane/classify"
	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
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

// Queries of two hosts are told apart by their identifier, and their replies
// found by it; no rule on ports takes it for one.
func TestQueriesByIdentifier(t *testing.T) {
	s, _ := shared(t, 2)
	table := compile(t, fixtureRules)
	reply := func(frame []byte, l3, n, l4 int, typ byte) []byte {
		r := with(with(frame, l3, frame[l3+n:l3+2*n]...), l3+n, frame[l3:l3+n]...)
		return with(r, l4, typ)
	}
	for name, c := range map[string]struct {
		frame func(typ uint8, id uint16) []byte
		reply func([]byte, byte) []byte
		types [][2]uint8
	}{
		"v4": {func(typ uint8, id uint16) []byte { return build(eth(0x0800), ip4(out4, 1, 0), query(typ, id)) },
			func(f []byte, typ byte) []byte { return reply(f, 26, 4, 34, typ) }, [][2]uint8{{8, 0}, {13, 14}, {15, 16}, {17, 18}}},
		"v6": {func(typ uint8, id uint16) []byte { return build(eth(0x86dd), ip6(out6, 58), query(typ, id)) },
			func(f []byte, typ byte) []byte { return reply(f, 22, 16, 54, typ) }, [][2]uint8{{128, 129}}},
	} {
		for _, types := range c.types {
			buckets := map[uint16]bool{}
			for id := range uint16(100) {
				request := c.frame(types[0], id*259)
				_, a := agree(t, s, table, request)
				_, b := agree(t, s, table, c.reply(request, types[1]))
				if a == nil || b == nil || a.Hash != b.Hash || a.Bucket != b.Bucket {
					t.Fatalf("%s, type %d, identifier %d: request %+v, reply %+v", name, types[0], id, a, b)
				}
				buckets[a.Bucket] = true
			}
			if len(buckets) < 85 { // of 1,024, about 5 meet
				t.Errorf("%s, type %d: 100 identifiers in %d buckets", name, types[0], len(buckets))
			}
		}
		// What is no query has no identifier: router solicitation and such.
		_, a := agree(t, s, table, c.frame(10, 1))
		_, b := agree(t, s, table, c.frame(10, 2))
		if a.Hash != b.Hash {
			t.Errorf("%s: bytes 4 and 5 of type 10 count", name)
		}
	}
	ports := compile(t, []classify.Rule{{Path: 1, VLAN: classify.AnyVLAN, Proto: classify.AnyProto, DstPorts: classify.PortRange{Lo: 1, Hi: 65535}}})
	s = onePort(t, ports)
	for _, frame := range [][]byte{build(eth(0x0800), ip4(out4, 1, 0), query(8, 80)), build(eth(0x86dd), ip6(out6, 58), query(128, 80))} {
		if got, _ := agree(t, s, ports, frame); got != unmatched {
			t.Errorf("a ping with identifier 80, and a rule for ports: %s", got)
		}
	}
}

// All fragments of a packet and all ICMP errors between two hosts are in one
// bucket of the odd row, whatever path they take.
func TestOddRow(t *testing.T) {
	s, o := shared(t, 2)
	table := compile(t, fixtureRules)
	for name, frames := range map[string][][]byte{
		"v4": {
			with(build(eth(0x0800), ip4(in4, 17, 0), udp(4000, 53), data(16)), 20, 0x20, 0),
			with(build(eth(0x0800), ip4(in4, 17, 0), data(16)), 20, 0x20, 5),
			with(build(eth(0x0800), ip4(in4, 6, 0), data(16)), 20, 0, 9),
			build(eth(0x0800), ip4(in4, 1, 0), icmp(3), data(28)),
			with(build(eth(0x0800), ip4(in4, 1, 0), query(8, 77), data(16)), 20, 0x20, 0),
		},
		"v6": {
			build(eth(0x86dd), ip6(in6, 44), frag6(17, 0, 1), udp(4000, 53)),
			build(eth(0x86dd), ip6(in6, 44), frag6(17, 9, 1), data(8)),
			build(eth(0x86dd), ip6(in6, 44), frag6(60, 20, 0), data(8)),
			build(eth(0x86dd), ip6(in6, 58), icmp(1), data(40)),
		},
	} {
		paths, bucket := map[uint16]bool{}, -1
		for _, frame := range frames {
			before := sent(o)
			_, meta := agree(t, s, table, frame)
			if meta == nil {
				t.Fatalf("%s: not claimed\n%x", name, frame)
			}
			paths[meta.Path] = true
			at := [2]uint16{o.Odd(), meta.Bucket}
			if bucket >= 0 && int(meta.Bucket) != bucket || sent(o)[at] != before[at]+1 {
				t.Errorf("%s: bucket %d of the odd row, %d before; counted %v", name, meta.Bucket, bucket, sent(o))
			}
			bucket = int(meta.Bucket)
		}
		if len(paths) < 2 {
			t.Errorf("%s: all take one path", name)
		}
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
		if err := s.Update(compile(t, rules)); err != nil {
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
		"odd pins":         {PinBytes: 3 * pinBucketBytes << 4},
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
	if err := s.Update(compile(t, rules)); err != nil { // all dimensions, the longest searches
		t.Fatal(err)
	}
	if len(s.PinMemory()) != maxPinBytes {
		t.Errorf("%d bytes of pins", len(s.PinMemory()))
	}
}

// BenchmarkSteerOwners is the program's cost per frame by workers and pins:
// nobody to look for, pins that are not asked (no functions that pin), asked in
// vain, and found.
func BenchmarkSteerOwners(b *testing.B) {
	needKernel(b)
	for _, workers := range []int{1, 2} {
		for _, mode := range []string{"none", "miss", "hit"} {
			s, _ := shared(b, workers, mode != "none")
			if mode != "none" {
				pins, err := steer.NewPins(s.PinMemory())
				if err != nil {
					b.Fatal(err)
				}
				hash, own := flowOf(b, s, dns4)
				if mode == "miss" {
					hash++
				}
				pins.Insert(steer.PinKey(hash, 0), steer.PinValue(0, 0, own^1))
			}
			b.Run(fmt.Sprintf("workers=%d/pins=%s", workers, mode), func(b *testing.B) {
				best := 0.0
				for i := 0; b.Loop(); i++ {
					action, ns := runMany(b, s.ports[0].prog, dns4)
					if action != xdpRedirect {
						b.Fatalf("action %d", action)
					}
					if i == 0 || ns < best {
						best = ns
					}
				}
				b.ReportMetric(best, "ns/pkt")
			})
		}
	}
}
