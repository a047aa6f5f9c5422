package netns

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sfc/testbed/gate"
)

// envChild makes the test binary play a process that another test kills.
const envChild = "SFC_NETNS_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(envChild) != "" {
		child()
	}
	os.Exit(gate.Main(m))
}

func newNS(t *testing.T) *NS {
	t.Helper()
	gate.Caps(t, unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN)
	ns, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ns.Close(); err != nil {
			t.Error(err)
		}
	})
	return ns
}

func netnsOf(t *testing.T) string {
	t.Helper()
	s, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDoRunsInsideAndComesBack(t *testing.T) {
	gate.Leaks(t)
	ns := newNS(t)
	home := netnsOf(t)
	var inside string
	want := errors.New("from fn")
	if err := ns.Do(func() error { inside = netnsOf(t); return want }); !errors.Is(err, want) {
		t.Errorf("Do = %v, want fn's error", err)
	}
	if inside == home {
		t.Error("fn ran in the caller's namespace")
	}
	var nested, after string
	other := newNS(t)
	err := ns.Do(func() error {
		err := other.Do(func() error { nested = netnsOf(t); return nil })
		after = netnsOf(t)
		return err
	})
	if err != nil || nested == inside || nested == home || after != inside {
		t.Errorf("nested Do: err %v, home %s, outer %s, inner %s, after %s", err, home, inside, nested, after)
	}
	if now := netnsOf(t); now != home {
		t.Errorf("caller is in %s, was in %s", now, home)
	}
}

func TestDoPassesPanicAndGoexit(t *testing.T) {
	gate.Leaks(t)
	ns := newNS(t)
	home := netnsOf(t)
	func() {
		defer func() {
			if r, _ := recover().(string); !strings.Contains(r, "boom") || !strings.Contains(r, "ns_test.go") {
				t.Errorf("recovered %q, want the panic and its stack", r)
			}
		}()
		_ = ns.Do(func() error { panic("boom") })
		t.Error("Do returned from a panic")
	}()
	passed := make(chan bool, 1)
	go func() {
		defer close(passed)
		_ = ns.Do(func() error { runtime.Goexit(); return nil })
		passed <- true
	}()
	if <-passed {
		t.Error("Goexit did not end the caller")
	}
	if now := netnsOf(t); now != home {
		t.Errorf("caller is in %s, was in %s", now, home)
	}
}

func TestClosedNamespaceSaysSo(t *testing.T) {
	gate.Leaks(t)
	ns := newNS(t)
	for range 2 {
		if err := ns.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := ns.Do(func() error { return nil }); !errors.Is(err, ErrClosed) {
		t.Errorf("Do = %v, want ErrClosed", err)
	}
	if err := ns.Pin("sfc-test-closed"); !errors.Is(err, ErrClosed) {
		t.Errorf("Pin = %v, want ErrClosed", err)
	}
	if _, _, err := Veth(ns, "a", ns, "b", VethOptions{}); !errors.Is(err, ErrClosed) {
		t.Errorf("Veth = %v, want ErrClosed", err)
	}
}

func TestNewWithoutPrivilegeNamesCapability(t *testing.T) {
	if os.Geteuid() != 0 {
		_, err := New()
		if err == nil || !strings.Contains(err.Error(), "CAP_SYS_ADMIN") {
			t.Errorf("New = %v, want an error that names CAP_SYS_ADMIN", err)
		}
		return
	}
	if err := explain(unix.EPERM); !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "CAP_SYS_ADMIN") {
		t.Errorf("explain(EPERM) = %v", err)
	}
}

// child runs in its own process: it links a namespace of its own to the one of
// its parent (descriptor 3), pins a third if asked, says so, and waits to be
// killed.
func child() {
	parent := &NS{file: os.NewFile(3, "parent namespace")}
	mine, err := New()
	if err == nil {
		_, _, err = Veth(mine, "mine", mine, "mine2", VethOptions{})
	}
	if err == nil {
		// The end in the parent's namespace has no netlink handle here.
		_, _, err = vethInto(mine, "toparent", parent, "tochild")
	}
	if name := os.Getenv(envChild); err == nil && name != "1" {
		err = mine.Pin(name)
	}
	if err != nil {
		os.Stdout.WriteString("error: " + err.Error() + "\n")
		os.Exit(1)
	}
	os.Stdout.WriteString("ready\n")
	time.Sleep(time.Minute)
	os.Exit(1)
}

// vethInto is Veth for a namespace known only by its descriptor.
func vethInto(a *NS, nameA string, b *NS, nameB string) (*Link, *Link, error) {
	if err := b.Do(b.prepare); err != nil {
		return nil, nil, err
	}
	return Veth(a, nameA, b, nameB, VethOptions{})
}

// killedChild starts the child beside ns and kills it with SIGKILL once it has
// made its links. It returns whether the link into ns was seen.
func killedChild(t *testing.T, ns *NS, mode string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), envChild+"="+mode)
	cmd.ExtraFiles = []*os.File{ns.file}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 512)
	n, _ := out.Read(line)
	seen := hasLink(t, ns, "tochild")
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if got := string(line[:n]); got != "ready\n" {
		t.Fatalf("child said %q", got)
	}
	if !seen {
		t.Fatal("the child's link is not there while it lives")
	}
}

func hasLink(t *testing.T, ns *NS, name string) bool {
	t.Helper()
	links, err := ns.nl.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if l.Attrs().Name == name {
			return true
		}
	}
	return false
}

func TestSIGKILLLeavesNothing(t *testing.T) {
	gate.Leaks(t)
	ns := newNS(t)
	killedChild(t, ns, "1")
	for end := time.Now().Add(5 * time.Second); hasLink(t, ns, "tochild"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the killed process's namespace still holds its link after 5 s")
		}
	}
}

func TestPinOutlivesProcessUntilRemoved(t *testing.T) {
	gate.Leaks(t)
	ns := newNS(t)
	const prefix = "sfc-test-kept-"
	killedChild(t, ns, prefix+"1")
	t.Cleanup(func() { _, _ = RemoveStale(prefix) })
	time.Sleep(100 * time.Millisecond)
	if !hasLink(t, ns, "tochild") {
		t.Error("the pinned namespace's link is gone")
	}
	if names, err := Stale(prefix); err != nil || len(names) != 1 || names[0] != prefix+"1" {
		t.Errorf("Stale = %q, %v", names, err)
	}
	if names, err := RemoveStale(prefix); err != nil || len(names) != 1 {
		t.Errorf("RemoveStale = %q, %v", names, err)
	}
	if names, err := Stale(prefix); err != nil || len(names) != 0 {
		t.Errorf("Stale after removal = %q, %v", names, err)
	}
	for end := time.Now().Add(5 * time.Second); hasLink(t, ns, "tochild"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the unpinned namespace still holds its link after 5 s")
		}
	}
}
