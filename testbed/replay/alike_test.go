package replay

import (
	"bytes"
	"context"
	"fmt"
	"hash/maphash"
	"maps"
	"path/filepath"
	"testing"
	"time"

	"sfc/chains"
	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
	"sfc/testbed/capture"
	"sfc/testbed/gate"
)

// outcome is what became of a packet: its fate, the port it came out of or the
// reason of its drop, and a hash of its bytes before translation.
type outcome struct {
	fate   fate
	port   int
	reason string
	bytes  uint64
}

// outcomes replays and returns what became of every packet, in the order of
// sending.
func outcomes(t *testing.T, seed maphash.Seed, opts Options) ([]outcome, *Report) {
	t.Helper()
	reader, err := flow.NewReader(flow.ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var all []outcome
	opts.settled = func(r *record) {
		o := outcome{fate: r.fate, reason: r.reason}
		if r.fate == received {
			o.port, o.bytes = r.outPort, maphash.Bytes(seed, untranslated(reader, r))
		}
		all = append(all, o)
	}
	rep, err := Run(context.Background(), opts)
	if err != nil {
		t.Fatalf("%v\n%+v", err, rep)
	}
	if rep.Lost != 0 || rep.Reordered != 0 || rep.Foreign != 0 || rep.Damaged != 0 || rep.BadChecksumsOut > rep.BadChecksumsIn {
		t.Errorf("%d lost, %d reordered, %d foreign, %d damaged, bad checksums: %d in, %d out",
			rep.Lost, rep.Reordered, rep.Foreign, rep.Damaged, rep.BadChecksumsIn, rep.BadChecksumsOut)
	}
	return all, rep
}

// untranslated returns a packet that came out as it would have without address
// translation: which port was free is chance.
func untranslated(reader *flow.Reader, r *record) []byte {
	if r.conv == nil || r.port != portIn || r.outPort != portOut || !r.conv.translated {
		return r.out
	}
	shown := r.conv.outside
	in, _ := packet.Parse(r.out)
	var q flow.Query
	readQuery(reader, r.clockNs, r.out, &in, &q)
	if tuple, ok := q.Tuple(); ok {
		shown = tuple
	}
	out := bytes.Clone(r.out)
	translate(out, shown, r.conv.tuple)
	return out
}

// The whole of the captures: with two workers, flows that move every 10 ms and
// functions that are replaced every 50 ms nothing is lost and nothing
// reordered, and every packet meets the same fate with the same bytes as with
// one worker that is left in peace.
func TestMovesAndSwapsChangeNothing(t *testing.T) {
	files := gate.Pcaps(t)
	gate.Leaks(t)
	for _, chain := range []string{edge, stateful} {
		for _, file := range files {
			t.Run(filepath.Base(chain)+"/"+filepath.Base(file), func(t *testing.T) { alike(t, chain, file, 4000) })
		}
	}
}

// alike compares a replay in peace with disturbed ones, of at least so many
// packets. One with one worker is alike live and offline, see
// TestCapturesLiveAndOffline.
func alike(t *testing.T, chain, file string, packets int) {
	const most, rate = 100, 20_000
	spec, err := chains.Load(chain)
	if err != nil {
		t.Fatal(err)
	}
	// On a busy machine a burst may take long: that is not what is asked here.
	spec.Budget = chains.MaxBudget
	n := count(t, file)
	seed := maphash.MakeSeed()
	opts := Options{Specs: []chains.Spec{spec}, In: file, Offline: true, Loop: min((packets+n-1)/n, most)}
	want, peace := outcomes(t, seed, opts)
	opts.Workers, opts.MoveEvery, opts.SwapEvery, opts.Rate = 2, 10*time.Millisecond, 50*time.Millisecond, rate
	for _, offline := range []bool{true, false} {
		opts.Offline = offline
		t.Run(map[bool]string{true: "offline", false: "live"}[offline], func(t *testing.T) {
			if !offline {
				gate.Root(t)
			}
			got, rep := outcomes(t, seed, opts)
			compare(t, got, want, n)
			compareReports(t, rep, peace)
			if n >= 100 && (rep.Moves.Count < 5 || rep.Swaps.Count < 1 || rep.Workers[0].Received == 0 || rep.Workers[1].Received == 0) {
				t.Errorf("hardly disturbed: %d moves, %d swaps, workers %+v", rep.Moves.Count, rep.Swaps.Count, rep.Workers)
			}
			t.Logf("%d packets in %.1f s, moves %s, swaps %s", len(got), rep.Seconds, brief(rep.Moves.Count, &rep.Moves.Hold), brief(rep.Swaps.Count, &rep.Swaps.Pause))
		})
	}
}

// compare compares what became of every packet; each loop has n of them.
func compare(t *testing.T, got, want []outcome, n int) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d packets, want %d", len(got), len(want))
	}
	wrong := 0
	for i := range got {
		if got[i] != want[i] {
			if wrong++; wrong <= 5 {
				t.Errorf("packet %d of loop %d: %+v, want %+v", i%n+1, i/n+1, got[i], want[i])
			}
		}
	}
	if wrong > 0 {
		t.Errorf("%d of %d packets differ", wrong, len(got))
	}
}

// compareReports compares what functions and flow tables counted, but for flows
// that are over: when they are found to be is chance.
func compareReports(t *testing.T, got, want *Report) {
	t.Helper()
	for i, f := range got.Functions {
		if w := want.Functions[i]; f.Packets != w.Packets || !maps.Equal(f.Verdicts, w.Verdicts) || f.Faults > 0 {
			t.Errorf("functions counted otherwise: %+v, want %+v", f, w)
		}
	}
	if f, w := got.Chains[0].Flows, want.Chains[0].Flows; f != nil && (f.Created != w.Created || f.Replaced != w.Replaced || f.Evicted+f.Refused > 0) {
		t.Errorf("flows %+v, want %+v", f, w)
	}
}

func brief(n uint64, d *DelayReport) string {
	return fmt.Sprintf("%d (%d waited, p50 %v, max %v)", n, d.Count, time.Duration(d.P50), time.Duration(d.Max))
}

func count(t *testing.T, file string) int {
	t.Helper()
	packets, err := capture.ReadFile(file)
	if err != nil || len(packets) == 0 {
		t.Fatalf("%d packets, %v", len(packets), err)
	}
	return len(packets)
}
