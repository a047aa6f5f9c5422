package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sfc/dataplane/packet"
	"sfc/nf/build"
	"sfc/testbed/capture"
	"sfc/testbed/gate"
	"sfc/testbed/replay"
)

// catalog is where the catalogue's modules are.
const catalog = "../../nf/catalog/"

// telnetCapture is a new function's capture: seven packets, three of them to
// port 23.
func telnetCapture(tb testing.TB) string {
	tb.Helper()
	dir := filepath.Join(tb.TempDir(), "f")
	if err := build.New(dir, "f"); err != nil {
		tb.Fatal(err)
	}
	return filepath.Join(dir, "in.pcap")
}

func TestNFTest(t *testing.T) {
	gate.Leaks(t)
	in := telnetCapture(t)
	config := writeFile(t, "acl.json", []byte(`{"default": "permit", "rules": [{"action": "deny", "dst_ports": "23"}]}`))
	out, drops := filepath.Join(t.TempDir(), "out.pcapng"), filepath.Join(t.TempDir(), "drops.pcapng")
	args := []string{"nf", "test", catalog + "acl/acl.wasm", "--config", config, "--in", in, "--out", out, "--drops", drops}
	got := sfcctl(t, append(args, "--json")...)
	var rep replay.Report
	if err := json.Unmarshal([]byte(got.stdout), &rep); err != nil || got.status != exitOK || got.stderr != "" {
		t.Fatalf("%v: %+v", err, got)
	}
	if rep.Sent != 7 || rep.Received != 4 || len(rep.Dropped) != 1 || rep.Dropped["acl.denied"] != 3 || rep.Mode.Attach != "offline" {
		t.Errorf("%+v", rep)
	}
	for path, n := range map[string]int{out: 4, drops: 3} {
		if packets, err := capture.ReadFile(path); err != nil || len(packets) != n {
			t.Errorf("%s: %d packets, %v", path, len(packets), err)
		}
	}
	got = sfcctl(t, args...)
	for _, want := range []string{"received       4\n", "dropped        3  acl.denied\n", "mode     offline, memory ", "counter acl.permitted  4\n"} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("output lacks %q:\n%s", want, got.stdout)
		}
	}
}

// A function that needs both directions of flows gets them: the client's packets
// come out of port out, translated, and the server's out of port in.
func TestNFTestBothDirections(t *testing.T) {
	files := gate.Pcaps(t)
	gate.Leaks(t)
	config := writeFile(t, "nat.json", []byte(`{"inside": ["192.168.0.0/16", "10.0.0.0/8", "172.16.0.0/12"], "pool": ["203.0.113.5"], "others": "pass"}`))
	out := filepath.Join(t.TempDir(), "out.pcapng")
	got := sfcctl(t, "nf", "test", catalog+"nat44/nat44.wasm", "--config", config, "--in", files[len(files)-1], "--out", out, "--json")
	var rep replay.Report
	if err := json.Unmarshal([]byte(got.stdout), &rep); err != nil || got.status != exitOK || got.stderr != "" {
		t.Fatalf("%v: %+v", err, got)
	}
	packets, err := capture.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var count, pool [2]uint64
	for _, p := range packets {
		count[p.Interface]++
		if in, _ := packet.Parse(p.Data); [4]byte(in.Src[:4]) == [4]byte{203, 0, 113, 5} {
			pool[p.Interface]++
		}
	}
	if count[0] < 100 || count[1] < 100 || count[0]+count[1] != rep.Received || pool[1] < 100 || pool[0] != 0 {
		t.Errorf("%d came out of in and %d of out, from the pool %v; %+v", count[0], count[1], pool, rep)
	}
}

