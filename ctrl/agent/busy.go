package agent

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Busy returns for how long each worker's thread has run on its core, looking
// for packets included: a worker that finds none sleeps after a millisecond. It
// is 0 for one that has ended. Anyone may call it once the engine has started,
// but for Stop.
func (e *Engine) Busy() ([]time.Duration, error) {
	out := make([]time.Duration, len(e.workers))
	for i, w := range e.workers {
		if w.run == nil {
			continue
		}
		tid := 0
		if _, err := w.run.Do(func() { tid = threadID() }); err != nil {
			continue
		}
		d, err := runTime(tid)
		if err != nil {
			return nil, fmt.Errorf("worker %d: %w", i, err)
		}
		out[i] = d
	}
	return out, nil
}

// threadID is that of the calling thread.
func threadID() int { return unix.Gettid() }

// runTime reads how long a thread of this process has run: the first number of
// its schedstat, in ns (Documentation/scheduler/sched-stats.rst).
func runTime(tid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/schedstat", tid))
	if err != nil {
		return 0, fmt.Errorf("run time of thread %d: %w", tid, err)
	}
	first, _, _ := strings.Cut(string(text), " ")
	ns, err := strconv.ParseInt(first, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("run time of thread %d: schedstat says %q", tid, text)
	}
	return time.Duration(ns), nil
}
