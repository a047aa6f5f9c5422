package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sfc/testbed/gate"
	"sfc/testbed/replay"
)

// buildSfcctl compiles the program into a folder that every user may read.
func buildSfcctl(t *testing.T) string {
	t.Helper()
	dir := openDir(t)
	bin := filepath.Join(dir, "sfcctl")
	if out, err := exec.Command(gate.Tool(t, "go"), "build", "-buildvcs=false", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return bin
}

// openDir is a temporary folder that every user may read.
func openDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// process is a running sfcctl.
type process struct {
	*exec.Cmd
	out, errs bytes.Buffer
}

func start(t *testing.T, bin string, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(bin, args...)}
	p.Stdout, p.Stderr = &p.out, &p.errs
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// wait returns the exit status, -1 when a signal ended the process.
func (p *process) wait(t *testing.T) result {
	t.Helper()
	timer := time.AfterFunc(time.Minute, func() { _ = p.Process.Kill() })
	defer timer.Stop()
	if err := p.Wait(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	return result{p.ProcessState.ExitCode(), p.out.String(), p.errs.String()}
}

// sending returns when the replay has started to send, which is when it makes
// its output file.
func sending(t *testing.T, out string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(out); err == nil {
			time.Sleep(300 * time.Millisecond)
			return
		}
		if time.Now().After(end) {
			t.Fatal("the replay does not start")
		}
	}
}

// nothingLeft checks what a process may leave in the kernel: names of network
// namespaces, links, and XDP programs that nobody holds.
func nothingLeft(t *testing.T) {
	gate.Leaks(t)
	tool := gate.Tool(t, "bpftool")
	before := orphans(t, tool)
	t.Cleanup(func() {
		var left []string
		for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			left = slices.DeleteFunc(orphans(t, tool), func(p string) bool { return slices.Contains(before, p) })
			if len(left) == 0 {
				return
			}
		}
		t.Errorf("XDP programs are left that no process holds: %v", left)
	})
}

// orphans lists the XDP programs that no process has a descriptor of: they are
// pinned, or attached in a way that outlives their maker.
func orphans(t *testing.T, bpftool string) (list []string) {
	t.Helper()
	out, err := exec.Command(bpftool, "prog", "show", "-j").Output()
	if err != nil {
		t.Fatalf("bpftool: %v", err)
	}
	var programs []struct {
		ID   json.Number
		Type string
	}
	if err := json.Unmarshal(out, &programs); err != nil {
		t.Fatalf("bpftool: %v in %s", err, out)
	}
	held := map[string]bool{}
	files, err := filepath.Glob("/proc/[0-9]*/fdinfo/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // closed meanwhile
		}
		if _, rest, ok := strings.Cut(string(text), "\nprog_id:"); ok {
			id, _, _ := strings.Cut(rest, "\n")
			held[strings.TrimSpace(id)] = true
		}
	}
	for _, p := range programs {
		if p.Type == "xdp" && !held[p.ID.String()] {
			list = append(list, p.ID.String())
		}
	}
	return list
}

// slow are the arguments of a replay that takes three seconds.
func slow(t *testing.T) (args []string, out string) {
	out = filepath.Join(t.TempDir(), "out.pcapng")
	return []string{"replay", "--json", "--chain", edge, "--in", udpCapture(t, 600), "--rate", "200", "--out", out}, out
}

