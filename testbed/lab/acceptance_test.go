package lab

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sfc/testbed/gate"
)

// natFile writes the chain of a small network's edge: firewall and address
// translation, and what counts.
func natFile(t *testing.T) string {
	t.Helper()
	catalog, err := filepath.Abs("../../nf/catalog")
	if err != nil {
		t.Fatal(err)
	}
	return writeChain(t, fmt.Sprintf(`spec:
  match: [{port: in}]
  egress: out
  return: mirrored
  flows: 16384
  addresses: [{port: out, prefix: 10.0.1.16/28}]
  functions:
    - module: %[1]s/firewall/firewall.wasm
      config: {default: deny, rules: [{action: permit, src: 10.0.0.0/24}, {action: permit, src: "fe80::/10"}]}
    - module: %[1]s/nat44/nat44.wasm
      config: {inside: [10.0.0.0/24], pool: ["10.0.1.16/28"]}
    - module: %[1]s/ratelimit/ratelimit.wasm
      config: {key: flow, rate: 100000000, unit: pps, burst: 100000000}
    - module: %[1]s/flowstat/flowstat.wasm
      config: {tcp_rtt: true}
`, catalog))
}

// program runs a real program on a host and returns what it wrote.
func program(t *testing.T, c *Client, h Host, argv ...string) (string, error) {
	t.Helper()
	path := gate.Tool(t, argv[0])
	var out []byte
	err := c.within(t.Context(), h, func() (err error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		out, err = exec.CommandContext(ctx, path, argv[1:]...).CombinedOutput()
		return err
	})
	return string(out), err
}

// startServer starts a real program on the server; it ends with the test.
func startServer(t *testing.T, c *Client, dir string, argv ...string) {
	t.Helper()
	cmd := exec.Command(gate.Tool(t, argv[0]), argv[1:]...)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	ended := make(chan struct{})
	// The thread that starts it must live as long as the program does.
	go on(t, c, HostServer, func() error {
		defer close(ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // killed below
		}
		return nil
	})
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
}

