package lab

import (
	"os"
	"testing"

	"sfc/testbed/gate"
)

func TestMain(m *testing.M) { os.Exit(gate.Main(m)) }

const stateful = "../examples/stateful.yaml"

func TestOpen(t *testing.T) {
	gate.Root(t)
	gate.Leaks(t)
	l, err := Open(Options{Chains: []string{stateful}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Log(l.notes)
}
