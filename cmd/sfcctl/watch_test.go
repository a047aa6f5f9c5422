package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sfc/ctrl/api"
	"sfc/ctrl/plane"
)

// busy gives a data plane an account with so many chains of two tenants: each has
// twice the packets of the one before.
func (d *daemon) busy(n int) {
	d.plane.set(func() {
		s := &d.plane.stats
		*s = plane.Stats{
			Workers: []plane.WorkerStats{{Core: 1, Received: 7}}, Ports: []plane.PortStats{{Name: "in"}, {Name: "out"}},
			Tenants: []plane.TenantStats{{Name: "acme", Share: 500, MemoryBytes: 3 << 20}, {Name: "other"}},
		}
		for i := range n {
			s.Chains = append(s.Chains, plane.ChainStats{
				Tenant: []string{"acme", "other"}[i%2], Name: fmt.Sprintf("c%04d", i), Packets: uint64(i) * 10, Bytes: uint64(n-i) * 100, Flows: i % 7, MaxFlows: 100,
				Drops: map[string]uint64{"fw.denied": uint64(i)}, Latency: plane.Quantiles{Count: 1, P50: 1500, P99: 9000},
				Functions: []plane.FunctionStats{{Name: "fw", Version: "1.2.0", State: "running", NsPerPacket: 12.5}, {Name: "stat", Version: "1.0.0", State: "running"}},
			})
		}
		if n > 0 {
			s.Chains[n-1].Functions[0].Canary = &plane.CanaryStats{Version: "1.3.0", Code: "c", Percent: 10, Packets: 5}
		}
	})
}

// The busiest chains come first, as many as asked for, and what is left out is
// told.
func TestTopOrder(t *testing.T) {
	d := acme(t)
	d.busy(1000)
	out := squeeze(d.ok(words("top -n 1 --interval 100ms")...))
	for _, want := range []string{
		"WORKER CORE LOAD RECEIVED SENT PASSED DROPPED HANDED ON HELD ENGINE'S DROPS\n0 1 0% ", "\n\nPORT FRAMES TO WORKERS PASSED FORWARDED DROPS\nin ",
		"\n\nCHAIN PACKETS BYTES SENT PASSED FLOWS P50 P99 DROPS\nother/c0999 9990/s 100/s 0/s 0/s 5 of 100 1.5us 9.0us -\nacme/c0998 9980/s ",
		"... and 950 more chains: see --all and --sort\n",
		"\n\nCHAIN FUNCTION VERSION STATE PACKETS NS/PACKET BURST P50 BURST P99 FAULTS DROPS\nother/c0999 fw 1.2.0 running 0/s 12.5 - - 0 -\nother/c0999 fw 1.3.0 canary 10% 0/s ",
		"\n\nTENANT TIME GUARANTEED OVER SHARE FLOWS MEMORY\nacme 0.0% 50% 0/s 0 3.0 MiB\nother ",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("without %q:\n%.3000s", want, out)
		}
	}
	for args, want := range map[string]string{
		"--limit 3":                "other/c0999 acme/c0998 other/c0997",
		"--limit 2 --sort name":    "acme/c0000 acme/c0002",
		"--limit 2 --sort bytes":   "acme/c0000 other/c0001",
		"--limit 2 --sort flows":   "acme/c0006 acme/c0020",
		"--limit 2 --sort latency": "acme/c0000 acme/c0002",
		"--limit 1 --sort drops":   "acme/c0000",
	} {
		if got := strings.Join(chainsOf(d.ok(words("top -n 1 --interval 100ms "+args)...)), " "); got != want {
			t.Errorf("%s: %s, want %s", args, got, want)
		}
	}
	if got := chainsOf(d.ok(words("top -n 1 --interval 100ms --all")...)); len(got) != 1000 {
		t.Errorf("--all shows %d chains", len(got))
	}
	if got := chainsOf(d.ok(words("top -n 2 --interval 100ms --tenant acme")...)); len(got) != 100 || strings.Contains(strings.Join(got, " "), "other") {
		t.Errorf("acme's two tables have %v", got)
	}
	var s api.Stats
	if d.read(&s, words("top -n 1 --interval 100ms")...); len(s.Chains) != 1000 {
		t.Errorf("%d chains as JSON", len(s.Chains))
	}
	d.busy(0)
	if out := d.ok(words("top -n 1 --interval 100ms --tenant acme")...); !strings.HasPrefix(out, "CHAIN") {
		t.Errorf("%q", out)
	}
	for args, want := range map[string]string{
		"top --interval 1ms": "--interval 1ms: want 100ms to 1h", "top -n -1": "-n -1", "top --sort size": `--sort "size": want packets, bytes,`,
		"top --limit -1": "--limit -1", "top --limit 1 --all": "limit",
	} {
		if got := d.run(words(args)...); got.status != exitUsage || !strings.Contains(got.stderr, want) {
			t.Errorf("%s: %+v", args, got)
		}
	}
}

