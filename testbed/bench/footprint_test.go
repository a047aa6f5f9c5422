package bench

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
)

// footprint returns the memory in MiB that the process has beside Go's heap, on
// which there is only what the benchmark itself needs: tables, flow state,
// frames, code. Pages that are mapped several times count once.
func footprint() (float64, error) {
	debug.FreeOSMemory()
	f, err := os.Open("/proc/self/smaps_rollup")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var kb float64
		if line, ok := strings.CutPrefix(s.Text(), "Pss:"); ok {
			if _, err := fmt.Sscan(line, &kb); err != nil {
				return 0, fmt.Errorf("smaps_rollup says %q: %w", s.Text(), err)
			}
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return kb/1024 - float64(m.HeapSys-m.HeapReleased)/(1<<20), nil
		}
	}
	return 0, fmt.Errorf("smaps_rollup has no Pss")
}
