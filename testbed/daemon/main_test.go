package daemon

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"sfc/testbed/gate"
)

func TestMain(m *testing.M) {
	code := gate.Main(m)
	if programs.dir != "" {
		if err := os.RemoveAll(programs.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// programs is where sfcd and sfcctl are, once somebody asked.
var programs struct {
	once sync.Once
	dir  string
	err  error
}

// binaries builds sfcd and sfcctl for the first who asks, and returns their
// folder.
func binaries(tb testing.TB) string {
	tb.Helper()
	tool := gate.Tool(tb, "go")
	programs.once.Do(func() {
		if programs.dir, programs.err = os.MkdirTemp("", "sfc-bin-"); programs.err != nil {
			return
		}
		// The daemon's children are another user's.
		if programs.err = os.Chmod(programs.dir, 0o755); programs.err != nil {
			return
		}
		cmd := exec.Command(tool, "build", "-buildvcs=false", "-o", programs.dir, "./cmd/sfcd", "./cmd/sfcctl")
		cmd.Dir = repository
		if out, err := cmd.CombinedOutput(); err != nil {
			programs.err = fmt.Errorf("build: %w\n%s", err, out)
		}
	})
	check(tb, programs.err)
	return programs.dir
}

// repository is the root of the module, as seen from here.
const repository = "../.."

// module returns the bytes of a function of the catalogue.
func module(tb testing.TB, name string) []byte {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join(repository, "nf/catalog", name, name+".wasm"))
	check(tb, err)
	return data
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
