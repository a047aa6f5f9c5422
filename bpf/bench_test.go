package bpf

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"sfc/dataplane/classify"
	"sfc/testbed/netns"
)

// Shapes of rules for the benchmark: chain i claims a /24 (IPv4) or a /48
// (IPv6), a protocol and a range of ports.
var shapes = map[string]struct {
	rule  func(i int) classify.Rule
	frame func(i int) []byte
}{
	"v4": {
		func(i int) classify.Rule {
			return chainRule(i, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24))
		},
		func(i int) []byte {
			return build(eth(0x0800), ip4([4]byte{10, byte(i >> 8), byte(i), 9}, 17, 0), udp(999, 1000), data(18))
		},
	},
	"v6": {
		func(i int) classify.Rule {
			return chainRule(i, netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 4: byte(i >> 8), 5: byte(i)}), 48))
		},
		func(i int) []byte {
			return build(eth(0x86dd), ip6([16]byte{0xfd, 4: byte(i >> 8), 5: byte(i), 15: 9}, 17), udp(999, 1000))
		},
	},
}

func chainRule(i int, src netip.Prefix) classify.Rule {
	return classify.Rule{Path: uint16(i), VLAN: classify.AnyVLAN, Proto: 17, Src: src,
		DstPorts: classify.PortRange{Lo: uint16(1000 - i%7), Hi: uint16(1000 + i%11)}}
}

