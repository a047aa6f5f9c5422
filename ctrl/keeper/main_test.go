package keeper

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sfc/ctrl/child"
	"sfc/ctrl/confine"
	"sfc/ctrl/ipc"
	"sfc/ctrl/kernelipc"
	"sfc/dataplane/arena"
	"sfc/testbed/gate"
)

// TestMain is also the processes that the tests need.
func TestMain(m *testing.M) {
	roles := map[string]func() error{
		"supervisor": supervisor, kernelipc.RoleDataplane: runDataplane, kernelipc.RoleControl: runControl,
		"crash":                             func() error { os.Exit(3); return nil },
		"hang":                              func() error { time.Sleep(time.Minute); return nil },
		"mute":                              mute,
		"stuck":                             stuck,
		"broken":                            broken,
		"engine-" + kernelipc.RoleDataplane: engine, "engine-" + kernelipc.RoleControl: wisher,
	}
	if role := roles[os.Getenv("KEEPER_ROLE")]; role != nil {
		if err := role(); err != nil {
			fmt.Fprintln(os.Stderr, os.Getenv("KEEPER_ROLE"), os.Getpid(), err)
			os.Exit(1)
		}
		return
	}
	os.Exit(gate.Main(m))
}

// command starts this test binary in a role.
func command(role, exe string) *exec.Cmd {
	cmd := exec.Command(exe)
	cmd.Args[0] = "sfcd: " + role
	cmd.Env = append(os.Environ(), "KEEPER_ROLE="+role)
	cmd.Stderr = os.Stderr
	return cmd
}

// cells are what the test's data plane keeps: it counts turns in the first,
// calls of control in the second.
type cells struct{ turns, calls *atomic.Uint64 }

// runDataplane counts in memory that is kept, confined as the real one is.
func runDataplane() error {
	ctx := context.Background()
	peers := make(chan *os.File, 8)
	p, err := child.Open(ctx, child.Options{
		Role: kernelipc.RoleDataplane, Orphan: 20 * time.Second,
		Peer: func(_ string, s *os.File) { peers <- s },
	})
	if err != nil {
		return err
	}
	if err := confine.Seal(confine.DataPlane(), confine.Limits{}); err != nil {
		return err
	}
	select {
	case <-p.Started():
	case <-p.Stopping():
		return p.Close()
	}
	store, err := p.Recover(ctx)
	if err != nil {
		return err
	}
	r, _, err := store.Open("counters", 4096, arena.Options{})
	if err != nil {
		return err
	}
	c := cellsOf(r.Bytes())
	m := ipc.NewMux()
	ipc.Handle(m, "hit", func(context.Context, kernelipc.None, *ipc.Files) (uint64, []*os.File, error) {
		return c.calls.Add(1), nil, nil
	})
	if err := p.Ready(ctx); err != nil {
		return err
	}
	tick := time.NewTicker(100 * time.Microsecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			c.turns.Add(1)
		case s := <-peers:
			go func() {
				if conn, err := ipc.Open(ctx, s, ipc.Options{Name: "dataplane", Mux: m}); err == nil {
					<-conn.Done()
				}
			}()
		case <-p.Stopping():
			return p.Close()
		}
	}
}

// runControl calls the data plane as often as it can.
func runControl() error {
	ctx := context.Background()
	p, err := child.Open(ctx, child.Options{Role: kernelipc.RoleControl, Peer: func(_ string, s *os.File) {
		go func() {
			conn, err := ipc.Open(ctx, s, ipc.Options{Name: "control"})
			for err == nil {
				_, err = ipc.Do[uint64](ctx, conn, "hit", kernelipc.None{})
				time.Sleep(time.Millisecond)
			}
		}()
	}})
	if err != nil {
		return err
	}
	if err := confine.Seal(confine.Control(), confine.Limits{}); err != nil {
		return err
	}
	if err := p.Ready(ctx); err != nil {
		return err
	}
	<-p.Stopping()
	return p.Close()
}

// mute is ready and then does not listen any more.
func mute() error {
	p, err := child.Open(context.Background(), child.Options{Role: kernelipc.RoleControl})
	if err != nil {
		return err
	}
	if err := p.Ready(context.Background()); err != nil {
		return err
	}
	time.Sleep(time.Minute)
	return nil
}

// supervisor runs a Keeper in a process of its own and writes its status down.
func supervisor() error {
	dir := os.Getenv("KEEPER_DIR")
	o := Options{
		RunDir: filepath.Join(dir, "run"), DataDir: filepath.Join(dir, "data"), Control: true, Command: command,
		Identity: identity(), Backoff: patient, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	}
	if os.Getenv("KEEPER_ENGINE") != "" {
		o.Command, o.Kernel, o.Identity = engineCommand, newEngineKernel(o.Log), nil
	}
	k, err := Open(o, nil)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	go func() {
		for ctx.Err() == nil {
			text, err := json.Marshal(k.Status())
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, "new"), text, 0o600)
			}
			if err == nil {
				os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "status"))
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	return k.Run(ctx)
}

// patient never waits long, however often children are killed.
var patient = Backoff{First: time.Millisecond, Max: time.Millisecond, Crashes: 1000}

// identity is nobody for root, else the user who runs the tests.
func identity() *confine.Identity {
	if os.Getuid() == 0 {
		return &confine.Identity{UID: 65534, GID: 65534}
	}
	return nil
}
