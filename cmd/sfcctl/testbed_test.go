package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sfc/testbed/capture"
	"sfc/testbed/gate"
	"sfc/testbed/lab"
)

// bed runs commands of one lab with the real program.
type bed struct {
	t   *testing.T
	bin string
}

// The real program, with labs in a folder of their own.
func TestTestbed(t *testing.T) {
	gate.Root(t)
	bin := buildSfcctl(t)
	for _, tt := range []struct {
		name string
		test func(*testing.T, *bed)
	}{
		{"programs", testPrograms}, {"exec", testExec}, {"watch", testWatch}, {"swap goes back", testSwapGoesBack}, {"killed", testKilled}, {"not root", testNotRoot},
	} {
		t.Run(tt.name, func(t *testing.T) {
			nothingLeft(t)
			t.Setenv(envRun, openDir(t))
			tt.test(t, &bed{t, bin})
		})
	}
}

func (b *bed) start(args ...string) *process {
	b.t.Helper()
	return start(b.t, b.bin, append([]string{"testbed"}, args...)...)
}

func (b *bed) run(args ...string) result {
	b.t.Helper()
	return b.start(args...).wait(b.t)
}

// ok runs a command that must succeed and returns what it printed.
func (b *bed) ok(args ...string) string {
	b.t.Helper()
	got := b.run(args...)
	if got.status != exitOK {
		b.t.Fatalf("%v: %+v", args, got)
	}
	return got.stdout
}

// json runs a command that must succeed and reads what it printed.
func (b *bed) json(to any, args ...string) {
	b.t.Helper()
	text := b.ok(append(args, "--json")...)
	if err := json.Unmarshal([]byte(text), to); err != nil {
		b.t.Fatalf("%v: %v in %s", args, err, text)
	}
}

// up starts a lab and has it taken down in the end.
func (b *bed) up(args ...string) (s lab.Status) {
	b.t.Helper()
	b.t.Cleanup(func() {
		if got := b.run("down"); got.status != exitOK {
			b.t.Errorf("%+v", got)
		}
	})
	b.json(&s, append([]string{"up"}, args...)...)
	return s
}

// serve runs a program on the server until the test ends.
func (b *bed) serve(dir string, args ...string) {
	b.t.Helper()
	p := &process{Cmd: exec.Command(b.bin, append([]string{"testbed", "exec", "server", "--"}, args...)...)}
	p.Dir, p.Stdout, p.Stderr = dir, &p.out, &p.errs
	if err := p.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		_ = p.Process.Kill()
		_ = p.Wait() // killed, as it says
	})
}

// guardChain is a stateful chain with a way back.
func guardChain(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(catalog)
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, "guard.yaml", []byte(chainHead+fmt.Sprintf(`spec:
  match: [{port: in}]
  egress: out
  return: mirrored
  functions:
    - module: %[1]s/firewall/firewall.wasm
      config: {default: deny, rules: [{action: permit, src: 10.0.0.0/8}, {action: permit, src: "fd00::/8"}]}
    - module: %[1]s/flowstat/flowstat.wasm
      config: {tcp_rtt: true}
`, dir)))
}