// The real program, ended in every way there is, leaves nothing.
func TestProcess(t *testing.T) {
	gate.Root(t)
	bin := buildSfcctl(t)

	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run("interrupted/"+sig.String(), func(t *testing.T) {
			nothingLeft(t)
			args, out := slow(t)
			p := start(t, bin, args...)
			sending(t, out)
			if err := p.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			got := p.wait(t)
			var rep replay.Report
			if err := json.Unmarshal([]byte(got.stdout), &rep); err != nil {
				t.Fatalf("%v: %+v", err, got)
			}
			if got.status != exitFailed || !strings.Contains(got.stderr, "interrupted after ") {
				t.Errorf("status %d, stderr %s", got.status, got.stderr)
			}
			if rep.Sent == 0 || rep.Sent >= 600 || rep.Received != rep.Sent || rep.Balance() != nil {
				t.Errorf("%+v", rep)
			}
		})
	}

	t.Run("killed", func(t *testing.T) {
		nothingLeft(t)
		args, out := slow(t)
		p := start(t, bin, args...)
		sending(t, out)
		if err := p.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if got := p.wait(t); got.status != -1 || got.stdout != "" {
			t.Errorf("%+v", got)
		}
		next := start(t, bin, "replay", "--chain", edge, "--in", udpCapture(t, 100)).wait(t)
		if next.status != exitOK || !strings.Contains(next.stdout, "received       100\n") {
			t.Errorf("the next run: %+v", next)
		}
	})

	t.Run("does not start", func(t *testing.T) {
		nothingLeft(t)
		module, _, _ := assembled(t, "../../nf/wasm/testdata/hostile/configure_refuses.wat")
		got := start(t, bin, "replay", "--keep", "--chain", chainFile(t, module, "{}"), "--in", udpCapture(t, 10)).wait(t)
		if got.status != exitFailed || got.stdout != "" || !strings.Contains(got.stderr, "function guest") {
			t.Errorf("%+v", got)
		}
	})

	t.Run("fails with its testbed built", func(t *testing.T) {
		nothingLeft(t)
		// A folder cannot be written to as a file, which shows last.
		got := start(t, bin, "replay", "--keep", "--chain", edge, "--in", udpCapture(t, 10), "--out", t.TempDir()).wait(t)
		if got.status != exitFailed || got.stdout != "" || !strings.Contains(got.stderr, "--out: ") {
			t.Errorf("%+v", got)
		}
	})

	t.Run("kept", func(t *testing.T) {
		nothingLeft(t)
		ip := gate.Tool(t, "ip")
		t.Cleanup(func() {
			if _, err := replay.Clean(); err != nil {
				t.Error(err)
			}
		})
		in := udpCapture(t, 10)
		for range 2 { // the second replaces what the first left
			if got := start(t, bin, "replay", "--keep", "--chain", edge, "--in", in).wait(t); got.status != exitOK {
				t.Fatalf("%+v", got)
			}
			for ns, link := range map[string]string{"sfc-client": "c0", "sfc-engine": "out", "sfc-server": "s0"} {
				if out, err := exec.Command(ip, "netns", "exec", ns, "ip", "link", "show", link).CombinedOutput(); err != nil {
					t.Errorf("%s: %v\n%s", ns, err, out)
				}
			}
		}
		got := start(t, bin, "testbed", "clean").wait(t)
		if got != (result{exitOK, "removed sfc-client, sfc-engine, sfc-server\n", ""}) {
			t.Errorf("%+v", got)
		}
		if got := start(t, bin, "testbed", "clean").wait(t); got != (result{exitOK, "nothing to remove\n", ""}) {
			t.Errorf("%+v", got)
		}
	})

	t.Run("not root", func(t *testing.T) {
		nothingLeft(t)
		dir := openDir(t)
		in, acl := filepath.Join(dir, "in.pcapng"), filepath.Join(dir, "acl.wasm")
		for to, from := range map[string]string{in: udpCapture(t, 10), acl: catalog + "acl/acl.wasm"} {
			if err := os.WriteFile(to, []byte(contents(t, from)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		chain := filepath.Join(dir, "chain.yaml")
		text := chainHead + "spec: {egress: out, functions: [{module: acl.wasm, config: {default: permit, rules: []}}]}\n"
		if err := os.WriteFile(chain, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		nobody := func(args ...string) result {
			p := &process{Cmd: exec.Command(bin, args...)}
			p.Dir, p.Stdout, p.Stderr = dir, &p.out, &p.errs
			p.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			if err := p.Start(); err != nil {
				t.Fatal(err)
			}
			return p.wait(t)
		}
		for _, tt := range []struct {
			args []string
			want []string
		}{
			{[]string{"replay", "--chain", chain, "--in", in}, []string{"CAP_NET_ADMIN", "CAP_BPF", "CAP_IPC_LOCK", "sudo", "--offline"}},
			{[]string{"record", "--out", filepath.Join(dir, "out.pcapng")}, []string{"CAP_NET_ADMIN", "CAP_NET_RAW", "sudo"}},
			{[]string{"testbed", "clean"}, []string{"CAP_SYS_ADMIN", "sudo"}},
		} {
			got := nobody(tt.args...)
			if got.status != exitFailed || got.stdout != "" {
				t.Errorf("%v: %+v", tt.args, got)
			}
			for _, want := range tt.want {
				if !strings.Contains(got.stderr, want) {
					t.Errorf("%v: %q lacks %q", tt.args, got.stderr, want)
				}
			}
		}
		if got := nobody("replay", "--offline", "--chain", chain, "--in", in); got.status != exitOK || !strings.Contains(got.stdout, "received       10\n") {
			t.Errorf("offline: %+v", got)
		}
	})
}
