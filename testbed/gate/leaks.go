package gate

import (
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// leakWait is how long what is still there may take to go away: goroutines end
// and the kernel removes namespaces a little after the call that asked for it.
const leakWait = 3 * time.Second

// ownPrefix begins the name of every namespace that this module gives one;
// others on the machine come and go as they like.
const ownPrefix = "sfc-"

// Leaks checks when tb ends that it left nothing behind: no goroutine, no open
// file descriptor, no thread in another network namespace, no
// namespace of ours in /run/netns, no network interface. Call it first, so that its check runs after
// the test's own cleanups. Tests that run in parallel with tb would be seen as
// its leaks: do not use it with t.Parallel.
func Leaks(tb testing.TB) {
	tb.Helper()
	before := take()
	tb.Cleanup(func() {
		if left := before.left(leakWait); len(left) > 0 {
			tb.Errorf("left behind:\n\t%s", strings.Join(left, "\n\t"))
		}
	})
}

// Main runs the tests of a package and then the check of [Leaks] over all of
// them. It returns the exit status:
//
//	func TestMain(m *testing.M) { os.Exit(gate.Main(m)) }
func Main(m *testing.M) int {
	before := take()
	code := m.Run()
	if left := before.left(leakWait); len(left) > 0 && code == 0 {
		fmt.Fprintf(os.Stderr, "FAIL: tests left behind:\n\t%s\n", strings.Join(left, "\n\t"))
		code = 1
	}
	return code
}

// things is what exists at one moment: a unique key and a description of each.
type things map[string]string

// take lists everything that could leak. It starts the runtime's network
// poller first, whose descriptors live as long as the process.
func take() things {
	if r, w, err := os.Pipe(); err == nil {
		r.Close()
		w.Close()
	}
	t := things{}
	t.goroutines()
	t.descriptors()
	t.namespaces()
	return t
}

// left returns what exists now and did not in t, sorted, once it is nothing or
// wait is over.
func (t things) left(wait time.Duration) []string {
	for end := time.Now().Add(wait); ; time.Sleep(20 * time.Millisecond) {
		now := take()
		maps.DeleteFunc(now, func(key, _ string) bool { _, ok := t[key]; return ok })
		if len(now) == 0 || time.Now().After(end) {
			return slices.Sorted(maps.Values(now))
		}
	}
}

// goroutines adds the running goroutines, except those of the testing package
// and of os/signal, which starts one and keeps it.
func (t things) goroutines() {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	for stack := range strings.SplitSeq(string(buf), "\n\n") {
		head, body, _ := strings.Cut(stack, "\n")
		if strings.HasPrefix(body, "testing.") || strings.HasPrefix(body, "os/signal.") ||
			strings.Contains(body, "created by testing.") || strings.Contains(body, "created by os/signal.") {
			continue
		}
		id, _, _ := strings.Cut(head, " [")
		t[id] = head + " " + strings.ReplaceAll(body, "\n", "\n\t\t")
	}
}

// descriptors adds the process's open file descriptors.
func (t things) descriptors() {
	const dir = "/proc/self/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // no /proc: nothing to compare
	}
	for _, e := range entries {
		target, err := os.Readlink(dir + "/" + e.Name())
		if err != nil {
			continue // the descriptor ReadDir itself used
		}
		what := "descriptor " + e.Name() + " on " + target
		t[what] = what
	}
}

// namespaces adds threads that are in another network namespace than the
// caller, our named namespaces, and interfaces of the caller's namespace.
func (t things) namespaces() {
	home, _ := os.Readlink("/proc/thread-self/ns/net")
	tasks, _ := os.ReadDir("/proc/self/task")
	for _, e := range tasks {
		ns, err := os.Readlink("/proc/self/task/" + e.Name() + "/ns/net")
		if err == nil && ns != home {
			t["thread "+e.Name()] = "thread " + e.Name() + " in " + ns
		}
	}
	names, _ := filepath.Glob("/run/netns/" + ownPrefix + "*")
	for _, name := range names {
		t["netns "+name] = "network namespace " + name
	}
	links, _ := net.Interfaces()
	for _, l := range links {
		t["link "+l.Name] = "network interface " + l.Name
	}
}
