package lab

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sfc/testbed/gate"
)

// counting is what the stateful chain does beside firewall and translation.
const counting = `    - module: %[1]s/ratelimit/ratelimit.wasm
      config: {key: flow, rate: 100000000, unit: pps, burst: 100000000}
    - module: %[1]s/flowstat/flowstat.wasm
      config: {tcp_rtt: true}
`

// unrest moves buckets every 10 ms and replaces the firewall every 50 ms, until
// the test is over. It counts what it did.
type unrest struct {
	moves, forced atomic.Int64
	flows, swaps  atomic.Int64
	longest       atomic.Int64 // ns that a swap held packets
}

func (u *unrest) run(t *testing.T, c *Client, file string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	every := func(d time.Duration, do func(n int) error) {
		wg.Go(func() {
			tick := time.NewTicker(d)
			defer tick.Stop()
			for n := 0; ; n++ {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				if err := do(n); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	every(10*time.Millisecond, func(int) error {
		list, err := c.Flows(ctx, FlowQuery{Bucket: -1, Limit: 50})
		if err != nil {
			return err
		}
		// Buckets that have flows, to the worker that has them not.
		for i, f := range list.Flows {
			if i >= 8 {
				break
			}
			r, err := c.Move(ctx, MoveArgs{Bucket: f.Bucket, To: 1 - f.Worker})
			if err != nil {
				return err
			}
			if r.Refused != 0 {
				return fmt.Errorf("%d flows of bucket %d found no room", r.Refused, f.Bucket)
			}
			u.moves.Add(1)
			if r.Forced {
				u.forced.Add(1)
			}
			u.flows.Add(int64(r.Flows))
		}
		return nil
	})
	every(50*time.Millisecond, func(int) error {
		r, err := c.Swap(ctx, SwapArgs{Function: "firewall", Module: file, ProbationNs: -1})
		if err != nil {
			return err
		}
		if r.State != "kept" {
			return fmt.Errorf("flow state was %s, not kept", r.State)
		}
		u.swaps.Add(1)
		for _, ns := range r.HoldsNs {
			u.longest.Store(max(u.longest.Load(), ns))
		}
		return nil
	})
	return func() { cancel(); wg.Wait() }
}

// Real programs work through firewall and address translation while flows move
// between workers and the firewall is replaced, again and again.
func TestProgramsUnderMovesAndSwaps(t *testing.T) {
	gate.Root(t)
	gate.Leaks(t)
	c := run(t, Options{Workers: 2, Chains: []string{natChain(t, counting)}})
	dir := t.TempDir()
	content := make([]byte, 100<<20)
	rand.Read(content)
	write := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("big", content)
	for i := range 100 {
		write(fmt.Sprint("small", i), content[i*1000:][:1000])
	}
	startServer(t, c, dir, "python3", "-c", webServer)
	answerNames(t, c)
	file, err := filepath.Abs("../../nf/catalog/firewall/firewall.wasm")
	if err != nil {
		t.Fatal(err)
	}
	var u unrest
	stop := u.run(t, c, file)
	t.Run("curl 100 MB", func(t *testing.T) {
		got := filepath.Join(t.TempDir(), "got")
		retry(t, func() error { // until the server listens
			out, err := program(t, c, HostClient, "curl", "-sS", "-o", got, "http://10.0.1.2/big")
			return withOutput(out, err)
		})
		same(t, got, content)
	})
	t.Run("100 requests at a time", func(t *testing.T) {
		got := t.TempDir()
		out, err := program(t, c, HostClient, "curl", "-sS", "--fail", "-Z", "--parallel-max", "100", "-o", got+"/#1", "http://10.0.1.2/small[0-99]")
		if err := withOutput(out, err); err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			same(t, filepath.Join(got, fmt.Sprint(i)), content[i*1000:][:1000])
		}
	})
	quiet(t, c, 0)
	t.Run("iperf3", func(t *testing.T) { iperf(t, c) })
	// It ends its connections by RST while data is on its way.
	after := dropped(t, c, "invalid_state")
	t.Run("DNS", func(t *testing.T) {
		for i := range 20 {
			out, err := program(t, c, HostClient, "dig", "@10.0.1.2", fmt.Sprintf("host%d.example", i), "+short", "+tries=1", "+timeout=3")
			if err != nil || strings.TrimSpace(out) != "192.0.2.53" {
				t.Fatalf("query %d: %q, %v", i, out, err)
			}
		}
	})
	t.Run("ping", func(t *testing.T) {
		out, err := program(t, c, HostClient, "ping", "-n", "-c", "40", "-i", "0.02", "-W", "10", "10.0.1.2")
		if err != nil || !strings.Contains(out, " 0% packet loss") {
			t.Fatalf("%v\n%s", err, out)
		}
	})
	t.Run("traceroute", func(t *testing.T) {
		// The answers are ICMP errors that quote translated packets.
		out, err := program(t, c, HostClient, "traceroute", "-n", "-q", "3", "-w", "2", "-m", "4", "10.0.1.2")
		if lines := strings.Split(strings.TrimSpace(out), "\n"); err != nil || len(lines) != 2 || strings.Contains(out, "*") || !strings.Contains(lines[1], "10.0.1.2") {
			t.Fatalf("%v\n%s", err, out)
		}
	})
	stop()
	quiet(t, c, after)
	s, err := c.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f := s.Chains[0].Functions
	t.Logf("%d moves of %d flows, %d of them forced, %d swaps with %v at most", u.moves.Load(), u.flows.Load(), u.forced.Load(), u.swaps.Load(), time.Duration(u.longest.Load()))
	t.Logf("holds: %+v", s.Holds)
	for _, p := range s.Ports {
		t.Logf("port %s: %d frames, the kernel lost %v around the engine", p.Port, p.Frames, p.Lost)
	}
	if u.moves.Load() < 20 || u.flows.Load() < 20 || u.swaps.Load() < 5 {
		t.Error("hardly anything moved")
	}
	for _, w := range s.Workers {
		for reason, n := range w.Engine {
			if n > 0 && reason != "no_neighbour" { // the first packets of all
				t.Errorf("worker %d dropped %d packets: %s", w.Worker, n, reason)
			}
		}
	}
	for _, fn := range f {
		t.Logf("%s: %d packets, dropped %v", fn.Name, fn.Packets, fn.Dropped)
		if fn.Faults != 0 {
			t.Errorf("function %s faulted %d times: %s", fn.Name, fn.Faults, fn.LastFault)
		}
	}
}

// dropped returns how many packets functions dropped for a reason.
func dropped(t *testing.T, c *Client, reason string) (n uint64) {
	t.Helper()
	s, err := c.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range s.Chains[0].Functions {
		n += f.Dropped[reason]
	}
	return n
}

// quiet fails when functions dropped what they should not have, beside known
// packets of connections that were reset.
func quiet(t *testing.T, c *Client, known uint64) {
	t.Helper()
	if n := dropped(t, c, "invalid_state"); n != known {
		t.Errorf("%d packets were dropped as invalid_state", n-known)
	}
	for _, reason := range []string{"out_of_window", "no_mapping", "bind_failed", "port_exhausted", "no_flow"} {
		if n := dropped(t, c, reason); n != 0 {
			t.Errorf("%d packets were dropped as %s", n, reason)
		}
	}
}