// Real programs talk through a chain while its flows move and its functions are
// replaced.
func testPrograms(t *testing.T, b *bed) {
	curl, python := gate.Tool(t, "curl"), gate.Tool(t, "python3")
	www := t.TempDir()
	big := make([]byte, 20<<20)
	rand.NewChaCha8([32]byte{1}).Read(big)
	for name, data := range map[string][]byte{"big": big, "small": big[:20_000]} {
		if err := os.WriteFile(filepath.Join(www, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b.up("--chain", guardChain(t), "--workers", "2", "--rebalance-every", "20ms")
	b.serve(www, python, "-c", httpServer)
	b.ok("exec", "client", "--", curl, "-s", "--retry", "20", "--retry-connrefused", "--retry-delay", "1", "-o", "/dev/null", "http://server/small")

	got := filepath.Join(t.TempDir(), "got")
	long := b.start("exec", "client", "--", curl, "-sS", "-m", "60", "-o", got, "http://10.0.1.2/big")
	many := b.start("exec", "client", "--", "sh", "-c",
		fmt.Sprintf(`for i in $(seq 100); do %s -sS -m 60 -o /dev/null -w '%%{http_code}\n' http://server/small & done; wait`, curl))
	for i := range 20 {
		b.ok("move", "--bucket", fmt.Sprint(i*51), "--to", fmt.Sprint(i%2))
		if i%5 == 0 {
			b.ok("swap", "firewall="+catalog+"firewall/firewall.wasm", "--probation", "1ms")
		}
	}
	if r := long.wait(t); r.status != exitOK {
		t.Errorf("%+v", r)
	}
	if text, err := os.ReadFile(got); err != nil || !bytes.Equal(text, big) {
		t.Errorf("%d bytes came, %v", len(text), err)
	}
	if r := many.wait(t); r.status != exitOK || r.stdout != strings.Repeat("200\n", 100) {
		t.Errorf("%+v", r)
	}
	var s lab.Stats
	b.json(&s, "workers")
	if f := s.Chains[0].Functions[0]; f.Replaced == "" || f.Replaced == "rolled_back" || f.Faults != 0 {
		t.Errorf("%+v", f)
	}
	var list lab.FlowList
	b.json(&list, "flows", "--limit", "10")
	if len(list.Flows) != 10 || list.Live < 100 {
		t.Errorf("%d of %d flows", len(list.Flows), list.Live)
	}
}

// httpServer serves the working folder with room for 100 connections that are
// not accepted yet: http.server itself has room for five.
const httpServer = `
import http.server
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 256
class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args): pass
Server(("", 80), Handler).serve_forever()
`

// A program in the place of the command: its input, output, exit status, files.
func testExec(t *testing.T, b *bed) {
	s := b.up("--chain", guardChain(t))
	if s.Mode != lab.Inline || s.Attach != "native" || len(s.Cores) != 1 || s.PID == os.Getpid() {
		t.Errorf("%+v", s)
	}
	before, err := os.ReadFile("/etc/hosts")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		in   string
		want result
	}{
		{[]string{"client", "--", "sh", "-c", "cat; echo aside >&2; exit 7"}, "words\n", result{7, "words\n", "aside\n"}},
		{[]string{"client", "echo", "-n", "--name", "no flag of ours"}, "", result{0, "--name no flag of ours", ""}},
		{[]string{"server", "--", "ls", "/sys/class/net"}, "", result{0, "eth0\nlo\n", ""}},
		{[]string{"server", "--", "sh", "-c", "grep -h 10.0.1 /etc/resolv.conf /etc/hosts"}, "", result{0, "nameserver 10.0.1.2\n10.0.1.1 client\n10.0.1.2 server\n", ""}},
		{[]string{"engine", "--", "ls", "/sys/class/net"}, "", result{0, "in\nlo\nout\nsfc-stack\n", ""}},
	} {
		p := &process{Cmd: exec.Command(b.bin, append([]string{"testbed", "exec"}, tt.args...)...)}
		p.Stdin, p.Stdout, p.Stderr = strings.NewReader(tt.in), &p.out, &p.errs
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		if got := p.wait(t); got != tt.want {
			t.Errorf("%v: %+v, want %+v", tt.args, got, tt.want)
		}
	}
	if after, err := os.ReadFile("/etc/hosts"); err != nil || !bytes.Equal(after, before) {
		t.Errorf("/etc/hosts of this machine has changed: %q, %v", after, err)
	}
	for _, tt := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"client", "--", "/no/such/program"}, exitFailed, "/no/such/program"},
		{[]string{"client", "--", "no-such-program"}, exitFailed, "no-such-program"},
		{[]string{"moon", "--", "true"}, exitUsage, `"moon" is no host of a lab: it is client or engine or server`},
		{[]string{"client"}, exitUsage, "a program to run on the client"},
		{[]string{"client", "--"}, exitUsage, "a program to run on the client"},
		{nil, exitUsage, "missing argument"},
		{[]string{"--name", "other", "client", "true"}, exitFailed, "lab other: no lab of that name runs; start one"},
		{[]string{"--name", "../x", "client", "true"}, exitUsage, "no small letter, digit or dash"},
	} {
		if got := b.run(append([]string{"exec"}, tt.args...)...); got.status != tt.status || !strings.Contains(got.stderr, tt.want) || got.stdout != "" {
			t.Errorf("%v: %+v, want %q", tt.args, got, tt.want)
		}
	}
}