// chainsOf are the chains in the first table with chains of what top printed.
func chainsOf(out string) (list []string) {
	in := false
	for l := range strings.Lines(out) {
		f := strings.Fields(l)
		switch {
		case len(f) == 0 || f[0] == "...":
			in = false
		case f[0] == "CHAIN":
			in = f[1] == "PACKETS"
		case in:
			list = append(list, f[0])
		}
	}
	return list
}

// terminal makes a pseudo-terminal of that size. What is written to the one end is
// read at the other.
func terminal(t *testing.T, rows, columns uint16) (user, program *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { user.Close() })
	n, err := unix.IoctlGetInt(int(user.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(user.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(int(user.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns})
	}
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { program.Close() })
	return user, program
}

// On a terminal each table takes the place of the one before: never more lines
// than there are, none that goes on in the next one.
func TestTopOnTerminal(t *testing.T) {
	d := acme(t)
	d.busy(1000)
	for _, size := range [][2]uint16{{24, 80}, {60, 200}, {3, 10}, {200, 300}} {
		user, program := terminal(t, size[0], size[1])
		read := make(chan string, 1)
		go func() {
			var all strings.Builder
			buffer := make([]byte, 64<<10)
			for {
				n, err := user.Read(buffer)
				all.Write(buffer[:n])
				if err != nil || strings.HasSuffix(all.String(), "the end\r\n") {
					read <- all.String()
					return
				}
			}
		}()
		var errs strings.Builder
		e := d.environment(program, &errs, words("top -n 3 --interval 100ms"))
		e.isTerminal = isTerminal
		if status := run(context.Background(), e); status != exitOK {
			t.Fatalf("%d: %s", status, errs.String())
		}
		fmt.Fprint(program, "the end\n")
		frames := strings.Split(<-read, "\x1b[H")
		if len(frames) != 4 || frames[0] != "" {
			t.Fatalf("%v: %d frames, the first begins with %.80q", size, len(frames)-1, frames[0])
		}
		for _, f := range frames[1:] {
			f = strings.TrimSuffix(f, "the end\r\n")
			if !strings.HasSuffix(f, "\x1b[J") {
				t.Errorf("%v: what is below is not cleared: %.80q", size, f[max(0, len(f)-80):])
			}
			lines := strings.Split(strings.TrimSuffix(strings.TrimSuffix(f, "\x1b[J"), "\r\n"), "\r\n")
			if len(lines) >= int(size[0]) {
				t.Errorf("%v: %d lines", size, len(lines))
			}
			for _, l := range lines {
				text, ok := strings.CutSuffix(l, "\x1b[K")
				if !ok || len(text) > int(size[1]) || strings.ContainsAny(text, "\x1b\t") {
					t.Errorf("%v: line %q", size, l)
				}
			}
			text := strings.ReplaceAll(f, "\x1b[K", "")
			if shown := chainsOf(text); size[0] >= 24 && (len(shown) == 0 || shown[0] != "other/c0999" || !strings.Contains(text, "more chains") || !strings.Contains(text, "TENANT")) {
				t.Errorf("%v: chains %v in\n%s", size, shown, text)
			}
		}
	}
}

