package main

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sfc/testbed/capture"
	"sfc/testbed/gate"
)

// aclFunction is the path of a good module.
func aclFunction(tb testing.TB) string {
	tb.Helper()
	path, err := filepath.Abs(catalog + "acl/acl.wasm")
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

// modes are the two ways to replay; live needs root.
func modes(t *testing.T, f func(t *testing.T, flags ...string)) {
	t.Run("offline", func(t *testing.T) {
		gate.Leaks(t)
		f(t, "--offline")
	})
	t.Run("live", func(t *testing.T) {
		gate.Root(t)
		gate.Leaks(t)
		f(t)
	})
}

// Whatever is wrong with what a user gives is said with the thing, the value
// and the cure. Nothing starts, and no file is written.
func TestBadInput(t *testing.T) {
	good := udpCapture(t, 10)
	acl := aclFunction(t)
	yaml := func(spec string) string {
		return writeFile(t, "chain.yaml", []byte(chainHead+spec))
	}
	file := func(name string, data []byte) string { return writeFile(t, name, data) }
	gone := filepath.Join(t.TempDir(), "gone")
	function := "functions:\n    - {module: " + acl + ", config: {default: permit, rules: []}}\n"

	tests := []struct {
		name      string
		chain, in string // "": a good one
		args      []string
		status    int
		want      []string
	}{
		{name: "no capture given", in: "-", status: exitUsage, want: []string{"no capture given: name one with --in"}},
		{name: "no chain given", chain: "-", status: exitUsage, want: []string{"no chain given: name a file with --chain"}},

		{name: "capture missing", in: gone, status: exitFailed, want: []string{gone, "no such file", "give the path of a pcap or pcapng file"}},
		{name: "capture is a folder", in: filepath.Dir(good), status: exitFailed, want: []string{filepath.Dir(good), "is a directory; give the path of a pcap or pcapng file"}},
		{name: "not a capture", in: acl, status: exitFailed, want: []string{"not a packet capture", acl, "00 61 73 6d", "give a pcap or pcapng file, or convert it"}},
		{name: "empty file", in: file("empty.pcap", nil), status: exitFailed, want: []string{"empty.pcap has only 0 bytes; record it again"}},
		{name: "compressed", in: file("in.pcap.gz", []byte("\x1f\x8b\x08\x00\x00")), status: exitFailed, want: []string{"in.pcap.gz", "which is gzip; unpack it with gunzip first"}},
		{name: "link type", in: file("cooked.pcap", join(pcapHeader(113), pcapRecord(4, []byte("abcd")))), status: exitFailed,
			want: []string{"cooked.pcap has link type 113 LINUX_SLL, not Ethernet (1); capture on an Ethernet interface"}},
		{name: "no packets", in: file("none.pcap", pcapHeader(1)), status: exitFailed, want: []string{"none.pcap has no packet to send: record some traffic first"}},
		{name: "first packet broken", in: file("cut.pcap", join(pcapHeader(1), pcapRecord(100, []byte("too short")))), status: exitFailed,
			want: []string{"cut.pcap breaks off in the record at byte 24, after 0 whole packets", "record it again"}},

		{name: "chain missing", chain: gone, status: exitFailed, want: []string{"read chain: open " + gone, "no such file", "give the path of a chain file"}},
		{name: "chain is a folder", chain: filepath.Dir(good), status: exitFailed, want: []string{"read chain: read " + filepath.Dir(good) + ": is a directory; give the path of a chain file"}},
		{name: "chain is not YAML", chain: file("chain.yaml", []byte("{{{")), status: exitFailed, want: []string{"chain.yaml:2: did not find expected node content; correct the YAML there"}},
		{name: "unknown field", chain: yaml("spec:\n  egress: out\n  budgte: 1ms\n  " + function), status: exitFailed,
			want: []string{"chain.yaml:6:3: spec.budgte: field is unknown; did you mean \"budget\"?"}},
		{name: "wrong type", chain: yaml("spec: {egress: [out], functions: []}\n"), status: exitFailed, want: []string{"chain.yaml:4:16: spec.egress: is a list; give"}},
		{name: "duplicate function", chain: yaml("spec: {egress: out, functions: [{name: a, module: " + acl + "}, {name: a, module: " + acl + "}]}\n"), status: exitFailed,
			want: []string{`spec.functions[1].name: function "a" is there already`, "give this one a name of its own"}},
		{name: "duplicate field", chain: yaml("spec: {egress: out, egress: in, functions: []}\n"), status: exitFailed, want: []string{"chain.yaml:4:21: spec.egress: field is given twice, first in line 4; remove one"}},
		{name: "alias cycle", chain: yaml("spec: &a {egress: out, functions: [*a]}\n"), status: exitFailed, want: []string{"chain.yaml:4:", "alias *a stands inside its own anchor; write the value out"}},
		{name: "unknown port", chain: yaml("spec: {egress: lan0, functions: []}\n"), status: exitFailed, want: []string{`egress "lan0" is no port; known: in, out`}},

		{name: "module missing", chain: chainFile(t, gone, "{}"), status: exitFailed, want: []string{"function guest: read module: open " + gone, "build it first, or correct the path"}},
		{name: "module is not Wasm", chain: chainFile(t, good, "{}"), status: exitFailed, want: []string{"function guest: module " + good, "not a WebAssembly module", "give a .wasm file"}},
		{name: "module is cut short", chain: chainFile(t, file("cut.wasm", []byte(contents(t, acl)[:300])), "{}"), status: exitFailed, want: []string{"malformed WebAssembly module: byte ", "build or copy it again"}},
		{name: "configuration breaks the schema", chain: chainFile(t, acl, "{default: maybe}"), status: exitFailed,
			want: []string{`function guest: config.default: "maybe": must be one of "permit", "deny"`}},
		{name: "configuration missing", chain: yaml("spec: {egress: out, functions: [{module: " + acl + ", configFile: gone.json}]}\n"), status: exitFailed,
			want: []string{"configuration of function acl", "gone.json"}},

		{name: "rate 0", args: []string{"--rate", "0"}, status: exitUsage, want: []string{`--rate "0": give packets per second (a positive number) or max`}},
		{name: "rate negative", args: []string{"--rate", "-7"}, status: exitUsage, want: []string{`--rate "-7": give packets per second`}},
		{name: "rate is a word", args: []string{"--rate", "fast"}, status: exitUsage, want: []string{`--rate "fast": give packets per second`}},
		{name: "rate too large", args: []string{"--rate", "1e99"}, status: exitUsage, want: []string{`--rate "1e99": give packets per second`}},
		{name: "loop 0", args: []string{"--loop", "0"}, status: exitUsage, want: []string{"loop 0: send the capture at least once"}},
		{name: "loop is a word", args: []string{"--loop", "ever"}, status: exitUsage, want: []string{`--loop "ever": give a whole number`}},
		{name: "clock", args: []string{"--clock", "moon"}, status: exitUsage, want: []string{`clock "moon": it is capture or wall`}},
		{name: "keep offline", args: []string{"--keep", "--offline"}, status: exitUsage, want: []string{"keep needs namespaces, which an offline replay has none of"}},
		{name: "generic offline", args: []string{"--generic", "--offline"}, status: exitUsage, want: []string{"generic is a way to attach XDP, which an offline replay does without"}},
		{name: "rate offline", args: []string{"--rate", "100", "--offline"}, status: exitUsage, want: []string{"--rate paces packets on a wire, which an offline replay has none of: drop one of the two"}},
		{name: "an argument", args: []string{"capture.pcap"}, status: exitUsage, want: []string{`unexpected argument "capture.pcap": want only flags`}},

		{name: "folder of --drops missing", args: []string{"--drops", gone + "/drops.pcapng"}, status: exitUsage,
			want: []string{"--drops " + gone + "/drops.pcapng: ", "no such file or directory: make the folder first"}},
		{name: "one file for both", args: []string{"--out", gone, "--drops", gone}, status: exitUsage, want: []string{"--out and --drops are both " + gone + ": give each a name of its own"}},
		{name: "out is the input", args: []string{"--out", good}, status: exitUsage, want: []string{"--out " + good + " would overwrite the input " + good + ": give it another name"}},
		{name: "drops is the input", args: []string{"--drops", good}, status: exitUsage, want: []string{"--drops " + good + " would overwrite the input"}},
		{name: "out is a module", args: []string{"--out", acl}, status: exitFailed, want: []string{"--out " + acl + " would overwrite the input"}},
	}
	goodChain := yaml("spec:\n  egress: out\n  " + function)
	before := contents(t, good, acl, goodChain)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			modes(t, func(t *testing.T, flags ...string) {
				args := append(append([]string{"replay"}, flags...), tt.args...)
				out := filepath.Join(t.TempDir(), "out.pcapng")
				if !strings.Contains(strings.Join(tt.args, " "), "--out") {
					args = append(args, "--out", out)
				}
				for flag, path := range map[string][2]string{"--chain": {tt.chain, goodChain}, "--in": {tt.in, good}} {
					switch path[0] {
					case "-":
					case "":
						args = append(args, flag, path[1])
					default:
						args = append(args, flag, path[0])
					}
				}
				got := sfcctl(t, args...)
				if got.status != tt.status || got.stdout != "" || strings.Count(got.stderr, "sfcctl: ") != 1 {
					t.Errorf("%+v, want status %d", got, tt.status)
				}
				for _, want := range tt.want {
					if !strings.Contains(got.stderr, want) {
						t.Errorf("stderr is\n%s\nwant %q in it", got.stderr, want)
					}
				}
				if _, err := os.Stat(out); err == nil {
					t.Error("a file was written although nothing started")
				}
			})
		})
	}
	if after := contents(t, good, acl, goodChain); after != before {
		t.Error("an input was changed")
	}
}

