package daemon

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// process is one of the machine's.
type process struct {
	pid  int
	name string // the first argument, such as "sfcd: control"
}

// processes returns those that know a folder by their environment or their
// arguments, this one excepted: whoever serves there, whoever is its parent by
// now.
func processes(tb testing.TB, dir string) (list []process) {
	tb.Helper()
	all, err := filepath.Glob("/proc/[0-9]*")
	check(tb, err)
	for _, p := range all {
		pid, err := strconv.Atoi(filepath.Base(p))
		check(tb, err)
		args, argsErr := os.ReadFile(p + "/cmdline")
		environ, err := os.ReadFile(p + "/environ")
		if pid == os.Getpid() || argsErr != nil || err != nil || len(args) == 0 {
			continue // ended meanwhile, or has ended and waits to be waited for
		}
		if bytes.Contains(args, []byte(dir)) || bytes.Contains(environ, []byte(dir)) {
			name, _, _ := strings.Cut(string(args), "\x00")
			list = append(list, process{pid, name})
		}
	}
	return list
}

// endWait is how long processes may take to end once they shall.
const endWait = 10 * time.Second

// nobodyLeft fails when processes of a folder do not end, and ends them.
func nobodyLeft(tb testing.TB, dir string) {
	tb.Helper()
	var left []process
	for end := time.Now().Add(endWait); ; time.Sleep(20 * time.Millisecond) {
		if left = processes(tb, dir); len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			break
		}
	}
	tb.Errorf("processes are left behind: %v", left)
	for _, p := range left {
		if q, err := os.FindProcess(p.pid); err == nil {
			_ = q.Kill() // it may have ended by itself
		}
	}
}

// namespaces returns the named network namespaces of the machine.
func namespaces(tb testing.TB) []string {
	tb.Helper()
	list, err := filepath.Glob("/run/netns/*")
	check(tb, err)
	slices.Sort(list)
	return list
}
