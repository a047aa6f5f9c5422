package replay

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"sfc/testbed/gate"
)

func TestMain(m *testing.M) { os.Exit(gate.Main(m)) }

const edge = "../examples/edge.yaml"

// Every capture, live and offline: the account balances, nothing is lost or
// reordered, and both ways decide alike about every packet.
func TestCapturesLiveAndOffline(t *testing.T) {
	files := gate.Pcaps(t)
	gate.Root(t)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			gate.Leaks(t)
			dir := t.TempDir()
			var outs, drops [2][]byte
			for i, offline := range []bool{false, true} {
				opts := Options{
					Chains: []string{edge}, In: file, Offline: offline,
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
		})
	}
}
