package replay

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"sfc/dataplane/packet"
	"sfc/testbed/capture"
	"sfc/testbed/gate"
)

// Packets of real captures with bytes changed and ends cut off: the steering
// program and its mirror agree about each, and so do a live and an offline
// replay. TEST_SEED repeats a run.
func TestMutatedCaptures(t *testing.T) {
	files := gate.Pcaps(t)
	gate.Root(t)
	gate.Leaks(t)
	in := mutate(t, randomly(t), files, 600)
	var outs, drops [2][]byte
	for i, offline := range []bool{false, true} {
		dir := t.TempDir()
		opts := Options{
			Chains: []string{edge}, In: in, Offline: offline,
			Out: filepath.Join(dir, "out.pcapng"), Drops: filepath.Join(dir, "drops.pcapng"),
		}
		rep, err := Run(context.Background(), opts)
		if err != nil {
			t.Fatalf("offline=%t: %v\n%+v", offline, err, rep)
		}
		if rep.Reordered != 0 || rep.Damaged != 0 || rep.BadChecksumsOut > rep.BadChecksumsIn {
			t.Errorf("offline=%t: %+v", offline, rep)
		}
		outs[i], drops[i] = read(t, opts.Out), read(t, opts.Drops)
	}
	if !bytes.Equal(outs[0], outs[1]) {
		t.Error("live and offline sent different packets")
	}
	if !bytes.Equal(drops[0], drops[1]) {
		t.Error("live and offline dropped different packets")
	}
}

// Through functions that keep state, moves and swaps change nothing about them
// either.
func TestMutatedCapturesMoveAlike(t *testing.T) {
	files := gate.Pcaps(t)
	gate.Leaks(t)
	in := mutate(t, randomly(t), files, 150)
	alike(t, stateful, in, 1)
}

// randomly returns a source that TEST_SEED repeats.
func randomly(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("TEST_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("TEST_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// mutate writes a capture of packets from files, at most so many of each, most
// of them spoilt.
func mutate(t *testing.T, r *rand.Rand, files []string, most int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mutated.pcapng")
	w, err := capture.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	n := int64(0)
	for _, file := range files {
		packets, err := capture.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for range min(most, 20*len(packets)) {
			data := bytes.Clone(packets[r.IntN(len(packets))].Data)
			for range r.IntN(4) {
				data[r.IntN(min(len(data), 90))] = byte(r.Uint32())
			}
			switch how := r.IntN(8); {
			case len(data) < packet.MinFrame: // a capture's oddity, as it is
			case how == 0:
				data = data[:packet.MinFrame+r.IntN(len(data)-packet.MinFrame+1)]
			case how == 1:
				data = append(data[:12:12], append([]byte{0x81, 0, byte(r.IntN(16)), byte(r.IntN(256))}, data[12:]...)...)
			}
			n += 100_000
			if err := w.Write(1_700_000_000_000_000_000+n, data, len(data), ""); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}