// Looking on: tables, rates, a capture.
func testWatch(t *testing.T, b *bed) {
	python := gate.Tool(t, "python3")
	b.up("--chain", guardChain(t), "--workers", "2")
	b.serve(t.TempDir(), python, "-c", udpEcho)

	file := filepath.Join(t.TempDir(), "in.pcapng")
	watching := b.start("capture", "--port", "in", "-w", file, "-n", "20")
	talk := b.start("exec", "client", "--", python, "-c", udpAsk)
	if got := watching.wait(t); got.status != exitOK || got.stdout != file+": 20 packets\n" {
		t.Errorf("%+v", got)
	}
	if got := talk.wait(t); got.status != exitOK {
		t.Errorf("%+v", got)
	}
	if packets, err := capture.ReadFile(file); err != nil || len(packets) != 20 {
		t.Errorf("%d packets, %v", len(packets), err)
	}
	for _, tt := range []struct {
		args []string
		want []string
	}{
		{[]string{"flows"}, []string{"WORKER", "udp", "10.0.1.1:", "10.0.1.2:7", "acme/web", "flows, "}},
		{[]string{"workers"}, []string{"BUCKETS", "512", "PORT", "in ", "out ", "acme/web", "firewall", "flows of acme/web: "}},
		{[]string{"top", "-n", "2", "--interval", "100ms"}, []string{"/s", "%", "CHAIN"}},
		{[]string{"list"}, []string{"lab\n"}},
		{[]string{"move", "--bucket", "17", "--to", "0"}, []string{"bucket 17 of acme/web"}},
		{[]string{"swap", "flowstat", "--config", writeFile(t, "c.json", []byte(`{"tcp_rtt": false}`))}, []string{"flowstat: version ", "flow state"}},
	} {
		text := b.ok(tt.args...)
		for _, want := range tt.want {
			if !strings.Contains(text, want) {
				t.Errorf("%v: %q lacks %q", tt.args, text, want)
			}
		}
		if strings.Contains(text, "\x1b") {
			t.Errorf("%v: %q is for a terminal", tt.args, text)
		}
	}
	for _, tt := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"move", "--bucket", "17", "--to", "2"}, exitFailed, "there are workers 0 to 1"},
		{[]string{"move", "--bucket", "1024", "--to", "0"}, exitUsage, "--bucket 1024: it is 0 to 1023"},
		{[]string{"move", "--to", "0"}, exitUsage, "no bucket given"},
		{[]string{"swap", "firewall"}, exitUsage, "nothing new for firewall"},
		{[]string{"swap", "gate=" + catalog + "acl/acl.wasm"}, exitFailed, `no function "gate"; it has firewall, flowstat`},
		{[]string{"swap", "firewall=/no/such.wasm"}, exitFailed, "/no/such.wasm"},
		{[]string{"swap", "firewall=" + catalog + "dnsguard/dnsguard.wasm"}, exitFailed, "function firewall"},
		{[]string{"flows", "--limit", "0"}, exitUsage, "--limit 0"},
		{[]string{"flows", "--chain", "other"}, exitFailed, `no chain "other"; there is acme/web`},
		{[]string{"capture", "--port", "in"}, exitUsage, "no file to write"},
		{[]string{"capture", "--port", "up", "-w", file}, exitUsage, `--port "up"`},
		{[]string{"capture", "--port", "in", "-w", "/no/such/folder/x"}, exitFailed, "/no/such/folder"},
		{[]string{"top", "--interval", "1ms"}, exitUsage, "--interval 1ms"},
		{[]string{"up", "--chain", guardChain(t)}, exitFailed, "a lab of that name runs"},
		{[]string{"up"}, exitUsage, "no chain given"},
		{[]string{"up", "--name", "b", "--chain", "/no/such.yaml"}, exitFailed, "/no/such.yaml"},
		{[]string{"up", "--name", "b", "--chain", guardChain(t), "--workers", "1000"}, exitFailed, "1000 workers"},
		{[]string{"up", "--name", "b", "--chain", guardChain(t), "--mode", "flat"}, exitUsage, `mode "flat"`},
	} {
		if got := b.run(tt.args...); got.status != tt.status || !strings.Contains(got.stderr, tt.want) || got.stdout != "" {
			t.Errorf("%v: %+v, want %q", tt.args, got, tt.want)
		}
	}
}

