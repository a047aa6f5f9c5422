package replay

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"sfc/testbed/gate"
)

func TestMain(m *testing.M) { os.Exit(gate.Main(m)) }

// The example chains.
const (
	edge     = "../examples/edge.yaml"
	stateful = "../examples/stateful.yaml"
)

// Every capture, live and offline: the account balances, nothing is lost or
// reordered, and both ways decide alike about every packet.
func TestCapturesLiveAndOffline(t *testing.T) {
	files := gate.Pcaps(t)
	gate.Root(t)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { liveAndOffline(t, edge, file) })
		t.Run("stateful/"+filepath.Base(file), func(t *testing.T) { liveAndOffline(t, stateful, file) })
	}
}

// liveAndOffline replays a capture both ways through a chain.
func liveAndOffline(t *testing.T, chain, file string) {
	gate.Leaks(t)
	dir := t.TempDir()
	var outs, drops [2][]byte
	for i, offline := range []bool{false, true} {
		opts := Options{
			Chains: []string{chain}, In: file, Offline: offline,
			Out: filepath.Join(dir, "out.pcapng"), Drops: filepath.Join(dir, "drops.pcapng"),
		}
		rep, err := Run(context.Background(), opts)
		if err != nil {
			t.Fatalf("offline=%t: %v\n%+v", offline, err, rep)
		}
		if rep.Sent == 0 || rep.Lost != 0 || rep.Reordered != 0 || rep.Foreign != 0 || rep.BadChecksumsOut > rep.BadChecksumsIn {
			t.Errorf("offline=%t: %+v", offline, rep)
		}
		if outs[i], err = os.ReadFile(opts.Out); err != nil {
			t.Fatal(err)
		}
		if drops[i], err = os.ReadFile(opts.Drops); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(outs[0], outs[1]) {
		t.Error("live and offline sent different packets")
	}
	if !bytes.Equal(drops[0], drops[1]) {
		t.Error("live and offline dropped different packets")
	}
}

// A panic on the way, here in the caller's own function, leaves nothing.
func TestPanicLeavesNothing(t *testing.T) {
	files := gate.Pcaps(t)
	run := func(t *testing.T, offline bool) {
		gate.Leaks(t)
		defer func() {
			if cause := recover(); cause != "enough" {
				t.Errorf("recovered %v", cause)
			}
		}()
		_, err := Run(context.Background(), Options{
			Chains: []string{edge}, In: files[0], Offline: offline,
			Progress: func(done, _ int) {
				if done > 0 {
					panic("enough")
				}
			},
		})
		t.Errorf("no panic; %v", err)
	}
	t.Run("offline", func(t *testing.T) { run(t, true) })
	t.Run("live", func(t *testing.T) {
		gate.Root(t)
		run(t, false)
	})
}

// An interrupted replay sends no more, and knows what became of what it sent.
func TestInterrupted(t *testing.T) {
	files := gate.Pcaps(t)
	run := func(t *testing.T, offline bool) {
		gate.Leaks(t)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		rep, err := Run(ctx, Options{
			Chains: []string{edge}, In: files[0], Offline: offline, Loop: 1000,
			Progress: func(done, _ int) {
				if done > 500 {
					cancel()
				}
			},
		})
		if !errors.Is(err, context.Canceled) || rep == nil {
			t.Fatalf("%+v, %v", rep, err)
		}
		if err := rep.Balance(); err != nil || rep.Sent < 500 {
			t.Errorf("%v: %+v", err, rep)
		}
	}
	t.Run("offline", func(t *testing.T) { run(t, true) })
	t.Run("live", func(t *testing.T) {
		gate.Root(t)
		run(t, false)
	})
}

// Generic XDP is reported as such and decides alike.
func TestGenericMode(t *testing.T) {
	files := gate.Pcaps(t)
	gate.Root(t)
	gate.Leaks(t)
	rep, err := Run(context.Background(), Options{Chains: []string{edge}, In: files[len(files)-1], Generic: true})
	if err != nil {
		t.Fatalf("%v\n%+v", err, rep)
	}
	if rep.Mode.Attach != "generic" || rep.Sent == 0 || rep.Lost != 0 || rep.Reordered != 0 {
		t.Errorf("%+v", rep)
	}
}
