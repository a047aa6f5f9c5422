package keeper

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sfc/ctrl/kernelipc"
	"sfc/ctrl/plane"
	"sfc/testbed/gate"
)

// The steering of a real engine stays on its interfaces, the same program, when
// the data plane dies and when the supervisor does; the next supervisor can
// change ports as the first one could; and the end takes everything down.
func TestKernelHalfSurvives(t *testing.T) { halfSurvives(t) }

// So it does where each data plane has to bind sockets of its own.
func TestKernelHalfSurvivesUnbound(t *testing.T) {
	t.Setenv("KEEPER_UNBOUND", "1")
	halfSurvives(t)
}

func halfSurvives(t *testing.T) {
	gate.Root(t)
	ip := gate.Tool(t, "ip")
	gate.Leaks(t)
	dir := t.TempDir()
	// The namespace lives as long as this process sleeps in it.
	holder := exec.Command("sleep", "60")
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { holder.Process.Kill(); holder.Wait() })
	inside := func(name string, args ...string) *exec.Cmd {
		return exec.Command("nsenter", append([]string{"--net=/proc/" + itoa(holder.Process.Pid) + "/ns/net", name}, args...)...)
	}
	shell := func(args ...string) string {
		out, err := inside(ip, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("ip %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	for _, n := range []string{"0", "1"} {
		shell("link", "add", "p"+n, "type", "veth", "peer", "name", "c"+n)
		shell("link", "set", "p"+n, "up")
		shell("link", "set", "c"+n, "up")
	}
	program := func(port string) string {
		m := regexp.MustCompile(`prog/xdp id (\d+)`).FindStringSubmatch(shell("-details", "link", "show", port))
		if m == nil {
			return ""
		}
		return m[1]
	}
	supervised := func() *exec.Cmd {
		os.Remove(filepath.Join(dir, "status"))
		cmd := inside("/proc/" + itoa(os.Getpid()) + "/exe")
		cmd.Env = append(os.Environ(), "KEEPER_ROLE=supervisor", "KEEPER_ENGINE=1", "KEEPER_DIR="+dir)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	status := func() (s kernelipc.Status) {
		if text, err := os.ReadFile(filepath.Join(dir, "status")); err == nil {
			json.Unmarshal(text, &s)
		}
		return s
	}
	var revision uint64
	wish := func(ports ...plane.Port) {
		t.Helper()
		revision++
		text, err := json.Marshal(plane.Desired{Revision: revision, Ports: ports})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "new-desired"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "new-desired"), filepath.Join(dir, "desired")); err != nil {
			t.Fatal(err)
		}
		var o plane.Observed
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			if text, err := os.ReadFile(filepath.Join(dir, "observed")); err == nil {
				o = plane.Observed{}
				json.Unmarshal(text, &o)
			}
			up := 0
			for _, p := range o.Ports {
				if p.Up {
					up++
				}
			}
			if o.Revision == revision && up == len(ports) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("wish %d for %d ports: %+v", revision, len(ports), o)
			}
		}
	}
	in := plane.Port{Name: "in", Interface: "p0", Peer: "out", Unmatched: "forward"}
	out := plane.Port{Name: "out", Interface: "p1", Peer: "in", Unmatched: "forward"}

	cmd := supervised()
	until(t, status, "ready", allReady)
	wish(in, out)
	first, second := program("p0"), program("p1")
	if first == "" || second == "" {
		t.Fatalf("programs %q and %q are attached", first, second)
	}
	same := func(when string) {
		t.Helper()
		if a, b := program("p0"), program("p1"); a != first || b != second {
			t.Errorf("%s: programs %q and %q, they were %q and %q", when, a, b, first, second)
		}
	}
	for range 3 { // the data plane
		s := until(t, status, "ready", allReady)
		if err := unix.Kill(s.Children[0].PID, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		same("data plane killed")
		until(t, status, "ready again", func(n kernelipc.Status) bool { return allReady(n) && n.Children[0].PID != s.Children[0].PID })
		wish(in, out)
		same("data plane back")
	}
	for range 3 { // the supervisor
		before := until(t, status, "ready", allReady)
		if err := unix.Kill(before.PID, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		same("supervisor killed")
		cmd = supervised()
		s := until(t, status, "ready again", allReady)
		if s.Children[0].PID != before.Children[0].PID {
			t.Fatalf("the data plane was replaced: %+v, then %+v", before, s)
		}
		wish(in, out)
		same("supervisor back")
	}
	wish(in)
	if second = program("p1"); second != "" || program("p0") == "" {
		t.Errorf("after one port went: programs %q and %q", program("p0"), second)
	}
	wish(in, out)
	s := until(t, status, "ready", allReady)
	if err := unix.Kill(s.Children[0].PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, status, "ready again", func(n kernelipc.Status) bool { return allReady(n) && n.Children[0].PID != s.Children[0].PID })
	wish(in, out)
	// An interface that is down, or no more, takes no other one with it.
	for _, change := range [][]string{{"link", "set", "p0", "down"}, {"link", "delete", "p0"}} {
		shell(change...)
		s := until(t, status, "ready", allReady)
		if err := unix.Kill(s.Children[0].PID, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		until(t, status, "ready again", func(n kernelipc.Status) bool { return allReady(n) && n.Children[0].PID != s.Children[0].PID })
		wish(out)
		if program("p1") == "" {
			t.Errorf("after ip %v: the other port is gone", change)
		}
		if change[1] == "set" {
			shell("link", "set", "p0", "up")
			wish(in, out)
		}
	}
	if err := unix.Kill(status().PID, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the end: %v", err)
	}
	if left := program("p1"); left != "" {
		t.Errorf("program %q is left", left)
	}
}