// unrest moves buckets every 10 ms and replaces the firewall every 50 ms, until
// the test is over. It counts what it did.
type unrest struct {
	moves, flows, swaps atomic.Int64
	longest             atomic.Int64 // ns that a swap held packets
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
	c := run(t, Options{Workers: 2, Chains: []string{natFile(t)}})
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
	t.Run("iperf3", func(t *testing.T) { iperf(t, c) })
	t.Run("DNS", func(t *testing.T) {
		for i := range 20 {
			out, err := program(t, c, HostClient, "dig", "@10.0.1.2", fmt.Sprintf("host%d.example", i), "+short", "+tries=1", "+timeout=3")
			if err != nil || strings.TrimSpace(out) != "192.0.2.53" {
				t.Fatalf("query %d: %q, %v", i, out, err)
			}
		}
	})
	t.Run("ping", func(t *testing.T) {
		out, err := program(t, c, HostClient, "ping", "-n", "-c", "40", "-i", "0.02", "10.0.1.2")
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
	s, err := c.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f := s.Chains[0].Functions
	t.Logf("%d moves of %d flows, %d swaps with %v at most", u.moves.Load(), u.flows.Load(), u.swaps.Load(), time.Duration(u.longest.Load()))
	t.Logf("holds: %+v", s.Holds)
	if u.moves.Load() < 20 || u.flows.Load() < 20 || u.swaps.Load() < 5 {
		t.Error("hardly anything moved")
	}
	for _, w := range s.Workers {
		for reason, n := range w.Reasons {
			if n > 0 && reason != "no_neighbour" { // the first packets of all
				t.Errorf("worker %d dropped %d packets: %s", w.Index, n, reason)
			}
		}
	}
	for _, fn := range f {
		t.Logf("%s: %d packets, dropped %v", fn.Name, fn.Packets, fn.Dropped)
		if fn.Faults != 0 {
			t.Errorf("function %s faulted %d times: %s", fn.Name, fn.Faults, fn.LastFault)
		}
		for reason := range fn.Dropped {
			if reason == "invalid_state" || reason == "out_of_window" || reason == "no_mapping" || reason == "bind_failed" || reason == "port_exhausted" {
				t.Errorf("function %s dropped %d packets: %s", fn.Name, fn.Dropped[reason], reason)
			}
		}
	}
}

// webServer is python3 -m http.server with room for 100 connections that come
// at once: its own listens with a backlog of 5.
const webServer = `
import http.server, os
class S(http.server.ThreadingHTTPServer):
    request_queue_size = 256
S(("", 80), http.server.SimpleHTTPRequestHandler).serve_forever()
`

// iperf measures TCP and UDP, both ways.
func iperf(t *testing.T, c *Client) {
	startServer(t, c, t.TempDir(), "iperf3", "-s")
	for _, args := range [][]string{nil, {"-R"}, {"-u", "-b", "20M"}, {"-u", "-b", "20M", "-R"}} {
		var out string
		retry(t, func() (err error) {
			out, err = program(t, c, HostClient, append([]string{"iperf3", "-c", "10.0.1.2", "-t", "2", "-J"}, args...)...)
			return withOutput(out, err)
		})
		var rep struct {
			End struct {
				SumSent, SumReceived, Sum struct {
					BitsPerSecond float64 `json:"bits_per_second"`
					Retransmits   int     `json:"retransmits"`
					LostPackets   int     `json:"lost_packets"`
					Packets       int     `json:"packets"`
				}
			} `json:"end"`
		}
		text := regexp.MustCompile(`"(sum)_(sent|received)"`).ReplaceAllString(out, `"$1$2"`)
		if err := json.Unmarshal([]byte(text), &rep); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		e := rep.End
		if len(args) > 0 && args[0] == "-u" {
			t.Logf("udp %v: %d packets, %d lost", args, e.Sum.Packets, e.Sum.LostPackets)
			if e.Sum.Packets < 1000 {
				t.Errorf("%v: %d packets", args, e.Sum.Packets)
			}
			continue
		}
		t.Logf("tcp %v: %.0f Mbit/s, %d retransmits", args, e.SumReceived.BitsPerSecond/1e6, e.SumSent.Retransmits)
		if e.SumReceived.BitsPerSecond < 1e6 {
			t.Errorf("%v: %.0f bit/s", args, e.SumReceived.BitsPerSecond)
		}
	}
}

// answerNames is a name server that has one address for all names.
func answerNames(t *testing.T, c *Client) {
	t.Helper()
	on(t, c, HostServer, func() error {
		p, err := net.ListenPacket("udp", ":53")
		if err != nil {
			return err
		}
		t.Cleanup(func() { p.Close() })
		go func() {
			buf := make([]byte, 512)
			for {
				n, from, err := p.ReadFrom(buf)
				if err != nil {
					return
				}
				if a := answer(buf[:n]); a != nil {
					_, _ = p.WriteTo(a, from) // a lost answer fails the test
				}
			}
		}()
		return nil
	})
}

// answer answers a DNS query (RFC 1035) of one question with 192.0.2.53; nil
// when it is none.
func answer(q []byte) []byte {
	const header = 12
	end := header
	for end < len(q) && q[end] != 0 {
		end += int(q[end]) + 1
	}
	end += 1 + 4
	if len(q) < header || end > len(q) {
		return nil
	}
	a := append([]byte(nil), q[:end]...)
	a[2], a[3] = 0x81, 0x80
	binary.BigEndian.PutUint64(a[4:], 1<<48|1<<32) // a question, an answer
	return append(a, 0xc0, header, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 53)
}

// retry does something that a server which has just been started may refuse.
func retry(t *testing.T, do func() error) {
	t.Helper()
	var err error
	for range 50 {
		if err = do(); err == nil {
			return
		}
		if !strings.Contains(err.Error(), "refused") && !strings.Contains(err.Error(), "connect to") {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal(err)
}

func withOutput(out string, err error) error {
	if err != nil {
		return errors.Join(err, errors.New(out))
	}
	return nil
}

func same(t *testing.T, file string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Fatalf("%s: %d bytes came, not the %d that were sent", filepath.Base(file), len(got), len(want))
	}
}