func TestNFTestExpect(t *testing.T) {
	gate.Leaks(t)
	in := telnetCapture(t)
	config := writeFile(t, "acl.json", []byte(`{"default": "permit", "rules": [{"action": "deny", "dst_ports": "23"}]}`))
	tests := []struct {
		name, expect string
		want         string // in the error; "" when it passes
	}{
		{"all", `{"sent": 7, "received": 4, "passed": 0, "dropped": {"acl.denied": 3}, "counters": {"permitted": 4}}`, ""},
		{"one field", `{"received": 4}`, ""},
		{"wrong", `{"sent": 7, "received": 5, "passed": 1}`, "expects:\n  received: expected 5, got 4\n  passed: expected 1, got 0\n"},
		{"reason unexpected", `{"dropped": {}}`, "  dropped acl.denied: expected 0, got 3\n"},
		{"reason missing", `{"dropped": {"acl.denied": 3, "acl.other": 1}}`, "  dropped acl.other: expected 1, got 0\n"},
		{"no such counter", `{"counters": {"seen": 4}}`, "counter seen: the function has none of that name; it has non_ip, permitted"},
		{"counter wrong", `{"counters": {"permitted": 5}}`, "counter permitted: expected 5, got 4"},
		{"unknown field", `{"arrived": 4}`, `unknown field "arrived"`},
		{"empty", `{}`, "expects nothing: give at least one of"},
		{"not JSON", `yes`, "invalid character"},
		{"negative", `{"sent": -1}`, "cannot unmarshal number -1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			expect := writeFile(t, "expect.json", []byte(tt.expect))
			got := sfcctl(t, "nf", "test", catalog+"acl/acl.wasm", "--config", config, "--in", in, "--expect", expect)
			if (got.status == exitOK) != (tt.want == "") || !strings.Contains(got.stderr, tt.want) {
				t.Errorf("%+v, want %q", got, tt.want)
			}
			if tt.want != "" && !strings.Contains(got.stderr, expect) {
				t.Errorf("the file is not named: %s", got.stderr)
			}
		})
	}
}

// What a new function's folder says must hold when sfcctl is asked.
func TestNewFunctionsTestPasses(t *testing.T) {
	gate.Tool(t, "clang-19")
	gate.Tool(t, "wasm-ld-19")
	gate.Leaks(t)
	dir := filepath.Join(t.TempDir(), "dropper")
	if err := build.New(dir, "dropper"); err != nil {
		t.Fatal(err)
	}
	module, err := build.Build(dir)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	got := sfcctl(t, "nf", "test", module, "--config", file("config.json"), "--in", file("in.pcap"), "--expect", file("expect.json"))
	if got.status != exitOK || got.stderr != "" {
		t.Errorf("%+v", got)
	}
}

func TestNFTestRefuses(t *testing.T) {
	gate.Leaks(t)
	in := telnetCapture(t)
	acl := catalog + "acl/acl.wasm"
	bad := writeFile(t, "bad.json", []byte(`{"default": "permit", "rules": [{"action": "allow"}]}`))
	text := writeFile(t, "text.wasm", []byte("not wasm"))
	tests := []struct {
		name   string
		args   []string
		status int
		want   string
	}{
		{"no module", []string{"--in", in}, exitUsage, "missing argument: one module"},
		{"no capture", []string{acl}, exitUsage, "no capture given: name one with --in"},
		{"not a module", []string{text, "--in", in}, exitFailed, "module " + text + ": not a WebAssembly module"},
		{"module missing", []string{"no.wasm", "--in", in}, exitFailed, "open no.wasm: no such file or directory; build it first, or correct the path"},
		{"configuration missing", []string{acl, "--in", in, "--config", "no.json"}, exitFailed, "--config: open no.json: no such file"},
		{"configuration not JSON", []string{acl, "--in", in, "--config", text}, exitFailed, text},
		{"configuration breaks the schema", []string{acl, "--in", in, "--config", bad}, exitFailed, "config.rules[0].action: \"allow\": must be one of"},
		{"expectation missing", []string{acl, "--in", in, "--expect", "no.json"}, exitFailed, "--expect: open no.json: no such file"},
		{"overwrites the module", []string{acl, "--in", in, "--out", acl}, exitUsage, "--out " + acl + " would overwrite the input " + acl},
		{"overwrites the configuration", []string{acl, "--in", in, "--config", bad, "--drops", bad}, exitUsage, "would overwrite the input " + bad},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := sfcctl(t, append([]string{"nf", "test"}, tt.args...)...)
			if got.status != tt.status || got.stdout != "" || !strings.Contains(got.stderr, tt.want) {
				t.Errorf("%+v, want status %d and %q", got, tt.status, tt.want)
			}
		})
	}
	if st, err := os.Stat(acl); err != nil || st.Size() == 0 {
		t.Errorf("the module is gone: %v", err)
	}
}
