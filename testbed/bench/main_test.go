package bench

import (
	"os"
	"testing"

	"sfc/testbed/gate"
)

func TestMain(m *testing.M) { os.Exit(gate.Main(m)) }
