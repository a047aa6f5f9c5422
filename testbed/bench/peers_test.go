package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sfc/bpf"
	"sfc/testbed/gate"
	"sfc/testbed/netns"
)

// The comparison with other forwarders. On one topology, in turn, A B A B:
//
//	gen namespace        dut namespace (device under test)     sink namespace
//	  g0 ----- veth ----- in   forwarder   out ----- veth ----- s0
//	core 0                     core 1
//
// The generator runs in the kernel on core 0, XDP counts and drops at s0.
// `make bench-peers` runs it: SFC_PEERS is the number of rounds.
func TestPeers(t *testing.T) {
	rounds, err := strconv.Atoi(os.Getenv("SFC_PEERS"))
	if err != nil || rounds < 1 {
		t.Skip("set SFC_PEERS to the number of rounds, or run make bench-peers")
	}
	gate.Root(t)
	gate.Tool(t, "dpdk-testpmd")
	if runtime.NumCPU() < 2 {
		t.Skip("needs 2 cores: one for the load, one for what is measured")
	}
	runtime.GOMAXPROCS(runtime.NumCPU() + 2)
	for _, size := range []int{64, 1500} {
		t.Run(fmt.Sprintf("size=%d", size), func(t *testing.T) { throughput(t, rounds, size) })
	}
	t.Run("stateful", func(t *testing.T) { statefulPeers(t, rounds) })
	t.Run("rtt", func(t *testing.T) { roundTrips(t, rounds) })
	t.Run("idle", idle)
}

// peer is a forwarder between in and out.
type peer struct {
	name string
	// start starts it in the dut namespace and returns how to stop it, and how
	// long core 1 has been busy.
	start func(t *testing.T, w *peerWorld) (stop func(), cpuTime func() time.Duration)
	// follows says that it keeps state of flows.
	follows bool
}

func peers(t *testing.T) []peer {
	return []peer{
		{name: "dpdk-testpmd io", start: startTestpmd},
		{name: "Linux forwarding", start: startLinux},
		{name: "sfc, empty chain", start: func(t *testing.T, w *peerWorld) (func(), func() time.Duration) { return startSFC(t, w, "empty") }},
		{name: "sfc, 4 functions", start: func(t *testing.T, w *peerWorld) (func(), func() time.Duration) { return startSFC(t, w, "edge") }},
	}
}

// peerWorld is the topology, made anew for every measurement.
type peerWorld struct {
	gen, dut, sink  *netns.NS
	g0, in, out, s0 *netns.Link
}

