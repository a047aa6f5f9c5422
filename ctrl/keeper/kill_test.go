package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sfc/ctrl/kernelipc"
	"sfc/testbed/gate"
)

// start runs a Keeper until the test ends, which is in order then.
func start(t *testing.T, o Options) *Keeper {
	t.Helper()
	o.RunDir, o.Identity = filepath.Join(t.TempDir(), "run"), identity()
	if o.Command == nil {
		o.Command = command
	}
	k, err := Open(o, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- k.Run(ctx) }()
	t.Cleanup(func() {
		pids := alive(k.Status())
		stop()
		if err := <-done; err != nil {
			t.Errorf("the end: %v", err)
		}
		for _, pid := range pids {
			if unix.Kill(pid, 0) == nil {
				t.Errorf("process %d is still there", pid)
			}
		}
		if left, _ := filepath.Glob(filepath.Join(o.RunDir, "*.sock")); len(left) > 0 {
			t.Errorf("sockets are left: %v", left)
		}
	})
	return k
}

func alive(s kernelipc.Status) (pids []int) {
	for _, c := range s.Children {
		if c.PID != 0 {
			pids = append(pids, c.PID)
		}
	}
	return pids
}

// until waits for something about the status.
func until(t *testing.T, status func() kernelipc.Status, what string, is func(kernelipc.Status) bool) kernelipc.Status {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		s := status()
		if is(s) {
			return s
		}
		if time.Now().After(end) {
			t.Fatalf("never %s: %+v", what, s)
		}
	}
}

func allReady(s kernelipc.Status) bool {
	for _, c := range s.Children {
		if c.State != stateReady {
			return false
		}
	}
	return len(s.Children) > 0
}

// of returns the counters that the data plane keeps.
func of(t *testing.T, k *Keeper) cells {
	t.Helper()
	f, err := k.kept.Get("counters")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	mem, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(mem) })
	return cellsOf(mem)
}

func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// A data plane that is killed again and again goes on counting where it was,
// and no descriptor or process is left of those before.
func TestDataPlaneKilledFiftyTimes(t *testing.T) {
	gate.Leaks(t)
	k := start(t, Options{Control: true, Backoff: patient})
	s := until(t, k.Status, "ready", allReady)
	c := of(t, k)
	control := s.Children[1].PID
	var gaps []time.Duration
	before := 0
	for i := range 50 {
		turns, pid := c.turns.Load(), s.Children[0].PID
		killed := time.Now()
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		at := c.turns.Load()
		for c.turns.Load() == at {
			if time.Since(killed) > 10*time.Second {
				t.Fatalf("kill %d: nobody counts any more", i)
			}
			time.Sleep(100 * time.Microsecond)
			if unix.Kill(pid, 0) == nil { // the last turns of a dying one
				at = c.turns.Load()
			}
		}
		gaps = append(gaps, time.Since(killed))
		if c.turns.Load() < turns {
			t.Fatalf("kill %d: %d turns were kept of %d", i, c.turns.Load(), turns)
		}
		s = until(t, k.Status, "ready again", func(s kernelipc.Status) bool { return allReady(s) && s.Children[0].PID != pid })
		if i == 5 {
			before = descriptors(t)
		}
	}
	if now := descriptors(t); now > before+2 {
		t.Errorf("%d descriptors after 5 kills, %d after 50", before, now)
	}
	if s.Children[1].PID != control || s.Children[1].Restarts != 0 || s.Children[0].Restarts != 50 {
		t.Errorf("after 50 kills: %+v", s.Children)
	}
	calls := c.calls.Load()
	for end := time.Now().Add(5 * time.Second); c.calls.Load() == calls; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("control does not reach the data plane any more")
		}
	}
	slices.Sort(gaps)
	t.Logf("killed to counting again: median %v, worst %v", gaps[25], gaps[49])
	if gaps[25] > 300*time.Millisecond {
		t.Errorf("the median gap is %v", gaps[25])
	}
}

func TestControlKilledDoesNotTouchTheDataPlane(t *testing.T) {
	gate.Leaks(t)
	k := start(t, Options{Control: true, Backoff: patient})
	s := until(t, k.Status, "ready", allReady)
	c, dataplane := of(t, k), s.Children[0].PID
	for range 10 {
		pid := s.Children[1].PID
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		s = until(t, k.Status, "ready again", func(s kernelipc.Status) bool { return allReady(s) && s.Children[1].PID != pid })
		if s.Children[0].PID != dataplane || s.Children[0].Restarts != 0 {
			t.Fatalf("the data plane was touched: %+v", s.Children[0])
		}
		calls := c.calls.Load()
		for end := time.Now().Add(5 * time.Second); c.calls.Load() == calls; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the new control does not reach the data plane")
			}
		}
	}
}

// supervised starts a supervisor of its own process.
func supervised(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	os.Remove(filepath.Join(dir, "status"))
	cmd := command("supervisor", "/proc/self/exe")
	cmd.Env = append(cmd.Env, "KEEPER_DIR="+dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// A supervisor that is killed leaves traffic alone, and the next one takes the
// data plane back, with all that it holds.
func TestSupervisorKilledAndTheNextTakesOver(t *testing.T) {
	gate.Leaks(t)
	dir := t.TempDir()
	status := func() (s kernelipc.Status) {
		if text, err := os.ReadFile(filepath.Join(dir, "status")); err == nil {
			json.Unmarshal(text, &s)
		}
		return s
	}
	cmd := supervised(t, dir)
	s := until(t, status, "ready", allReady)
	dataplane, control := s.Children[0].PID, s.Children[1].PID
	for i := range 5 {
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		if unix.Kill(dataplane, 0) != nil {
			t.Fatalf("kill %d: the data plane died with its supervisor", i)
		}
		cmd = supervised(t, dir)
		s = until(t, status, "ready again", allReady)
		if s.Children[0].PID != dataplane || s.Kept != 1 || s.PID != cmd.Process.Pid {
			t.Fatalf("kill %d: the data plane was %d: %+v", i, dataplane, s)
		}
		if s.Children[1].PID == control || !dead(control) {
			t.Fatalf("kill %d: control %d outlived its supervisor", i, control)
		}
		control = s.Children[1].PID
	}
	// What was taken back is enough for a new data plane.
	if err := unix.Kill(dataplane, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s = until(t, status, "ready with another data plane", func(s kernelipc.Status) bool { return allReady(s) && s.Children[0].PID != dataplane })
	// A second one on the same data is refused.
	second := command("supervisor", "/proc/self/exe")
	second.Env = append(second.Env, "KEEPER_DIR="+dir)
	var complaint strings.Builder
	second.Stderr = &complaint
	if err := second.Run(); err == nil || !strings.Contains(complaint.String(), "process id "+itoa(cmd.Process.Pid)) {
		t.Errorf("a second supervisor: %v, %s", err, &complaint)
	}
	// The end takes everything along, also what it has taken over.
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the end: %v", err)
	}
	for _, pid := range alive(s) {
		if !dead(pid) {
			t.Errorf("process %d is still there", pid)
		}
	}
}

func itoa(n int) string { return strconv.Itoa(n) }

// dead waits a moment for the end of a process that init has to wait for.
func dead(pid int) bool {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		state, err := os.ReadFile("/proc/" + itoa(pid) + "/stat")
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) || strings.Contains(string(state), ") Z ") {
			return true
		}
	}
	return false
}
