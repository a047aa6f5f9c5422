package bpf

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"sfc/dataplane/classify"
	"sfc/dataplane/packet"
)

func TestPolicies(t *testing.T) {
	needKernel(t)
	table := compile(t, fixtureRules)
	s := steering(t, Config{Table: table, Ports: []PortConfig{
		{Ifindex: loopback, Unmatched: classify.Drop},
		{Ifindex: loopback, Unmatched: classify.Forward, Pair: 0},
		{Ifindex: loopback, Unmatched: classify.Pass},
	}})
	arp, other := build(eth(0x0806), data(28)), build(eth(0x0800), ip4(out4, 17, 0), udp(53, 54))
	solicit := build(eth(0x86dd), ip6(in6, 58), icmp(135), data(16))
	for port, want := range []struct {
		action uint32
		name   string
	}{{xdpDrop, "no_path"}, {xdpRedirect, "forwarded"}, {xdpPass, "passed"}} {
		for why, frame := range map[string][]byte{"not_ip": arp, "nd": solicit, "unmatched": other} {
			before := counters(t, s, port)
			action, meta, _ := run(t, s, port, frame)
			if got := outcome(t, before, counters(t, s, port)); action != want.action || meta != nil || got != want.name+" "+why {
				t.Errorf("port %d, %s: action %d, %s", port, why, action, got)
			}
		}
		// No policy is about what a path claims, or what is broken.
		for name, frame := range map[string][]byte{"no_socket": dns4, "malformed": cut(dns4, 30)} {
			before := counters(t, s, port)
			action, _, _ := run(t, s, port, frame)
			if got := outcome(t, before, counters(t, s, port)); action != xdpDrop || got != name {
				t.Errorf("port %d: action %d, %s; want %s", port, action, got, name)
			}
		}
	}
	// The rule of port 1 and the port's own number.
	if err := s.SetSocket(1, 0, 0, socket(t)); err != nil {
		t.Fatal(err)
	}
	if _, meta, _ := run(t, s, 1, build(eth(0x0800), ip4(out4, 48, 0), data(8))); meta == nil || meta.Path != 10 || meta.Port != 1 {
		t.Errorf("metadata %+v, want path 10 and port 1", meta)
	}
}

func TestSockets(t *testing.T) {
	needKernel(t)
	s := onePort(t, compile(t, fixtureRules))
	if action, _, _ := run(t, s, 0, dns4); action != xdpRedirect {
		t.Errorf("with a socket: action %d", action)
	}
	for range 2 {
		if err := s.ClearSocket(0, 0, 0); err != nil {
			t.Error(err)
		}
	}
	if action, _, _ := run(t, s, 0, dns4); action != xdpDrop {
		t.Errorf("without a socket: action %d", action)
	}
	for _, queue := range []int{-1, MaxQueues} {
		if err := s.SetSocket(0, queue, 0, 0); !errors.Is(err, ErrNoPort) {
			t.Errorf("queue %d: %v", queue, err)
		}
	}
	if err := s.SetSocket(1, 0, 0, 0); !errors.Is(err, ErrNoPort) {
		t.Errorf("port 1 of 1: %v", err)
	}
	udp, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(udp)
	if err := s.SetSocket(0, 0, 0, udp); err == nil {
		t.Error("a UDP socket was taken for an AF_XDP socket")
	}
}

// Metadata that is there already, of any length, makes way.
func TestMetadataInTheWay(t *testing.T) {
	needKernel(t)
	s := onePort(t, compile(t, fixtureRules))
	for _, n := range []uint32{4, 16, packet.MetaSize} {
		end := n + uint32(len(dns4))
		ctx := xdpMD{Data: n, DataEnd: end}
		opts := ebpf.RunOptions{Data: slices.Concat(make([]byte, n), dns4), DataOut: make([]byte, len(dns4)+packet.MetaSize),
			Context: ctx, ContextOut: &ctx}
		action, err := s.ports[0].prog.Run(&opts)
		if err != nil {
			t.Fatal(err)
		}
		if action != xdpRedirect || ctx.Data-ctx.DataMeta != packet.MetaSize || !slices.Equal(opts.DataOut[packet.MetaSize:], dns4) {
			t.Errorf("%d bytes of metadata: action %d, then %+v\n%x", n, action, ctx, opts.DataOut)
		}
		if m := packet.MetaAt(opts.DataOut, packet.MetaSize); m.Path != 1 || m.Version != packet.MetaVersion {
			t.Errorf("%d bytes of metadata: %+v", n, *m)
		}
	}
}