// Whoever is not root is told what it takes.
func testNotRoot(t *testing.T, b *bed) {
	dir := openDir(t)
	chain := filepath.Join(dir, "chain.yaml")
	if err := os.WriteFile(chain, []byte(chainHead+"spec: {match: [{port: in}], egress: out, functions: []}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"up", "--chain", chain}, {"exec", "client", "--", "true"}, {"flows"}, {"workers"}, {"top"}, {"list"}, {"status"}, {"down"},
		{"move", "--bucket", "1", "--to", "0"}, {"swap", "a=b"}, {"capture", "--port", "in", "-w", filepath.Join(dir, "x.pcapng")},
	} {
		p := &process{Cmd: exec.Command(b.bin, append([]string{"testbed"}, args...)...)}
		p.Dir, p.Stdout, p.Stderr = dir, &p.out, &p.errs
		p.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		got := p.wait(t)
		if got.status != exitFailed || got.stdout != "" || !strings.Contains(got.stderr, "CAP_NET_ADMIN") || !strings.Contains(got.stderr, "sudo") {
			t.Errorf("%v: %+v", args, got)
		}
	}
}

const udpEcho = `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("", 7))
while True:
    data, who = s.recvfrom(2048); s.sendto(data, who)
`

const udpAsk = `
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(0.2)
good, end = 0, time.time() + 20
while good < 40 and time.time() < end:
    s.sendto(b"question %d" % good, ("server", 7))
    try: good += s.recv(2048) == b"question %d" % good
    except OSError: time.sleep(0.05)
    time.sleep(0.02)
assert good == 40, good
`

// A version that faults goes back by itself.
func testSwapGoesBack(t *testing.T, b *bed) {
	python := gate.Tool(t, "python3")
	good, _, _ := assembled(t, "../../nf/wasm/testdata/hostile/counts_and_traps.wat") // every 1,000th packet
	bad, _, _ := assembled(t, "../../nf/wasm/testdata/hostile/divides_by_zero.wat")
	chain := writeFile(t, "chain.yaml", []byte(chainHead+fmt.Sprintf(
		"spec: {match: [{port: in}], egress: out, functions: [{name: guest, module: %q, config: {}}]}\n", good)))
	b.up("--chain", chain)
	b.serve(t.TempDir(), python, "-c", udpEcho)
	if text := b.ok("swap", "guest="+bad, "--probation", "1m"); !strings.Contains(text, "no flow state") {
		t.Error(text)
	}
	b.ok("exec", "client", "--", python, "-c", udpAsk) // one question is lost, and asked again
	var s lab.Stats
	b.json(&s, "workers")
	if f := s.Chains[0].Functions[0]; f.Replaced != "rolled_back" || f.Why == "" || f.Faults != 1 || f.State != "running" {
		t.Errorf("%+v", f)
	}
	if text := b.ok("workers"); !strings.Contains(text, "last replacement of guest in acme/web: rolled_back: ") {
		t.Error(text)
	}
	var up lab.Status
	b.json(&up, "status")
	if text, err := os.ReadFile(up.LogFile); err != nil || !strings.Contains(string(text), "function guest: alarm: 1.0.0 went back") {
		t.Errorf("log %q: %v", text, err)
	}
}

// A lab ends with its process, and when that is killed too.
func testKilled(t *testing.T, b *bed) {
	if got := b.run("down"); got.status != exitFailed || !strings.Contains(got.stderr, "no lab of that name runs") {
		t.Errorf("%+v", got)
	}
	var first lab.Status
	b.json(&first, "up", "--chain", guardChain(t))
	if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(5 * time.Second); syscall.Kill(first.PID, 0) == nil; time.Sleep(10 * time.Millisecond) {
		if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", first.PID)); err == nil && strings.Contains(string(stat), ") Z ") {
			break // dead; nobody has waited for it yet
		}
		if time.Now().After(end) {
			t.Fatal("the killed process does not end")
		}
	}
	// Its descriptors go a little later.
	got := b.run("workers")
	for tries := 0; tries < 50 && strings.Contains(got.stderr, "has ended"); tries++ {
		time.Sleep(20 * time.Millisecond)
		got = b.run("workers")
	}
	if got.status != exitFailed || !strings.Contains(got.stderr, "its process was killed; start it anew") {
		t.Errorf("%+v", got)
	}
	t.Run("replaced", func(t *testing.T) {
		again := &bed{t, b.bin}
		if s := again.up("--chain", guardChain(t), "--mode", "routed"); s.PID == first.PID || s.Mode != lab.Routed {
			t.Errorf("%+v", s)
		}
	})
	files, err := filepath.Glob(filepath.Join(os.Getenv(envRun), "*.[sl]oc*"))
	if err != nil || len(files) != 0 {
		t.Errorf("left: %q, %v", files, err)
	}
}
