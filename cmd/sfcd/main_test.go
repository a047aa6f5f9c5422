package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sfc/ctrl/kernelipc"
	"sfc/testbed/gate"
)

// TestMain is also the daemon and its children.
func TestMain(m *testing.M) {
	switch firstArgument() {
	case kernelipc.RoleDataplane, kernelipc.RoleControl, kernelipc.RoleCompile, "--dev":
		main()
		return
	case confinedControl:
		if err := compileConfined(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	os.Exit(gate.Main(m))
}

// line is a line of the log.
type line struct {
	Msg, Role, Error, Data string
	PID                    int
}

// daemon is one that runs in a network namespace of its own.
type daemon struct {
	cmd   *exec.Cmd
	lines chan line
}

func start(t *testing.T, dir string) *daemon {
	t.Helper()
	d := &daemon{cmd: exec.Command("/proc/self/exe", "--dev", "--data-dir", dir, "--log-format", "json"), lines: make(chan line, 100)}
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	log, err := d.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(d.lines)
		for s := bufio.NewScanner(log); s.Scan(); {
			var l line
			if json.Unmarshal(s.Bytes(), &l) != nil {
				l.Error = s.Text()
			}
			d.lines <- l
		}
	}()
	return d
}

// until reads the log up to a message.
func (d *daemon) until(t *testing.T, msg string) (l line) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		select {
		case l, more := <-d.lines:
			if !more {
				t.Fatalf("it ended before it said %q", msg)
			}
			if l.Error != "" {
				t.Logf("log: %+v", l)
			}
			if l.Msg == msg {
				return l
			}
		case <-limit:
			t.Fatalf("it never said %q", msg)
		}
	}
}

// children returns the process ids of a process's children.
func children(t *testing.T, pid int) (pids []int) {
	t.Helper()
	tasks, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue
		}
		for _, f := range strings.Fields(string(text)) {
			n, err := strconv.Atoi(f)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, n)
		}
	}
	return pids
}

// The daemon as an operator meets it: it starts, a second one on the same data
// is refused by name, SIGHUP replaces its children, SIGTERM ends everything.
func TestDaemon(t *testing.T) {
	gate.Root(t)
	gate.Leaks(t)
	dir := t.TempDir()
	d := start(t, dir)
	d.until(t, "sfcd is ready")
	kids := children(t, d.cmd.Process.Pid)
	if len(kids) != 2 {
		t.Fatalf("children %v: want data plane and control", kids)
	}
	for _, pid := range kids {
		if name, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline"); err != nil || !bytes.HasPrefix(name, []byte("sfcd: ")) {
			t.Errorf("child %d is called %q, %v", pid, name, err)
		}
		group, err := unix.Getpgid(pid)
		if own, ownErr := unix.Getpgid(d.cmd.Process.Pid); err != nil || ownErr != nil || group != own {
			t.Errorf("child %d is in process group %d, the daemon in %d", pid, group, own)
		}
	}
	conn, err := net.Dial("unix", filepath.Join(dir, "run", "sfcd.sock"))
	if err != nil {
		t.Errorf("the API's socket: %v", err)
	} else {
		conn.Close()
	}
	second := exec.Command("/proc/self/exe", "--dev", "--data-dir", dir)
	out, err := second.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "process id "+strconv.Itoa(d.cmd.Process.Pid)) {
		t.Errorf("a second daemon: %v, %s", err, out)
	}
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		d.until(t, "child replaced")
	}
	next := children(t, d.cmd.Process.Pid)
	if len(next) != 2 || next[0] == kids[0] || next[0] == kids[1] || next[1] == kids[0] || next[1] == kids[1] {
		t.Errorf("children were %v, are %v", kids, next)
	}
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	d.until(t, "sfcd ended")
	if err := d.cmd.Wait(); err != nil {
		t.Errorf("the end: %v", err)
	}
	for range d.lines { // until its log ends
	}
	for _, pid := range next {
		if unix.Kill(pid, 0) == nil {
			t.Errorf("child %d is still there", pid)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "run", "*.sock"))
	if err != nil || len(left) != 0 {
		t.Errorf("sockets are left: %v, %v", left, err)
	}
}
