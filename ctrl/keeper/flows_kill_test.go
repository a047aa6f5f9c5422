package keeper

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sfc/ctrl/kernelipc"
	"sfc/ctrl/plane"
	"sfc/dataplane/packet"
	"sfc/nf"
	"sfc/nf/wasm"
	"sfc/testbed/gate"
	"sfc/testbed/netns"
	"sfc/testbed/trafgen"
)

const (
	killedFlows = 500
	// mostGap is how long no packet may come when the data plane was killed.
	mostGap = 300 * time.Millisecond
)

// conversation is a UDP packet of a flow: from inside, or an answer, with a
// number in its payload.
func conversation(flow int, answer bool, number uint32) []byte {
	f := make([]byte, 60)
	copy(f, "\x02\x00\x00\x00\x00\x0b\x02\x00\x00\x00\x00\x0a\x08\x00")
	copy(f[14:], "\x45\x00\x00\x2e\x00\x00\x40\x00\x40\x11\x00\x00")
	src, dst, sport, dport := []byte{10, 0, byte(flow >> 8), byte(flow)}, []byte{10, 1, 0, 1}, uint16(5000), uint16(53)
	if answer {
		src, dst, sport, dport = dst, src, dport, sport
	}
	copy(f[26:], src)
	copy(f[30:], dst)
	binary.BigEndian.PutUint16(f[34:], sport)
	binary.BigEndian.PutUint16(f[36:], dport)
	f[39] = 26
	binary.BigEndian.PutUint16(f[42:], uint16(flow))
	binary.BigEndian.PutUint32(f[44:], number)
	packet.SetChecksums(f)
	return f
}

// A data plane is killed again and again in the middle of traffic. No flow is
// lost: a firewall that lets nothing in but answers goes on to let the answers
// in, and between the last packet before a kill and the first one after it is
// little time.
func TestFlowsSurviveKills(t *testing.T) { survive(t, 20, mostGap) }

// So it is where each data plane has to bind sockets of its own, as before Linux
// 6.4; only frames in rings are lost. The kernel takes its time to free queues.
func TestFlowsSurviveKillsUnbound(t *testing.T) {
	t.Setenv("KEEPER_UNBOUND", "1")
	survive(t, 5, time.Second)
}

func survive(t *testing.T, kills int, most time.Duration) {
	gate.Root(t)
	gate.Leaks(t)
	dir := t.TempDir()
	host, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { host.Close() })
	engine, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close() })
	var far [2]*netns.Link
	for i, name := range []string{"in", "out"} {
		link, _, err := netns.Veth(host, "far"+itoa(i), engine, name, netns.VethOptions{})
		if err != nil {
			t.Fatal(err)
		}
		stub, err := link.EnableNAPI()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { stub.Close() })
		far[i] = link
	}
	if err := os.Mkdir(filepath.Join(dir, "codes"), 0o700); err != nil {
		t.Fatal(err)
	}
	module, err := os.ReadFile("../../nf/catalog/firewall/firewall.wasm")
	if err != nil {
		t.Fatal(err)
	}
	artifact, err := wasm.Build(context.Background(), module, nf.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	code, err := artifact.Encode()
	if err != nil {
		t.Fatal(err)
	}
	want, err := json.Marshal(plane.Desired{
		Revision: 1,
		Ports:    []plane.Port{{Name: "in", Interface: "in"}, {Name: "out", Interface: "out"}},
		Chains: []plane.Chain{{Tenant: "acme", Name: "edge", Generation: 1, Code: map[string]string{"fw": "fw"}, Spec: json.RawMessage(
			`{"apiVersion": "sfc/v1", "kind": "Chain", "metadata": {"name": "edge", "tenant": "acme"}, "spec": {"match": [{"port": "in"}], "egress": "out",
			"return": "mirrored", "flows": 4096, "functions": [{"name": "fw", "module": "fw", "config": {"default": "deny", "rules": [{"action": "permit", "src": "10.0.0.0/16"}]}}]}}`)}},
	})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "codes", "fw"), code, 0o600)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "desired"), want, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "KEEPER_ROLE=supervisor", "KEEPER_ENGINE=2", "KEEPER_DIR="+dir)
	cmd.Stderr = os.Stderr
	if err := engine.Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	status := func() (s kernelipc.Status) {
		if text, err := os.ReadFile(filepath.Join(dir, "status")); err == nil {
			json.Unmarshal(text, &s)
		}
		return s
	}
	observed := func() (o plane.Observed) {
		if text, err := os.ReadFile(filepath.Join(dir, "observed")); err == nil {
			json.Unmarshal(text, &o)
		}
		return o
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if o := observed(); len(o.Chains) == 1 && o.Chains[0].Active {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the chain does not run: %+v", observed())
		}
	}
	w := newWitness(t, far)
	// Every flow begins from inside, so that its answers are let in.
	w.pass(t, "in the beginning", 1, 0)
	w.pass(t, "in the beginning", 0, 1)
	var gaps []time.Duration
	for i := range kills {
		pid := until(t, status, "ready", allReady).Children[0].PID
		w.flood(t, 20*time.Millisecond)
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		gaps = append(gaps, w.flood(t, 2*most))
		until(t, status, "ready again", func(s kernelipc.Status) bool { return allReady(s) && s.Children[0].PID != pid })
		w.pass(t, "after kill "+itoa(i+1), 0, uint32(i+2))
	}
	slices.Sort(gaps)
	t.Logf("%d kills, %d flows: gaps %v (median), %v (longest)", kills, killedFlows, gaps[len(gaps)/2], gaps[len(gaps)-1])
	if gaps[len(gaps)/2] > most {
		t.Errorf("no packet for %v: at most %v are allowed", gaps[len(gaps)/2], most)
	}
	if err := unix.Kill(status().PID, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the end: %v", err)
	}
}

