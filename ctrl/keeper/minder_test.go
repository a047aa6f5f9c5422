package keeper

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sfc/ctrl/ipc"
	"sfc/ctrl/kernelipc"
	"sfc/testbed/gate"
)

// attended notes what it is told.
type attended struct{ yes, no, closed atomic.Int32 }

func (a *attended) Serve(*ipc.Mux) {}
func (a *attended) Recover() error { return nil }
func (a *attended) Close() error   { a.closed.Add(1); return nil }
func (a *attended) Attend(by *ipc.Conn) error {
	if by != nil {
		a.yes.Add(1)
	} else {
		a.no.Add(1)
	}
	return nil
}

// as starts children in another role, while it says so.
func as(role *atomic.Pointer[string], of string) func(role, exe string) *exec.Cmd {
	return func(r, exe string) *exec.Cmd {
		if other := role.Load(); r == of && other != nil {
			r = *other
		}
		return command(r, exe)
	}
}

func named(s string) *atomic.Pointer[string] {
	p := &atomic.Pointer[string]{}
	p.Store(&s)
	return p
}

// A data plane that dies at once is started later and later; there is an alarm,
// and packets meet their ports' policies until it runs.
func TestCrashLoop(t *testing.T) {
	gate.Leaks(t)
	role, kernel := named("crash"), &attended{}
	k := start(t, Options{
		Command: as(role, kernelipc.RoleDataplane), Kernel: func(*Kept) Kernel { return kernel },
		Backoff: Backoff{First: 20 * time.Millisecond, Max: 200 * time.Millisecond, Crashes: 4, Window: 3 * time.Second},
	})
	began := time.Now()
	s := until(t, k.Status, "alarmed", func(s kernelipc.Status) bool { return s.Children[0].Alarm })
	c := s.Children[0]
	if c.Restarts != 4 || kernel.no.Load() > 1 || !strings.Contains(c.LastExit, "exit status 3") {
		t.Errorf("at the alarm: %+v, %d times unattended", c, kernel.no.Load())
	}
	if took := time.Since(began); took < 60*time.Millisecond {
		t.Errorf("four deaths within %v: there was no wait", took)
	}
	time.Sleep(time.Second)
	s = k.Status()
	if n := s.Children[0].Restarts; n < 5 || n > 4+6 {
		t.Errorf("%d restarts a second later, with waits of 200 ms", n)
	}
	if kernel.no.Load() != 1 || kernel.yes.Load() != 0 {
		t.Errorf("unattended %d times, attended %d", kernel.no.Load(), kernel.yes.Load())
	}
	role.Store(nil)
	s = until(t, k.Status, "ready", allReady)
	if !s.Children[0].Alarm || kernel.yes.Load() != 1 {
		t.Errorf("right after the loop: %+v, attended %d", s.Children[0], kernel.yes.Load())
	}
	until(t, k.Status, "calm", func(s kernelipc.Status) bool { return allReady(s) && !s.Children[0].Alarm })
}

func TestBackoffGrowsAndForgets(t *testing.T) {
	b := Backoff{First: time.Second, Max: 10 * time.Second, Window: time.Minute, Crashes: 3}
	now := time.Unix(1000, 0)
	var d deaths
	for i, want := range []time.Duration{0, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 10 * time.Second, 10 * time.Second} {
		wait, alarm := d.add(now, b)
		if wait != want || alarm != (i >= 2) {
			t.Errorf("death %d: wait %v, alarm %v; want %v", i+1, wait, alarm, want)
		}
	}
	if wait, alarm := d.add(now.Add(2*time.Minute), b); wait != 0 || alarm {
		t.Errorf("much later: wait %v, alarm %v", wait, alarm)
	}
}

// Children that never say hello, or stop listening, are killed in the end.
func TestChildrenThatHang(t *testing.T) {
	gate.Leaks(t)
	role := named("hang")
	k := start(t, Options{Command: as(role, kernelipc.RoleDataplane), StartWait: 100 * time.Millisecond, Backoff: patient})
	s := until(t, k.Status, "given up", func(s kernelipc.Status) bool { return s.Children[0].Restarts > 0 })
	if !strings.Contains(s.Children[0].LastExit, "deadline exceeded") {
		t.Errorf("a child without a hello: %+v", s.Children[0])
	}
	role.Store(nil)
	until(t, k.Status, "ready", allReady)

	deaf := start(t, Options{Command: as(named("mute"), kernelipc.RoleControl), Control: true, StopWait: 100 * time.Millisecond, Backoff: patient})
	until(t, deaf.Status, "ready", allReady) // its end kills it
}

