package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sfc/testbed/gate"
	"sfc/testbed/replay"
)

// stateful is the example chain whose functions keep state per flow.
const stateful = "../../testbed/examples/stateful.yaml"

// disturbed are flags of a replay with moves and swaps.
var disturbed = []string{"--workers", "2", "--rebalance-every", "2ms", "--swap-every", "20ms"}

func TestReplayWorkers(t *testing.T) {
	files := gate.Pcaps(t)
	modes(t, func(t *testing.T, flags ...string) {
		args := append(append([]string{"--chain", stateful, "--in", files[len(files)-1], "--loop", "10"}, disturbed...), flags...)
		rep, got := replayed(t, args...)
		if got.status != exitOK || got.stderr != "" || rep.Reordered != 0 || len(rep.Workers) != 2 || rep.Mode.Workers != 2 {
			t.Fatalf("%+v", got)
		}
		if rep.Moves == nil || rep.Moves.Count == 0 || rep.Moves.Flows == 0 || rep.Swaps == nil || rep.Swaps.Count == 0 || rep.Swaps.Pause.Max == 0 {
			t.Errorf("moves %+v, swaps %+v", rep.Moves, rep.Swaps)
		}
		if sum := rep.Workers[0].Received + rep.Workers[1].Received; sum != rep.Worker.Received || sum == 0 {
			t.Errorf("workers %+v, sum %+v", rep.Workers, rep.Worker)
		}
		text := sfcctl(t, append([]string{"replay"}, args...)...)
		for _, want := range []string{"2 workers", "\nmoves ", " forced, 0 stuck; ", "\nreplaced ", "functions; pause p50 ", "\nworker  received ", "\n0       ", "\n1       "} {
			if !strings.Contains(text.stdout, want) {
				t.Errorf("output lacks %q:\n%s", want, text.stdout)
			}
		}
	})
}

func TestReplayWorkersUsage(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"none":               {[]string{"--workers", "0"}, "0 workers: there can be 1 to 64"},
		"too many":           {[]string{"--workers", "65"}, "65 workers: there can be 1 to 64"},
		"a word":             {[]string{"--workers", "all"}, `--workers "all": give a whole number`},
		"moves, one worker":  {[]string{"--rebalance-every", "10ms"}, "flows move between workers, and there is only one: give --workers 2 or more"},
		"balance, one":       {[]string{"--rebalance-every", "auto"}, "there is only one"},
		"moves never":        {[]string{"--workers", "2", "--rebalance-every", "0s"}, `--rebalance-every "0s": give a time above 0, such as 10ms, or auto`},
		"moves, no unit":     {[]string{"--workers", "2", "--rebalance-every", "10"}, `--rebalance-every "10": give a time`},
		"moves back in time": {[]string{"--workers", "2", "--rebalance-every", "-1ms"}, `--rebalance-every "-1ms": give a time`},
		"swaps never":        {[]string{"--swap-every", "0s"}, `--swap-every "0s": give a time above 0, such as 50ms`},
		"swaps backwards":    {[]string{"--swap-every", "-1s"}, `--swap-every "-1s": give a time above 0`},
		"swaps, a word":      {[]string{"--swap-every", "often"}, `--swap-every "often": give a time`},
	} {
		t.Run(name, func(t *testing.T) {
			modes(t, func(t *testing.T, flags ...string) {
				got := sfcctl(t, append(append([]string{"replay", "--chain", edge, "--in", udpCapture(t, 3)}, tt.args...), flags...)...)
				if got.status != exitUsage || got.stdout != "" || !strings.Contains(got.stderr, tt.want) {
					t.Errorf("%+v, want %q", got, tt.want)
				}
			})
		})
	}
}

// The real program, ended while flows move and functions are replaced, leaves
// nothing.
func TestProcessWhileMoving(t *testing.T) {
	gate.Root(t)
	bin := buildSfcctl(t)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			nothingLeft(t)
			out := filepath.Join(t.TempDir(), "out.pcapng")
			args := []string{"replay", "--json", "--chain", stateful, "--in", udpCapture(t, 600), "--rate", "200", "--out", out}
			p := start(t, bin, append(args, disturbed...)...)
			sending(t, out)
			if err := p.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			got := p.wait(t)
			if sig == syscall.SIGKILL {
				if got.status != -1 || got.stdout != "" {
					t.Errorf("%+v", got)
				}
				return
			}
			var rep replay.Report
			if err := json.Unmarshal([]byte(got.stdout), &rep); err != nil {
				t.Fatalf("%v: %+v", err, got)
			}
			if got.status != exitFailed || !strings.Contains(got.stderr, "interrupted after ") || rep.Sent == 0 || rep.Sent >= 600 || rep.Balance() != nil || rep.Moves.Count == 0 {
				t.Errorf("%+v: %+v", got, rep)
			}
		})
	}
}