// Flows, events, log lines, and what is wrong with asking for them.
func TestWatchCommands(t *testing.T) {
	d := acme(t)
	d.plane.set(func() {
		d.plane.flows = []plane.Flow{
			{Tenant: "acme", Chain: "edge", Worker: 1, Bucket: 7, Proto: "tcp", Src: "10.0.0.1:1", Dst: "10.0.0.2:80", State: "open", Idle: 1500 * time.Millisecond, Bound: []string{"a", "b"}},
			{Tenant: "other", Chain: "core", Proto: "udp"},
		}
		// Of a tenant only what came after it was made is told.
		at := time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
		d.plane.events = []plane.Event{
			{Seq: 1, Time: at, Kind: "alarm", Reason: "RolledBack", Level: "error", Tenant: "acme", Chain: "edge", Function: "fw", Text: "it \x1b[31mtrapped", Worker: -1},
			{Seq: 2, Time: at, Kind: "log", Reason: "Log", Level: "info", Tenant: "acme", Chain: "edge", Function: "fw", Text: "hello", Worker: 0},
			{Seq: 3, Time: at, Kind: "port", Reason: "LinkDown", Level: "warning", Text: "eth1", Worker: -1},
		}
	})
	d.says(words("flows"), "CHAIN WORKER BUCKET PROTO FROM TO STATE IDLE FURTHER TUPLES\nacme/edge 1 7 tcp 10.0.0.1:1 10.0.0.2:80 open 1.5s a, b\nother/core 0 0 udp")
	var flows []api.Flow
	if d.read(&flows, words("flows --tenant acme --chain edge")...); len(flows) != 1 || flows[0].Worker != nil {
		t.Errorf("%+v", flows)
	}
	if d.read(&flows, words("flows --tenant acme --chain none")...); len(flows) != 0 || flows == nil {
		t.Errorf("%+v", flows)
	}
	d.fails(words("flows --filter nonsense"), "nonsense", "syntax error")
	d.fails(words("flows --limit 100000"), "limit")
	for end := time.Now().Add(10 * time.Second); !strings.Contains(d.ok("events"), "LinkDown"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no events came")
		}
	}
	d.says(words("events"), `2100-01-01T00:00:00Z error alarm RolledBack acme/edge/fw it \x1b[31mtrapped`, "LinkDown")
	if out := d.ok(words("events --tenant acme --kind log")...); squeeze(out) != "2100-01-01T00:00:00Z info log Log acme/edge/fw hello\n" {
		t.Errorf("%q", out)
	}
	if out := d.ok(words("logs fw --chain edge --tenant acme")...); squeeze(out) != "2100-01-01T00:00:00Z info edge hello\n" {
		t.Errorf("%q", out)
	}
	for line := range strings.Lines(d.ok(words("events --json --limit 2")...)) {
		var ev api.Event
		if err := json.Unmarshal([]byte(line), &ev); err != nil || ev.Seq == 0 {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// Packets are followed and written down.
func TestPacketCommands(t *testing.T) {
	d := acme(t)
	d.ok("nf", "deploy", moduleFile(t, "flowstat", "1.0.0"))
	d.ok("chain", "create", "-f", chainOf(t, "edge", "module: flowstat@1.0.0"))
	frame := append(make([]byte, 12), 8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 7, 0, 53, 0, 8, 0, 0)
	d.plane.set(func() {
		d.plane.traces = []plane.Trace{{
			Time: time.Unix(1, 0).UTC(), Port: "in", Path: "forward", Frame: frame, Length: len(frame), Flow: "udp open", Verdict: "sent", Egress: "out", TookNs: 1500,
			Hops: []plane.TraceHop{{Function: "fw", Version: "1.2.0", Verdict: "next", Burst: 3, TookNs: 12, Changes: []plane.Change{{Offset: 22, Before: []byte{64}, After: []byte{63}}}}},
		}}
	})
	d.says(words("trace edge -n 1"), "packet 1 00:00:01.000000 in in, forward, worker 0, 42 bytes\nIPv4 10.0.0.1->10.0.0.2, UDP 7->53\nflow udp open\n",
		"fw 1.2.0 next 12 ns (burst of 3)\nbytes 22-22: 40 -> 3f\n=> sent to out after 1.5µs")
	var traces []api.Trace
	if d.read(&traces, words("trace edge")...); len(traces) != 1 || len(traces[0].Hops) != 1 {
		t.Errorf("%+v", traces)
	}
	got := d.run(words("trace edge -n 2 --timeout 1s")...)
	if got.status != exitFailed || !strings.Contains(got.stdout, "packet 1") || !strings.Contains(got.stderr, "1 packet within 1s, 2 were asked for") {
		t.Errorf("%+v", got)
	}
	for args, want := range map[string]string{"-n 0": "-n 0: give 1 to 1000 packets", "--timeout 10ms": "--timeout 10ms: give a second or more"} {
		if got := d.run(words("trace edge " + args)...); got.status != exitUsage || !strings.Contains(got.stderr, want) {
			t.Errorf("%s: %+v", args, got)
		}
	}
	d.fails(words("trace ghost"), "ghost", "not found")
	file := filepath.Join(t.TempDir(), "out.pcapng")
	d.says([]string{"capture", "edge", "--at", "flowstat:out", "-f", "udp", "-n", "3", "--snap", "64", "-w", file}, file+": 21 bytes")
	d.plane.mu.Lock()
	asked := d.plane.asked
	d.plane.mu.Unlock()
	if want := (plane.CaptureRequest{Tenant: "acme", Chain: "edge", At: "flowstat:out", Filter: "udp", Count: 3, Snap: 64}); asked != want {
		t.Errorf("asked for %+v", asked)
	}
	if out := d.ok(words("capture edge -n 2")...); out != "packet\npacket\n" {
		t.Errorf("%q", out)
	}
	d.fails(words("capture edge --at nowhere"), "at", "nowhere")
	d.fails(words("capture edge -f nonsense"), "nonsense", "syntax error")
	d.fails([]string{"capture", "edge", "-w", "/nowhere/x"}, "/nowhere/x")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if got := d.runIn(ctx, "capture", "edge", "-w", file); got.status != exitOK || !strings.Contains(got.stdout, file) {
		t.Errorf("interrupted: %+v", got)
	}
	_, program := terminal(t, 24, 80)
	var errs strings.Builder
	e := d.environment(program, &errs, words("capture edge"))
	e.isTerminal = isTerminal
	if status := run(context.Background(), e); status != exitUsage || !strings.Contains(errs.String(), "a capture is not for a terminal: name a file with -w, or pipe it") {
		t.Errorf("%d: %s", status, errs.String())
	}
}

// A shell completes names that the daemon knows; without a daemon there are none,
// and no errors.
func TestCompleteNames(t *testing.T) {
	d := acme(t)
	d.ok("nf", "deploy", moduleFile(t, "flowstat", "1.0.0"))
	d.ok(words("nf alias set flowstat prod=1.0.0")...)
	for _, name := range []string{"edge", "east", "core"} {
		d.ok("chain", "create", "-f", chainOf(t, name, "module: flowstat@prod"))
	}
	d.ok(words("tenant token create acme --name ci")...)
	tests := map[string]string{
		"chain describe ": "core,east,edge", "chain describe e": "east,edge", "chain describe edge ": "", "chain delete edge ": "core,east",
		"nf get ": "flowstat@1.0.0", "nf alias promote ": "flowstat", "nf alias promote flowstat ": "prod", "nf list f": "flowstat",
		"port detach ": "in,out", "tenant get ": "acme", "tenant token delete acme ": "ci", "trace ": "core,east,edge",
		"flows --chain ": "core,east,edge", "chain list --tenant ": "acme", "top --sort d": "packets,bytes,drops,flows,latency,name", "capture e": "east,edge", "logs ": "flowstat",
	}
	for line, want := range tests {
		args := append([]string{"__complete"}, strings.Split(line, " ")...)
		got := d.run(args...)
		names, directive, ok := strings.Cut(strings.TrimSuffix(got.stdout, "\n"), ":")
		if got.status != exitOK || !ok || directive != "4" || strings.ReplaceAll(strings.TrimSuffix(names, "\n"), "\n", ",") != want {
			t.Errorf("%s: %+v, want %s", line, got, want)
		}
	}
	d.vars["SFC_SERVER"] = "unix:///nowhere.sock"
	if got := d.run("__complete", "chain", "describe", ""); got.status != exitOK || got.stdout != ":4\n" {
		t.Errorf("%+v", got)
	}
}

// There is a manual page for every command, and it is the same each time.
func TestManualPages(t *testing.T) {
	var before string
	for range 2 {
		dir := t.TempDir()
		if got := sfcctl(t, "man", dir); got.status != exitOK || got.stdout != filepath.Join(dir, "man1")+"\n" {
			t.Fatalf("%+v", got)
		}
		for _, name := range []string{"sfcctl", "sfcctl-nf-gc", "sfcctl-nf-alias-promote", "sfcctl-chain-create", "sfcctl-top", "sfcctl-tenant-token-create"} {
			text, err := os.ReadFile(filepath.Join(dir, "man1", name+".1"))
			if err != nil || !strings.Contains(string(text), ".SH SYNOPSIS") || !strings.Contains(string(text), ".SH NAME") {
				t.Errorf("%s: %v", name, err)
			}
		}
		page, err := os.ReadFile(filepath.Join(dir, "man1", "sfcctl-top.1"))
		if err != nil || before != "" && string(page) != before {
			t.Errorf("another page: %v", err)
		}
		before = string(page)
	}
}