// Numbers are given once each and every frame is counted, on all CPUs at once.
func TestCountsAreExactOnManyCPUs(t *testing.T) {
	needKernel(t)
	s := onePort(t, compile(t, fixtureRules))
	const each = 200000
	workers := 2 * runtime.NumCPU()
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			if _, err := s.ports[0].prog.Run(&ebpf.RunOptions{Data: web4, Repeat: each}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	seq, err := s.Seq(0)
	if err != nil {
		t.Fatal(err)
	}
	c := counters(t, s, 0)
	if want := uint64(workers * each); uint64(seq) != want || c.Redirected != want {
		t.Errorf("%d numbers given, %+v counted, want %d", seq, c, want)
	}
}

func TestCloseKeepsCounters(t *testing.T) {
	needKernel(t)
	s := onePort(t, nil)
	run(t, s, 0, dns4)
	before := counters(t, s, 0)
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if after := counters(t, s, 0); after != before || after.Passed != 1 {
		t.Errorf("counters %+v, were %+v", after, before)
	}
	if seq, err := s.Seq(0); seq != 1 || err != nil {
		t.Errorf("sequence number %d, %v", seq, err)
	}
	for name, err := range map[string]error{
		"update": s.Update(Rules{}),
		"socket": s.SetSocket(0, 0, 0, 0),
		"attach": func() error { _, err := s.Attach(0, Auto); return err }(),
		"mode":   func() error { _, err := s.Mode(0); return err }(),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s after close: %v", name, err)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	for name, c := range map[string]Config{
		"no port":           {},
		"too many ports":    {Ports: make([]PortConfig, classify.MaxPorts+1)},
		"no interface":      {Ports: []PortConfig{{}}},
		"unknown policy":    {Ports: []PortConfig{{Ifindex: 1, Unmatched: 9}}},
		"forward to itself": {Ports: []PortConfig{{Ifindex: 1, Unmatched: classify.Forward}}},
		"forward to none":   {Ports: []PortConfig{{Ifindex: 1, Unmatched: classify.Forward, Pair: 1}}},
	} {
		if _, err := Load(c); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, o := range map[string]GeneratorOptions{
		"no frame":    {},
		"arp":         {Frame: build(eth(0x0806), data(28))},
		"flows":       {Frame: dns4, Flows: 3},
		"far headers": {Frame: build(eth(0x8100), tag(1, 0x86dd), ip6(out6, 60), chain(8, 17), udp(1, 2))},
	} {
		if _, err := OpenGenerator(loopback, o); !errors.Is(err, ErrConfig) {
			t.Errorf("generator, %s: %v", name, err)
		}
	}
	if _, err := OpenGenerator(0, GeneratorOptions{Frame: dns4}); !errors.Is(err, ErrConfig) {
		t.Errorf("generator without interface: %v", err)
	}
}

func TestMissingFeatureIsNamed(t *testing.T) {
	ok := func() error { return nil }
	lacks := func() error { return ebpf.ErrNotSupported }
	err := checkKernel([]requirement{{"one", "1.0", ok}, {"two", "2.0", lacks}, {"three", "3.0", lacks}})
	var missing *UnsupportedError
	if !errors.As(err, &missing) || missing.Feature != "two" || missing.MinKernel != "2.0" || !errors.Is(err, ErrNotSupported) {
		t.Errorf("error %v", err)
	}
	err = checkKernel([]requirement{{"one", "1.0", func() error { return unix.EPERM }}})
	if errors.As(err, &missing) || !errors.Is(err, unix.EPERM) {
		t.Errorf("without privilege: %v", err)
	}
}

// Generated frames differ as promised and their checksums are right.
func TestGeneratorFrames(t *testing.T) {
	needKernel(t)
	for name, frame := range map[string][]byte{
		"udp4": build(eth(0x0800), ip4(out4, 17, 0), udp(4000, 53), data(20)),
		"tcp4": build(eth(0x8100), tag(5, 0x0800), ip4(out4, 6, 1), tcp(65000, 80, 1), data(3)),
		"udp6": build(eth(0x86dd), ip6(out6, 17), udp(4000, 53), data(100)),
		"tcp6": build(eth(0x86dd), ip6(out6, 6), tcp(4000, 80, 0)),
	} {
		packet.SetChecksums(frame)
		const flows = 8192
		spread := strings.HasPrefix(name, "tcp")
		g, err := OpenGenerator(loopback, GeneratorOptions{Frame: frame, Flows: flows, Spread: spread})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		type flow struct {
			src  [16]byte
			port uint16
		}
		seen, to := map[flow]bool{}, map[[16]byte]bool{}
		for range flows {
			opts := ebpf.RunOptions{Data: slices.Concat(make([]byte, min(len(frame), 64)), frame[min(len(frame), 64):]), DataOut: make([]byte, len(frame))}
			if _, err := g.objs.Generate.Run(&opts); err != nil {
				t.Fatal(err)
			}
			in, result := packet.Parse(opts.DataOut)
			if result != packet.ParsedIP || !packet.VerifyChecksums(opts.DataOut) {
				t.Fatalf("%s: %v, wrong checksum, or both\n%x", name, result, opts.DataOut)
			}
			seen[flow{in.Src, in.SrcPort}], to[in.Dst] = true, true
		}
		if len(seen) != flows {
			t.Errorf("%s: %d flows, want %d", name, len(seen), flows)
		}
		if want := map[bool]int{false: 1, true: flows / 4096}[spread]; len(to) != want {
			t.Errorf("%s: to %d addresses, want %d", name, len(to), want)
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A generator stops when it is told to, and where it has to.
func TestGeneratorStops(t *testing.T) {
	w := newWires(t)
	g := w.generator(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	in(t, w.far, func() error {
		if n, err := g.Run(ctx, 1<<40); n != 0 || err != nil {
			t.Errorf("cancelled before it started: %d frames, %v", n, err)
		}
		n, err := g.Run(context.Background(), 1000)
		if n != 1000 {
			t.Errorf("%d frames, want 1000", n)
		}
		return err
	})
}
