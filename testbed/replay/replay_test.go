package replay

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"sfc/dataplane/packet"
	"sfc/testbed/capture"
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

// In a replay of both directions, files say by which port a packet came out, or
// went in before it was dropped.
func TestFilesTellPorts(t *testing.T) {
	gate.Leaks(t)
	chain := filepath.Join(t.TempDir(), "chain.yaml")
	acl, err := filepath.Abs("../../nf/catalog/acl/acl.wasm")
	if err != nil {
		t.Fatal(err)
	}
	text := `
apiVersion: sfc/v1
kind: Chain
metadata: {name: c, tenant: t}
spec:
  match: [{port: in}]
  egress: out
  return: mirrored
  functions: [{module: ` + acl + `, config: {default: permit, rules: [{action: deny, proto: udp, src_ports: "80"}]}}]`
	if err := os.WriteFile(chain, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	udp, dir := of(inside4, packet.ProtoUDP), t.TempDir()
	opts := Options{
		Chains: []string{chain}, Offline: true, Out: filepath.Join(dir, "out.pcapng"), Drops: filepath.Join(dir, "drops.pcapng"),
		In: writeFrames(t, ether(ipPacket(inside4, false, nil)), ether(ipPacket(reversed(inside4), false, nil)),
			ether(ipPacket(udp, false, nil)), ether(ipPacket(reversed(udp), false, nil))),
	}
	if rep, err := Run(context.Background(), opts); err != nil {
		t.Fatalf("%v: %+v", err, rep)
	}
	for path, want := range map[string][]int{opts.Out: {portOut, portIn, portOut}, opts.Drops: {portOut}} {
		packets, err := capture.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var got []int
		for _, p := range packets {
			got = append(got, p.Interface)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: ports %v, want %v", filepath.Base(path), got, want)
		}
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
