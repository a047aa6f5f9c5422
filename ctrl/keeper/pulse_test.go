package keeper

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sfc/ctrl/child"
	"sfc/ctrl/kernelipc"
	"sfc/testbed/gate"
)

// stuck answers everything, and says of itself that it never moves.
func stuck() error {
	p, err := child.Open(context.Background(), child.Options{
		Role:  kernelipc.RoleControl,
		Alive: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	})
	if err != nil {
		return err
	}
	if err := p.Ready(context.Background()); err != nil {
		return err
	}
	<-p.Stopping()
	return p.Close()
}

// broken says that it cannot go on.
func broken() error {
	p, err := child.Open(context.Background(), child.Options{
		Role:  kernelipc.RoleControl,
		Alive: func(context.Context) error { return errors.New("worker 1 has ended") },
	})
	if err != nil {
		return err
	}
	if err := p.Ready(context.Background()); err != nil {
		return err
	}
	<-p.Stopping()
	return p.Close()
}

// Children that are alive and stand still are killed and started again, as if
// they had crashed; those that move are left alone.
func TestPulse(t *testing.T) {
	gate.Leaks(t)
	const wait = 400 * time.Millisecond
	k := start(t, Options{Control: true, HangWait: wait, ControlHangWait: wait, Backoff: patient})
	s := until(t, k.Status, "ready", allReady)
	for child := range s.Children {
		before := until(t, k.Status, "ready", allReady)
		pid := before.Children[child].PID
		began := time.Now()
		if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		s := until(t, k.Status, "another one", func(s kernelipc.Status) bool { return allReady(s) && s.Children[child].PID != pid })
		took := time.Since(began)
		if !dead(pid) {
			t.Errorf("process %d stands still and is still there", pid)
		}
		c := s.Children[child]
		if c.Restarts != before.Children[child].Restarts+1 || !strings.Contains(c.LastExit, "did not answer for 400ms, and was killed") {
			t.Errorf("%+v", c)
		}
		if other := 1 - child; s.Children[other].PID != before.Children[other].PID {
			t.Errorf("%s was restarted, too", s.Children[other].Role)
		}
		t.Logf("%s back %v after it was stopped", c.Role, took)
		if took < wait {
			t.Errorf("%s was given %v, not %v", c.Role, took, wait)
		}
	}
	for role, want := range map[string]string{"stuck": "did not answer for 400ms", "broken": "worker 1 has ended, and was killed"} {
		as := as(named(role), kernelipc.RoleControl)
		k := start(t, Options{Command: as, Control: true, HangWait: wait, ControlHangWait: wait, Backoff: patient})
		s := until(t, k.Status, role, func(s kernelipc.Status) bool { return s.Children[1].Restarts > 1 })
		if !strings.Contains(s.Children[1].LastExit, want) {
			t.Errorf("%s: %+v", role, s.Children[1])
		}
		if s.Children[0].Restarts != 0 {
			t.Errorf("%s: the data plane was restarted: %+v", role, s.Children[0])
		}
	}
}

// With a bound below zero nobody looks.
func TestNoPulse(t *testing.T) {
	gate.Leaks(t)
	k := start(t, Options{Command: as(named("stuck"), kernelipc.RoleControl), Control: true, HangWait: -1, ControlHangWait: -1, Backoff: patient})
	until(t, k.Status, "ready", allReady)
	time.Sleep(200 * time.Millisecond)
	if s := k.Status(); !allReady(s) || s.Children[1].Restarts != 0 {
		t.Errorf("%+v", s)
	}
}

// The supervisor is alive as long as its minders come around in time.
func TestSupervisorAlive(t *testing.T) {
	gate.Leaks(t)
	k := start(t, Options{Control: true, Backoff: patient})
	until(t, k.Status, "ready", allReady)
	if err := k.Alive(); err != nil {
		t.Error(err)
	}
	m := k.minders[0]
	m.due.Store(monotonic() - int64(time.Minute)) // as if it had been stuck for long
	if err := k.Alive(); err == nil || !strings.Contains(err.Error(), "nobody minds dataplane: 1m0s late") {
		t.Errorf("one that is late: %v", err)
	}
	for end := time.Now().Add(5 * beatEvery); k.Alive() != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("its loop does not come around")
		}
	}
}
