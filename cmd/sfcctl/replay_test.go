package main

import (
	"encoding/json"
	"os"
	"testing"

	"sfc/testbed/gate"
	"sfc/testbed/replay"
)

func TestMain(m *testing.M) { os.Exit(gate.Main(m)) }

// edge is the example chain.
const edge = "../../testbed/examples/edge.yaml"

// replayed runs "replay --json" with args inside the test and returns the
// report, which must balance if there is one.
func replayed(tb testing.TB, args ...string) (replay.Report, result) {
	tb.Helper()
	got := sfcctl(tb, append([]string{"replay", "--json"}, args...)...)
	var rep replay.Report
	if got.stdout == "" {
		return rep, got
	}
	if err := json.Unmarshal([]byte(got.stdout), &rep); err != nil {
		tb.Fatalf("%v in\n%s\nstderr: %s", err, got.stdout, got.stderr)
	}
	if err := rep.Balance(); err != nil {
		tb.Errorf("%v\nstderr: %s", err, got.stderr)
	}
	return rep, got
}