// BenchmarkSteer is the program's cost per frame by number of chains: claimed by
// the last chain and redirected, or claimed by none and passed.
func BenchmarkSteer(b *testing.B) {
	needKernel(b)
	for _, shape := range []string{"v4", "v6"} {
		for _, n := range []int{0, 1, 100, 1000, classify.MaxRules} {
			rules := make([]classify.Rule, n)
			for i := range rules {
				rules[i] = shapes[shape].rule(i)
			}
			s := onePort(b, compile(b, rules))
			for _, fate := range []string{"claimed", "passed"} {
				frame, want := shapes[shape].frame(n-1), uint32(xdpRedirect)
				if fate == "passed" {
					frame, want = shapes[shape].frame(n+1), xdpPass
				} else if n == 0 {
					continue
				}
				b.Run(fmt.Sprintf("%s/chains=%d/%s", shape, n, fate), func(b *testing.B) {
					best := 0.0
					for i := 0; b.Loop(); i++ {
						action, ns := runMany(b, s.ports[0].prog, frame)
						if action != want {
							b.Fatalf("action %d, want %d", action, want)
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
}

// runMany runs a program a million times and returns the processor time in ns of
// one run. Processor time, because others want the cores too.
func runMany(tb testing.TB, p *ebpf.Program, frame []byte) (action uint32, ns float64) {
	tb.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const repeat = 1 << 20
	before := threadTime(tb)
	action, err := p.Run(&ebpf.RunOptions{Data: frame, Repeat: repeat})
	if err != nil {
		tb.Fatal(err)
	}
	return action, float64(threadTime(tb)-before) / repeat
}

// threadTime returns the processor time of the calling thread in ns.
func threadTime(tb testing.TB) int64 {
	tb.Helper()
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		tb.Fatal(err)
	}
	return t.Nano()
}

// BenchmarkSteerHostile is the worst that rules can do: every second one matches
// the frame's source and not its port, the others the reverse, so that summaries
// tell nothing and all words are read.
func BenchmarkSteerHostile(b *testing.B) {
	needKernel(b)
	for _, n := range []int{100, 1000, classify.MaxRules} {
		rules := make([]classify.Rule, n)
		for i := range rules {
			rules[i] = shapes["v4"].rule(0)
			if i%2 == 0 {
				rules[i].DstPorts = classify.PortRange{Lo: 1, Hi: 1}
			} else {
				rules[i].Src = netip.MustParsePrefix("11.0.0.0/24")
			}
		}
		s := onePort(b, compile(b, rules))
		b.Run(fmt.Sprintf("chains=%d", n), func(b *testing.B) {
			best := 0.0
			for i := 0; b.Loop(); i++ {
				if _, ns := runMany(b, s.ports[0].prog, shapes["v4"].frame(0)); i == 0 || ns < best {
					best = ns
				}
			}
			b.ReportMetric(best, "ns/pkt")
		})
	}
}

// BenchmarkSteerAllCPUs is BenchmarkSteer with every CPU at it, on one port, as
// with a NIC of several queues: what they share (the sequence number; with
// several workers the bucket, here one and the same for all) costs.
func BenchmarkSteerAllCPUs(b *testing.B) {
	for _, workers := range []int{1, 2} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			s, _ := shared(b, workers)
			best := 0.0
			for i := 0; b.Loop(); i++ {
				each := make([]float64, runtime.NumCPU())
				var wg sync.WaitGroup
				for cpu := range each {
					wg.Go(func() { _, each[cpu] = runMany(b, s.ports[0].prog, dns4) })
				}
				wg.Wait()
				mean := 0.0
				for _, ns := range each {
					mean += ns / float64(len(each))
				}
				if i == 0 || mean < best {
					best = mean
				}
			}
			b.ReportMetric(best, "ns/pkt")
		})
	}
}

// BenchmarkGenerate is the generator's rate into a sink behind a veth link.
func BenchmarkGenerate(b *testing.B) {
	needKernel(b)
	near, err := netns.New()
	if err != nil {
		b.Fatal(err)
	}
	defer near.Close()
	far, err := netns.New()
	if err != nil {
		b.Fatal(err)
	}
	defer far.Close()
	to, from, err := netns.Veth(near, "near", far, "far", netns.VethOptions{})
	if err != nil {
		b.Fatal(err)
	}
	var sink *Sink
	if err := near.Do(func() (err error) { sink, err = OpenSink(to.Index, Native); return err }); err != nil {
		b.Fatal(err)
	}
	defer sink.Close()
	frame := build(eth(0x0800), ip4(out4, 17, 0), udp(4000, 53), data(22)) // 64 bytes
	g, err := OpenGenerator(from.Index, GeneratorOptions{Frame: frame, Flows: 4096})
	if err != nil {
		b.Fatal(err)
	}
	defer g.Close()
	start, made := time.Now(), uint64(0)
	for b.Loop() {
		if err := far.Do(func() error {
			n, err := g.Run(context.Background(), 1<<22)
			made += n
			return err
		}); err != nil {
			b.Fatal(err)
		}
	}
	took := time.Since(start).Seconds()
	arrived, _, err := sink.Totals()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(made)/took/1e6, "Mpps-made")
	b.ReportMetric(float64(arrived)/took/1e6, "Mpps-arrived")
}

// BenchmarkPass is what the test run itself costs: take it off BenchmarkSteer.
func BenchmarkPass(b *testing.B) {
	needKernel(b)
	var objs passObjects
	if err := loadPassObjects(&objs, nil); err != nil {
		b.Fatal(err)
	}
	defer objs.Close()
	best := 0.0
	for i := 0; b.Loop(); i++ {
		if _, ns := runMany(b, objs.Pass, dns4); i == 0 || ns < best {
			best = ns
		}
	}
	b.ReportMetric(best, "ns/pkt")
}

// BenchmarkUpdate is the time to compile and load a new table for one port.
func BenchmarkUpdate(b *testing.B) {
	needKernel(b)
	for _, n := range []int{1, 100, 1000, classify.MaxRules} {
		rules := make([]classify.Rule, n)
		for i := range rules {
			rules[i] = shapes["v4"].rule(i)
		}
		s := onePort(b, nil)
		b.Run(fmt.Sprintf("chains=%d", n), func(b *testing.B) {
			for b.Loop() {
				table, err := classify.Compile(rules)
				if err != nil {
					b.Fatal(err)
				}
				if err := s.Update(Rules{Table: table}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
