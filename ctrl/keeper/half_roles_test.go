package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"sfc/ctrl/agent"
	"sfc/ctrl/child"
	"sfc/ctrl/confine"
	"sfc/ctrl/ipc"
	"sfc/ctrl/kernelipc"
	"sfc/ctrl/plane"
	"sfc/ctrl/planeipc"
)

// engineCommand starts the roles with a real engine.
func engineCommand(role, exe string) *exec.Cmd { return command("engine-"+role, exe) }

// newEngineKernel is the kernel's half for supervisors that are told so.
func newEngineKernel(log *slog.Logger) func(*Kept) Kernel {
	return func(k *Kept) Kernel {
		h := NewHalf(k, log)
		h.unbound = os.Getenv("KEEPER_UNBOUND") != ""
		return h
	}
}

// engine is a data plane as sfcd's.
func engine() error {
	ctx := context.Background()
	peers := make(chan *os.File, 8)
	p, err := child.Open(ctx, child.Options{
		Role: kernelipc.RoleDataplane, Orphan: 20 * time.Second, Peer: func(_ string, s *os.File) { peers <- s },
	})
	if err != nil {
		return err
	}
	if err := confine.Seal(confine.DataPlane(), confine.Limits{}); err != nil {
		return err
	}
	var start kernelipc.Start
	select {
	case start = <-p.Started():
	case <-p.Stopping():
		return p.Close()
	}
	store, err := p.Recover(ctx)
	if err != nil {
		return err
	}
	o := agent.PlaneOptions{
		Kernel: agent.RemoteKernel(p, store), Keep: store, Chains: 8, RingSize: 64, Restarts: start.Restarts, Began: start.Began,
	}
	if os.Getenv("KEEPER_ENGINE") == "2" {
		o.Workers, o.Cores, o.RingSize = 2, []int{-1, -1}, 1024
	}
	d, err := agent.OpenPlane(o)
	if err != nil {
		return err
	}
	m := ipc.NewMux()
	planeipc.Serve(m, d)
	if err := p.Ready(ctx); err != nil {
		return err
	}
	for {
		select {
		case s := <-peers:
			go func() {
				if conn, err := ipc.Open(ctx, s, ipc.Options{Name: "dataplane", Mux: m}); err == nil {
					<-conn.Done()
				}
			}()
		case <-p.Stopping():
			return errors.Join(d.Close(), p.Close())
		}
	}
}

// wisher applies what the test wrote into a file, again and again, and writes
// down what it observes.
func wisher() error {
	ctx := context.Background()
	client := planeipc.NewClient()
	p, err := child.Open(ctx, child.Options{Role: kernelipc.RoleControl, Peer: func(_ string, s *os.File) {
		if conn, err := ipc.Open(ctx, s, ipc.Options{Name: "control"}); err == nil {
			client.Attach(conn)
		}
	}})
	if err != nil {
		return err
	}
	if err := p.Ready(ctx); err != nil {
		return err
	}
	dir := os.Getenv("KEEPER_DIR")
	for {
		select {
		case <-p.Stopping():
			return p.Close()
		case <-time.After(20 * time.Millisecond):
		}
		var want plane.Desired
		text, err := os.ReadFile(filepath.Join(dir, "desired"))
		if err == nil {
			err = json.Unmarshal(text, &want)
		}
		if err == nil {
			err = putCodes(ctx, client, filepath.Join(dir, "codes"))
		}
		if err != nil {
			continue
		}
		observed, err := client.Apply(ctx, want)
		if err != nil {
			continue // the data plane was killed in the middle
		}
		if text, err = json.Marshal(observed); err == nil {
			err = os.WriteFile(filepath.Join(dir, "new-observed"), text, 0o600)
		}
		if err == nil {
			err = os.Rename(filepath.Join(dir, "new-observed"), filepath.Join(dir, "observed"))
		}
		if err != nil {
			return err
		}
	}
}

// putCodes puts the codes that are in a folder, by the names of their files.
func putCodes(ctx context.Context, client *planeipc.Client, dir string) error {
	list, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, entry := range list {
		f, err := os.Open(filepath.Join(dir, entry.Name()))
		if err != nil {
			return err
		}
		err = client.PutCode(ctx, entry.Name(), f)
		f.Close()
		if err != nil {
			return err
		}
	}
	return err
}