// A planned replacement goes on with what the old one left; one that cannot
// start leaves the old one alone.
func TestReplace(t *testing.T) {
	gate.Leaks(t)
	k := start(t, Options{Control: true, Backoff: patient})
	s := until(t, k.Status, "ready", allReady)
	c := of(t, k)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		turns, old := c.turns.Load(), s
		began := time.Now()
		if err := k.Replace(t.Context(), exe); err != nil {
			t.Fatal(err)
		}
		s = until(t, k.Status, "ready", allReady)
		for i, child := range s.Children {
			if child.PID == old.Children[i].PID || !dead(old.Children[i].PID) {
				t.Errorf("%s was not replaced", child.Role)
			}
			if child.Restarts != 0 {
				t.Errorf("%s counts as crashed: %+v", child.Role, child)
			}
		}
		if c.turns.Load() < turns {
			t.Errorf("%d turns are left of %d", c.turns.Load(), turns)
		}
		t.Logf("both replaced in %v", time.Since(began))
	}
	pid := s.Children[0].PID
	if err := k.Replace(t.Context(), "/bin/false"); err == nil {
		t.Error("replaced by a program that ends at once")
	}
	if err := k.Replace(t.Context(), "/nowhere"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("replaced by nothing: %v", err)
	}
	if s = k.Status(); s.Children[0].PID != pid || s.Children[0].State != stateReady {
		t.Errorf("after a failed replacement: %+v", s.Children[0])
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, k.Status, "ready from the binary before", func(s kernelipc.Status) bool { return allReady(s) && s.Children[0].PID != pid })
}

func TestOnlyMemoryIsKept(t *testing.T) {
	k := newKept()
	defer k.close()
	m := ipc.NewMux()
	k.serve(m)
	a, b, err := ipc.Pair()
	if err != nil {
		t.Fatal(err)
	}
	other := make(chan *ipc.Conn)
	go func() {
		c, err := ipc.Open(t.Context(), b, ipc.Options{Mux: m})
		if err != nil {
			t.Error(err)
		}
		other <- c
	}()
	c, err := ipc.Open(t.Context(), a, ipc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	defer (<-other).Close()
	sealed, err := ipc.Memfd("x", []byte("contents"))
	if err != nil {
		t.Fatal(err)
	}
	defer sealed.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	keep := func(name string, f ...*os.File) error {
		_, err := ipc.Do[kernelipc.None](t.Context(), c, kernelipc.MethodKeep, kernelipc.Keep{Name: name}, f...)
		return err
	}
	for _, tt := range []struct {
		name string
		file []*os.File
		want string
	}{
		{"flows/a", []*os.File{sealed}, ""},
		{"flows/a", []*os.File{sealed}, ""}, // again
		{"flows/b", nil, "no descriptor"},
		{"flows/b", []*os.File{null}, "only memfds"},
		{KernelPrefix + "owners", []*os.File{sealed}, "the supervisor's"},
		{"", []*os.File{sealed}, "name of 0 bytes"},
		{strings.Repeat("n", 256), []*os.File{sealed}, "name of 256 bytes"},
	} {
		err := keep(tt.name, tt.file...)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("keep %.20q: %v, want %q", tt.name, err, tt.want)
		}
	}
	got, files, err := ipc.Call[kernelipc.Fetched](t.Context(), c, kernelipc.MethodFetch, kernelipc.Fetch{Names: []string{"nothing", "flows/a"}})
	if err != nil || len(got.Names) != 1 || got.Names[0] != "flows/a" {
		t.Fatalf("fetched %v, %v", got, err)
	}
	f := files.Take(0)
	defer f.Close()
	if body, err := ipc.ReadMemfd(f, 100); err != nil || string(body) != "contents" {
		t.Errorf("fetched %q, %v", body, err)
	}
	if _, err := ipc.Do[kernelipc.None](t.Context(), c, kernelipc.MethodForget, kernelipc.Forget{Names: []string{"flows/a", "x"}}); err != nil {
		t.Error(err)
	}
	if names := k.Names(); len(names) != 0 {
		t.Errorf("%v are kept", names)
	}
}
