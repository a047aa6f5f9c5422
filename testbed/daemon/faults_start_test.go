package daemon

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"sfc/ctrl/api"
	"sfc/testbed/gate"
)

// What somebody else has is refused by name before anything is touched, and who
// has it notices nothing: data, run directory, socket, TCP address.
func TestFaultTaken(t *testing.T) {
	gate.Root(t)
	f := newFaulty(t, publicDir(t))
	pid := strconv.Itoa(f.cmd.Process.Pid)
	elsewhere := publicDir(t)
	own := []string{"--run-dir", filepath.Join(elsewhere, "run"), "--listen", "unix://" + filepath.Join(elsewhere, "s")}
	var taken net.Listener
	if err := f.ns.Do(func() (err error) { taken, err = net.Listen("tcp", "127.0.0.1:4443"); return err }); err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, c := range []struct {
		what string
		args []string
		says []string
	}{
		{"the same data", append([]string{"--data-dir", f.data()}, own...), []string{"data directory " + f.data(), "process id " + pid}},
		{"the same run directory", []string{"--data-dir", filepath.Join(elsewhere, "data"), "--run-dir", filepath.Join(f.dir, "run"), "--listen", own[3]}, []string{"run directory", "process id " + pid}},
		{
			"the same socket",
			[]string{"--data-dir", filepath.Join(elsewhere, "data"), "--run-dir", filepath.Join(elsewhere, "run"), "--listen", f.address()},
			[]string{"listen on " + f.address(), "address already in use"},
		},
		{
			"a TCP address in use",
			append([]string{"--data-dir", filepath.Join(elsewhere, "data"), "--listen", "https://127.0.0.1:4443"}, own...),
			[]string{"listen on https://127.0.0.1:4443", "address already in use"},
		},
	} {
		cmd := f.command()
		cmd.Args = append([]string{cmd.Args[0], "--config", "/dev/null"}, c.args...)
		said := f.refused(cmd)
		for _, want := range c.says {
			if !strings.Contains(said, want) {
				t.Errorf("%s: it said %q, not %q", c.what, said, want)
			}
		}
	}
	f.well()
	if left := must[[]string](t)(filepath.Glob(filepath.Join(elsewhere, "run", "*.sock"))); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A directory that cannot be written is refused by name.
func TestFaultReadOnly(t *testing.T) {
	dir, ok := inOwnMounts(t, "256m")
	if !ok {
		return
	}
	f := newFaulty(t, dir)
	f.tenant("acme")
	f.stop()
	f.start()
	f.stop()
	remount := func(flags uintptr) {
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|flags, "mode=755,size=256m"); err != nil {
			t.Fatal(err)
		}
	}
	remount(unix.MS_RDONLY)
	run := publicDir(t)
	cmd := f.command("--run-dir", filepath.Join(run, "run"), "--listen", "unix://"+filepath.Join(run, "s"))
	if said := f.refused(cmd); !strings.Contains(said, "data directory "+f.data()) || !strings.Contains(said, "read-only file system") {
		t.Errorf("it said %q", said)
	}
	remount(0)
	f.start()
	if all := must[*api.List[api.Tenant]](t)(f.api.Tenants().All(t.Context())); len(all.Items) != 1 {
		t.Errorf("tenants are %v", all.Items)
	}
}

// An interface on which another XDP program sits is refused with that program
// named in the port's condition, the other port serves, and when it is gone the
// port is attached without being asked.
func TestFaultPortTaken(t *testing.T) {
	f := newFaulty(t, publicDir(t))
	prog := must[*ebpf.Program](t)(ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "somebody", Type: ebpf.XDP, License: "BSD", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()},
	}))
	defer prog.Close()
	var other link.Link
	err := f.ns.Do(func() error {
		nic, err := net.InterfaceByName("in")
		if err != nil {
			return err
		}
		other, err = link.AttachXDP(link.XDPOptions{Program: prog, Interface: nic.Index})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, name := range []string{"in", "out"} {
		must[*api.Port](t)(f.api.Ports().Create(t.Context(), &api.Port{Metadata: api.Metadata{Name: name}}))
	}
	f.portReady("out")
	f.await("refused", func() string {
		p := must[*api.Port](t)(f.api.Ports().Get(context.Background(), "in"))
		c := p.Status.Conditions.Find(api.Ready)
		if c == nil || c.Status != api.False || !strings.Contains(c.Message, "XDP") {
			return fmt.Sprintf("%+v", p.Status.Conditions)
		}
		t.Logf("port in: %s: %s", c.Reason, c.Message)
		return ""
	})
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	f.portReady("in")
	t.Logf("attached %v after the other program went", time.Since(begin).Round(time.Millisecond))
}

// A control that cannot begin, because it may not enter its data, is started
// again with back-off and alarm; traffic goes on, and it comes back by itself.
func TestFaultControlCannotBegin(t *testing.T) {
	f := newFaulty(t, publicDir(t))
	f.tenant("acme")
	f.ports(api.UnmatchedDrop)
	f.active("acme", "edge", 5)
	s := f.stream(5, time.Millisecond)
	if err := os.Chmod(f.data(), 0); err != nil {
		t.Fatal(err)
	}
	pid, ok := f.child("control")
	if !ok {
		t.Fatal("there is no control")
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	f.await("alarmed", func() string {
		if !strings.Contains(f.log.String(), "alarm=true") {
			return "no alarm"
		}
		return ""
	})
	if !strings.Contains(f.log.String(), f.data()) || !strings.Contains(f.log.String(), "permission denied") {
		t.Errorf("the log does not name %s", f.data())
	}
	if err := os.Chmod(f.data(), 0o700); err != nil {
		t.Fatal(err)
	}
	f.problem("control dies again and again")
	f.condition("acme", "edge", api.Ready, api.True, "")
	if lost := s.lost(); lost != 0 {
		t.Errorf("%d of %d packets were lost", lost, s.sent)
	}
}
