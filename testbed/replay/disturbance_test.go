package replay

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sfc/dataplane/packet"
	"sfc/testbed/capture"
	"sfc/testbed/gate"
)

// bothWays runs a test offline and, as root, live.
func bothWays(t *testing.T, f func(t *testing.T, opts Options)) {
	files := gate.Pcaps(t)
	for _, offline := range []bool{true, false} {
		name := map[bool]string{true: "offline", false: "live"}[offline]
		t.Run(name, func(t *testing.T) {
			if !offline {
				gate.Root(t)
			}
			gate.Leaks(t)
			f(t, Options{
				Chains: []string{stateful}, In: files[len(files)-1], Offline: offline, Loop: 1000,
				Workers: 2, MoveEvery: time.Millisecond, SwapEvery: time.Millisecond,
			})
		})
	}
}

// A replay that is interrupted while flows move and functions are replaced
// knows what became of what it sent, and leaves nothing.
func TestInterruptedWhileMoving(t *testing.T) {
	bothWays(t, func(t *testing.T, opts Options) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		opts.Progress = func(done, _ int) {
			if done > 2000 {
				cancel()
			}
		}
		rep, err := Run(ctx, opts)
		if !errors.Is(err, context.Canceled) || rep == nil {
			t.Fatalf("%+v, %v", rep, err)
		}
		if err := rep.Balance(); err != nil || rep.Reordered != 0 || rep.Sent < 2000 || rep.Moves.Count == 0 {
			t.Errorf("%v: %+v", err, rep)
		}
	})
}

// So does one that panics.
func TestPanicWhileMoving(t *testing.T) {
	bothWays(t, func(t *testing.T, opts Options) {
		defer func() {
			if cause := recover(); cause != "enough" {
				t.Errorf("recovered %v", cause)
			}
		}()
		opts.Progress = func(done, _ int) {
			if done > 500 {
				panic("enough")
			}
		}
		_, err := Run(context.Background(), opts)
		t.Errorf("no panic; %v", err)
	})
}

// A function that cannot be replaced ends the replay, which says why.
func TestFailureWhileSwapping(t *testing.T) {
	chain, err := os.ReadFile(stateful)
	if err != nil {
		t.Fatal(err)
	}
	bothWays(t, func(t *testing.T, opts Options) {
		dir := t.TempDir()
		catalog, err := filepath.Abs("../../nf/catalog")
		if err != nil {
			t.Fatal(err)
		}
		module := filepath.Join(dir, "flowstat.wasm")
		text := strings.ReplaceAll(string(chain), "../../nf/catalog/flowstat/flowstat.wasm", module)
		text = strings.ReplaceAll(text, "../../nf/catalog", catalog)
		opts.Chains = []string{filepath.Join(dir, "chain.yaml")}
		code, err := os.ReadFile(filepath.Join(catalog, "flowstat", "flowstat.wasm"))
		if err := errors.Join(err, os.WriteFile(module, code, 0o600), os.WriteFile(opts.Chains[0], []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
		opts.Progress = func(done, _ int) {
			if done > 500 {
				_ = os.Remove(module) // again and again
			}
		}
		rep, err := Run(context.Background(), opts)
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "chain demo/stateful: function flowstat") || strings.Count(err.Error(), "flowstat.wasm") != 1 {
			t.Errorf("%v", err)
		}
		if err := rep.Balance(); err != nil || rep.Reordered != 0 {
			t.Errorf("%v: %+v", err, rep)
		}
	})
}

// The balancer moves flows when load asks for it: whether it does hangs on
// where the secret of the flow hash puts them.
func TestBalance(t *testing.T) {
	bothWays(t, func(t *testing.T, opts Options) {
		opts.MoveEvery, opts.SwapEvery, opts.Balance = 0, 0, true
		for range 10 {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			var start time.Time
			opts.Progress = func(int, int) {
				if start.IsZero() {
					start = time.Now()
				} else if time.Since(start) > 4*balanceEvery {
					cancel()
				}
			}
			rep, err := Run(ctx, opts)
			if !errors.Is(err, context.Canceled) || rep == nil {
				t.Fatalf("%+v, %v", rep, err)
			}
			if err := rep.Balance(); err != nil || rep.Reordered != 0 || rep.Swaps != nil {
				t.Errorf("%v: %+v", err, rep)
			}
			if rep.Moves.Count > 0 {
				return
			}
		}
		t.Error("nothing was moved in ten replays")
	})
}

// A single flow, as fast as it is taken, from worker to worker each millisecond.
func TestOneFlowKeepsItsOrder(t *testing.T) {
	gate.Root(t)
	gate.Leaks(t)
	frames := make([][]byte, 1000)
	for i := range frames {
		frames[i] = ether(ipPacket(of(inside4, packet.ProtoUDP), false, binary.BigEndian.AppendUint32(nil, uint32(i))))
	}
	in := writeFrames(t, frames...)
	rep, err := Run(context.Background(), Options{Chains: []string{edge}, In: in, Loop: 50, Workers: 2, MoveEvery: time.Millisecond})
	if err != nil || rep.Received != 50_000 || rep.Reordered != 0 {
		t.Fatalf("%v: %+v", err, rep)
	}
	if rep.Moves.Count < 20 || rep.Moves.Hold.Count == 0 {
		t.Errorf("hardly moved: %+v", rep.Moves)
	}
}

// writeFrames makes a capture.
func writeFrames(t *testing.T, frames ...[]byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "in.pcapng")
	w, err := capture.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range frames {
		if err := w.Write(int64(i)*1000, f, len(f), ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// More workers than cores, in memory.
func TestManyWorkers(t *testing.T) {
	files := gate.Pcaps(t)
	gate.Leaks(t)
	rep, err := Run(context.Background(), Options{
		Chains: []string{stateful}, In: files[len(files)-1], Offline: true, Workers: 5, MoveEvery: time.Millisecond, Loop: 3,
	})
	if err != nil || rep.Reordered != 0 || rep.BadChecksumsOut > 0 || len(rep.Workers) != 5 {
		t.Fatalf("%v: %+v", err, rep)
	}
	for i, w := range rep.Workers {
		if w.Received == 0 {
			t.Errorf("worker %d had nothing to do: %+v", i, rep.Workers)
		}
	}
}

func TestOptionsOfWorkers(t *testing.T) {
	for want, change := range map[string]func(*Options){
		"-1 workers: there can be 1 to 64":                      func(o *Options) { o.Workers = -1 },
		"65 workers: there can be 1 to 64":                      func(o *Options) { o.Workers = 65 },
		"there is only one: give --workers 2":                   func(o *Options) { o.MoveEvery = 1 },
		"when load asks for it: choose one":                     func(o *Options) { o.Workers, o.MoveEvery, o.Balance = 2, 1, true },
		"every -1s: give a time above 0":                        func(o *Options) { o.SwapEvery = -time.Second },
		"the size of bursts is chosen for one worker: several ": func(o *Options) { o.Workers, o.Burst = 2, 8 },
	} {
		o := Options{In: "in.pcap", Chains: []string{edge}}.withDefaults()
		change(&o)
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
