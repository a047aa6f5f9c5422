package confine

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"sfc/testbed/gate"
)

var asNobody = &Identity{nobody, nobody}

// What only an intruder does ends the process, and its parent sees why.
func TestIntrudersAreKilled(t *testing.T) {
	gate.Root(t)
	deadly := []string{"ptrace", "mount", "unshare", "vm_read", "perf", "io_uring", "x32"}
	quiet := []string{"bpf", "exec", "setuid", "setresuid", "kill", "unlink", "connect"}
	for role, actions := range map[string][]string{
		"dataplane": append(quiet, deadly...),
		"compile":   append(quiet, deadly...),
		"control":   deadly,
	} {
		for _, action := range actions {
			results, end := run(t, role, asNobody, "poll", action)
			var exit *exec.ExitError
			if !errors.As(end, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGSYS {
				t.Errorf("%s did %s: ended with %v, %q", role, action, end, results[action])
			}
			if results["poll"] != "done" {
				t.Errorf("%s did not come so far: %v", role, results)
			}
		}
	}
}

func TestTheRestIsRefused(t *testing.T) {
	gate.Root(t)
	refused := []string{"inet", "packet", "xdp", "audit", "write", "rw", "create", "tmpfile", "truncate", "fork", "signal_others", "dumpable", "raise_limit", "ioctl", "new_filter"}
	for role, actions := range map[string][]string{
		"dataplane": refused,
		"compile":   append(refused, "netlink", "messages", "accept"),
		"control":   {"bpf"},
	} {
		results, end := run(t, role, asNobody, actions...)
		if end != nil {
			t.Errorf("%s ended with %v", role, end)
		}
		for _, a := range actions {
			if results[a] != "refused: operation not permitted" && !(a == "accept" && strings.Contains(results[a], "not permitted")) {
				t.Errorf("%s %s: %q", role, a, results[a])
			}
		}
	}
}

func TestWhatIsNeededWorks(t *testing.T) {
	gate.Root(t)
	for role, actions := range map[string][]string{
		"dataplane": {"memory", "messages", "accept", "threads", "read", "pin", "poll", "collect", "netlink", "routes", "map_update"},
		"compile":   {"memory", "threads", "read", "pin", "poll", "collect"},
		"control":   {"memory", "messages", "accept", "read", "poll", "collect", "dial", "child", "netlink"},
	} {
		results, end := run(t, role, asNobody, actions...)
		if end != nil {
			t.Errorf("%s ended with %v", role, end)
		}
		for _, a := range actions {
			if results[a] != "done" {
				t.Errorf("%s %s: %q", role, a, results[a])
			}
		}
	}
}

// Every thread has lost everything, also where the user is still root.
func TestNothingIsLeft(t *testing.T) {
	gate.Root(t)
	for uid, id := range map[string]*Identity{"65534": asNobody, "0": nil} {
		results, end := run(t, "dataplane", id, "status")
		if end != nil {
			t.Fatal(end)
		}
		const zero = "0000000000000000"
		want := []string{"NoNewPrivs=1", "Seccomp=2", "CapInh=" + zero, "CapPrm=" + zero, "CapEff=" + zero, "CapBnd=" + zero, "CapAmb=" + zero,
			"Uid=" + strings.Join([]string{uid, uid, uid, uid}, ",")}
		if id != nil {
			want = append(want, "Gid=65534,65534,65534,65534", "Groups= ")
		}
		for _, w := range want {
			if n := strings.Count(results["status"]+" ", w); n != 2 {
				t.Errorf("uid %s: %s is true of %d threads out of 2: %s", uid, w, n, results["status"])
			}
		}
	}
}

func TestWhoNeedsNoPrivileges(t *testing.T) {
	id, err := LookupIdentity("")
	if err != nil || id.UID == 0 {
		t.Errorf("the service's user: %v, %v", id, err)
	}
	if _, err := LookupIdentity("nobody-has-this-name"); err == nil || !strings.Contains(err.Error(), "useradd") {
		t.Errorf("an unknown user: %v", err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := Start(cmd, nil); err == nil {
		cmd.Wait()
		t.Error("a parent-death signal was taken")
	}
	if os.Getuid() == 0 {
		results, end := run(t, "dataplane", nil, "poll")
		if end != nil || results["poll"] != "done" {
			t.Errorf("with the same user: %v, %v", results, end)
		}
	}
}