// contents is what some files hold.
func contents(tb testing.TB, paths ...string) string {
	tb.Helper()
	var all strings.Builder
	for _, p := range paths {
		data, err := os.ReadFile(p)
		if err != nil {
			tb.Fatal(err)
		}
		all.Write(data)
	}
	return all.String()
}

// The input is recognised under any of its names.
func TestOutputUnderAnotherName(t *testing.T) {
	gate.Leaks(t)
	good := udpCapture(t, 10)
	dir := t.TempDir()
	soft, hard := filepath.Join(dir, "soft"), filepath.Join(dir, "hard")
	if err := os.Symlink(good, soft); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(good, hard); err != nil {
		t.Fatal(err)
	}
	before := contents(t, good)
	for _, name := range []string{soft, hard, filepath.Dir(good) + "/../" + filepath.Base(filepath.Dir(good)) + "/" + filepath.Base(good)} {
		got := sfcctl(t, "replay", "--offline", "--chain", edge, "--in", good, "--out", name)
		if got.status != exitUsage || !strings.Contains(got.stderr, "would overwrite the input "+good) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if contents(t, good) != before {
		t.Error("the input was changed")
	}
	if _, got := replayed(t, "--offline", "--chain", edge, "--in", good, "--out", "/dev/null", "--drops", "/dev/null"); got.status != exitOK {
		t.Errorf("/dev/null twice: %+v", got)
	}
}

// A capture that breaks off or is damaged part way is sent up to there, and
// the report says so.
func TestBrokenCaptures(t *testing.T) {
	whole, err := os.ReadFile(udpCapture(t, 20))
	if err != nil {
		t.Fatal(err)
	}
	damaged := join(pcapHeader(1), pcapRecord(100, udpFrame(100, 1)), pcapRecord(100, udpFrame(100, 2)), pcapRecord(1<<30, udpFrame(100, 3)))
	for _, tt := range []struct {
		name string
		data []byte
		sent uint64
		want string
	}{
		{"truncated", whole[:len(whole)-50], 19, "breaks off in the record at byte"},
		{"damaged", damaged, 2, "is damaged at byte 256, after 2 whole packets"},
	} {
		in := writeFile(t, "in.pcap", tt.data)
		t.Run(tt.name, func(t *testing.T) {
			modes(t, func(t *testing.T, flags ...string) {
				args := append([]string{"--chain", edge, "--in", in}, flags...)
				rep, got := replayed(t, args...)
				if got.status != exitOK || rep.Sent != tt.sent || rep.Received != tt.sent || !strings.Contains(rep.Capture.Error, tt.want) {
					t.Errorf("%+v", got)
				}
				if human := sfcctl(t, append([]string{"replay"}, args...)...); human.status != exitOK || !strings.Contains(human.stdout, "note: capture "+in+" ") {
					t.Errorf("%+v", human)
				}
			})
		})
	}
}

// Frames that no link here carries are counted, and the run goes on.
func TestFramesThatCannotBeSent(t *testing.T) {
	cut := udpFrame(100, 7)
	in := writeCapture(t, udpFrame(100, 1), udpFrame(9000, 2), udpFrame(60000, 3), []byte("tiny"), udpFrame(1500, 4))
	snapped := filepath.Join(t.TempDir(), "snapped.pcapng")
	w, err := capture.Create(snapped)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(1, cut[:60], len(cut), ""); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	modes(t, func(t *testing.T, flags ...string) {
		rep, got := replayed(t, append([]string{"--chain", edge, "--in", in}, flags...)...)
		if got.status != exitOK || rep.Sent != 5 || rep.Received != 2 || rep.Dropped["too_long"] != 2 || rep.Dropped["malformed"] != 1 {
			t.Errorf("%+v", got)
		}
		rep, got = replayed(t, append([]string{"--chain", edge, "--in", snapped}, flags...)...)
		if got.status != exitOK || rep.Sent != 1 || rep.Dropped["cut_short"] != 1 || rep.Capture.Cut != 1 {
			t.Errorf("%+v", got)
		}
	})
}

// A real capture with frames of 37,506 bytes.
func TestJumboCapture(t *testing.T) {
	var in string
	for _, path := range gate.Pcaps(t) {
		if filepath.Base(path) == "1kxun.pcap" {
			in = path
		}
	}
	if in == "" {
		t.Skip("1kxun.pcap is not among the captures")
	}
	modes(t, func(t *testing.T, flags ...string) {
		rep, got := replayed(t, append([]string{"--chain", edge, "--in", in}, flags...)...)
		if got.status != exitOK || rep.Dropped["too_long"] == 0 || rep.Lost != 0 || rep.Reordered != 0 || rep.BadChecksumsOut > rep.BadChecksumsIn {
			t.Errorf("%+v", got)
		}
	})
}

// Frames that say something else than they are reach no function: every
// length of every header is cut, live and offline alike.
func TestLyingFrames(t *testing.T) {
	base := udpFrame(100, 1)
	var frames [][]byte
	for n := 14; n < len(base); n++ {
		frames = append(frames, base[:n])
	}
	for _, at := range []int{14, 16, 17, 20, 21, 38, 39} {
		for _, v := range []byte{0, 0x4f, 0x60, 0xff} {
			f := append([]byte(nil), base...)
			f[at] = v
			frames = append(frames, f)
		}
	}
	vlan := join(base[:12], []byte{0x81, 0, 0, 5, 0x81, 0, 0, 6}, base[12:])
	frames = append(frames, vlan, vlan[:20], vlan[:18])
	arp := append([]byte(nil), base[:60]...)
	binary.BigEndian.PutUint16(arp[12:], 0x0806)
	frames = append(frames, arp)
	in := writeCapture(t, frames...)
	var reports []string
	modes(t, func(t *testing.T, flags ...string) {
		out := filepath.Join(t.TempDir(), "out.pcapng")
		rep, got := replayed(t, append([]string{"--chain", edge, "--in", in, "--out", out}, flags...)...)
		if got.status != exitOK || rep.Sent != uint64(len(frames)) || rep.Foreign != 0 || rep.Damaged != 0 {
			t.Errorf("%+v", got)
		}
		reports = append(reports, contents(t, out))
	})
	if len(reports) == 2 && reports[0] != reports[1] {
		t.Error("live and offline let different frames through")
	}
}