// witness sends on both far ends, and sees what comes.
type witness struct {
	send [2]*trafgen.Sender
	recv [2]*trafgen.Receiver
	next int
}

func newWitness(t *testing.T, far [2]*netns.Link) *witness {
	t.Helper()
	w := &witness{}
	for i, link := range far {
		var err error
		if w.send[i], err = trafgen.OpenSender(link); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { w.send[i].Close() })
		if w.recv[i], err = trafgen.OpenReceiver(link); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { w.recv[i].Close() })
	}
	return w
}

// pass sends a packet of every flow until one of each has come at the end.
func (w *witness) pass(t *testing.T, when string, end int, number uint32) {
	t.Helper()
	missing := map[int]bool{}
	for i := range killedFlows {
		missing[i] = true
	}
	for limit := time.Now().Add(5 * time.Second); len(missing) > 0; {
		var burst [][]byte
		for flow := range missing {
			if burst = append(burst, conversation(flow, end == 0, number)); len(burst) == 32 {
				break
			}
		}
		if _, err := w.send[1-end].Send(burst); err != nil {
			t.Fatal(err)
		}
		if _, err := w.recv[end].Wait(5 * time.Millisecond); err != nil {
			t.Fatal(err)
		}
		frames, err := w.recv[end].Receive()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range frames {
			if len(f) >= 48 && binary.BigEndian.Uint32(f[44:]) == number {
				delete(missing, int(binary.BigEndian.Uint16(f[42:])))
			}
		}
		if time.Now().After(limit) {
			t.Fatalf("%s: %d of %d flows are lost", when, len(missing), killedFlows)
		}
	}
}

// flood sends answers for a while, and returns the longest time without one that
// came.
func (w *witness) flood(t *testing.T, d time.Duration) (gap time.Duration) {
	t.Helper()
	last := time.Now()
	for end := last.Add(d); time.Now().Before(end); {
		var burst [][]byte
		for range 8 {
			burst = append(burst, conversation(w.next%killedFlows, true, 0))
			w.next++
		}
		if _, err := w.send[1].Send(burst); err != nil {
			t.Fatal(err)
		}
		frames, err := w.recv[0].Receive()
		if err != nil {
			t.Fatal(err)
		}
		if len(frames) > 0 {
			gap, last = max(gap, time.Since(last)), time.Now()
		}
		time.Sleep(500 * time.Microsecond)
	}
	return max(gap, time.Since(last))
}