func newPeerWorld(t *testing.T) *peerWorld {
	t.Helper()
	w := &peerWorld{}
	for _, ns := range []**netns.NS{&w.gen, &w.dut, &w.sink} {
		*ns = must(netns.New())(t)
	}
	var err error
	if w.g0, w.in, err = netns.Veth(w.gen, "g0", w.dut, "in", netns.VethOptions{}); err != nil {
		t.Fatal(err)
	}
	if w.out, w.s0, err = netns.Veth(w.dut, "out", w.sink, "s0", netns.VethOptions{}); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *peerWorld) close(t *testing.T) {
	for _, ns := range []*netns.NS{w.gen, w.dut, w.sink} {
		if err := ns.Close(); err != nil {
			t.Error(err)
		}
	}
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// load is what the generator sends.
type load struct {
	frame  func(w *peerWorld) []byte
	flows  int  // a power of two
	spread bool // see bpf.GeneratorOptions
	// open has the flows begun and answered beforehand.
	open bool
}

// throughput prints packets per second at the sink and how busy core 1 was, for
// forwarders that look at no flows.
func throughput(t *testing.T, rounds, size int) {
	compare(t, peers(t), rounds, fmt.Sprintf("%d-byte packets", size), func(peer) load {
		return load{frame: func(w *peerWorld) []byte { return peerFrame(w, size) }, flows: 1024}
	})
}

// compare measures peers in turn and prints a table; the first of them is what
// the others are compared with. SFC_PEER, a regular expression, chooses some.
func compare(t *testing.T, ps []peer, rounds int, title string, of func(peer) load) {
	t.Helper()
	only, err := regexp.Compile(os.Getenv("SFC_PEER"))
	if err != nil {
		t.Fatalf("SFC_PEER: %v", err)
	}
	ps = slices.DeleteFunc(ps, func(p peer) bool { return !only.MatchString(p.name) })
	mpps := make([][]float64, len(ps))
	busy := make([][]float64, len(ps))
	for range rounds {
		for i, p := range ps {
			m, c := measure(t, p, of(p))
			mpps[i] = append(mpps[i], m)
			busy[i] = append(busy[i], c)
		}
	}
	fmt.Printf("\n### %s, %d rounds, medians\n\n| forwarder | Mpps at the sink | of the first | core 1 busy | all rounds |\n|---|---|---|---|---|\n", title, rounds)
	for i, p := range ps {
		fmt.Printf("| %s | %.3f | %.2f | %s | %s |\n", p.name, median(mpps[i]), median(mpps[i])/median(mpps[0]), percent(median(busy[i])), list(mpps[i]))
	}
}

// idle prints the CPU that this engine takes without traffic: the whole
// process, worker, epoch ticker and Go runtime.
func idle(t *testing.T) {
	w := newPeerWorld(t)
	defer w.close(t)
	stop, _ := startSFC(t, w, "edge")
	defer stop()
	used := func() time.Duration {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	time.Sleep(200 * time.Millisecond)
	before, start := used(), time.Now()
	time.Sleep(5 * time.Second)
	fmt.Printf("\n### no traffic\n\nCPU of the process: %.2f %% of a core\n", 100*float64(used()-before)/float64(time.Since(start)))
}

// measure loads one forwarder for about 3 s and looks at 2 of them.
func measure(t *testing.T, p peer, l load) (mpps, busy float64) {
	t.Helper()
	w := newPeerWorld(t)
	defer w.close(t)
	stop, cpuTime := p.start(t, w)
	defer stop()
	if l.open {
		openFlows(t, w, p.name, l)
	}
	var sink *bpf.Sink
	if err := w.sink.Do(func() (err error) { sink, err = bpf.OpenSink(w.s0.Index, bpf.Native); return err }); err != nil {
		t.Fatal(err)
	}
	defer sink.Close()

	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- w.gen.Do(func() error {
			var before, set unix.CPUSet
			set.Set(0)
			if err := errors.Join(unix.SchedGetaffinity(0, &before), unix.SchedSetaffinity(0, &set)); err != nil {
				return err
			}
			// The thread goes back to the others, and so to whoever asks next.
			defer unix.SchedSetaffinity(0, &before)
			g, err := bpf.OpenGenerator(w.g0.Index, bpf.GeneratorOptions{Frame: l.frame(w), Flows: l.flows, Spread: l.spread})
			if err != nil {
				return err
			}
			defer g.Close()
			_, err = g.Run(ctx, 1<<40)
			return err
		})
	}()
	time.Sleep(500 * time.Millisecond)
	frames0, _, err := sink.Totals()
	if err != nil {
		t.Fatal(err)
	}
	cpu0, start := cpuTime(), time.Now()
	time.Sleep(2 * time.Second)
	frames1, _, err := sink.Totals()
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	busy = (cpuTime() - cpu0).Seconds() / took.Seconds()
	cancel()
	if err := <-done; err != nil && ctx.Err() == nil {
		t.Fatal(err)
	}
	if frames1 == frames0 {
		t.Errorf("%s forwarded nothing", p.name)
	}
	return float64(frames1-frames0) / took.Seconds() / 1e6, busy
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

func list(v []float64) string {
	var s []string
	for _, x := range v {
		s = append(s, fmt.Sprintf("%.3f", x))
	}
	return strings.Join(s, " ")
}

func percent(f float64) string { return fmt.Sprintf("%.0f %%", 100*f) }
