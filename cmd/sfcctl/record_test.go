package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"sfc/testbed/capture"
	"sfc/testbed/gate"
	"sfc/testbed/record"
)

// What is recorded goes through the example chain, which drops some of it for
// each of the reasons it has.
func TestRecordAndReplay(t *testing.T) {
	gate.Root(t)
	gate.Leaks(t)
	path := filepath.Join(t.TempDir(), "demo.pcapng")
	got := sfcctl(t, "record", "--out", path, "--seconds", "1", "--json")
	var rec record.Report
	if err := json.Unmarshal([]byte(got.stdout), &rec); err != nil || got.status != exitOK || got.stderr != "" {
		t.Fatalf("%v: %+v", err, got)
	}
	packets, err := capture.ReadFile(path)
	if err != nil || uint64(len(packets)) != rec.Packets || rec.Traffic.DNSQueries == 0 {
		t.Errorf("%d packets, %v: %+v", len(packets), err, rec)
	}
	rep, got := replayed(t, "--chain", edge, "--in", path)
	if got.status != exitOK || rep.Sent != rec.Packets {
		t.Fatalf("%+v", got)
	}
	if rep.Dropped["acl.denied"] == 0 || rep.Dropped["dnsguard.blocked_name"] == 0 || rep.Received < rep.Sent*9/10 {
		t.Errorf("%+v", rep)
	}
}

func TestRecordPrints(t *testing.T) {
	gate.Root(t)
	gate.Leaks(t)
	path := filepath.Join(t.TempDir(), "demo.pcapng")
	got := sfcctl(t, "record", "--out", path, "--seconds", "1")
	if got.status != exitOK || !strings.HasPrefix(got.stdout, path+": ") || !strings.Contains(got.stdout, " HTTP requests, ") {
		t.Errorf("%+v", got)
	}
}

func TestRecordUsage(t *testing.T) {
	tests := []struct {
		args []string
		want string
	}{
		{nil, "sfcctl: no file to write given: name one with --out; see sfcctl record --help\n"},
		{[]string{"--out", "x", "--seconds", "0"}, "sfcctl: seconds 0: record for 1 to 60; see sfcctl record --help\n"},
		{[]string{"--out", "x", "--seconds", "61"}, "sfcctl: seconds 61: record for 1 to 60; see sfcctl record --help\n"},
		{[]string{"--out", "gone/x"}, "sfcctl: --out gone/x: stat gone: no such file or directory: make the folder first; see sfcctl record --help\n"},
		{[]string{"x"}, "sfcctl: unexpected argument \"x\": want only flags; see sfcctl record --help\n"},
	}
	for _, tt := range tests {
		if got := sfcctl(t, append([]string{"record"}, tt.args...)...); got != (result{exitUsage, "", tt.want}) {
			t.Errorf("%v: %+v\nwant %q", tt.args, got, tt.want)
		}
	}
}
