package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// read settles a command line.
func read(t *testing.T, args ...string) (*config, error) {
	t.Helper()
	cmd := newRoot()
	var got *config
	flagged := defaults()
	cmd.ResetFlags()
	flagged.flags(cmd.Flags())
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	got, err := settle(cmd, &flagged, file(t))
	return got, err
}

// file is an empty configuration: that of this machine is none of the test's.
func file(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sfcd.yaml")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFlagsWeighMoreThanTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sfcd.yaml")
	text := "dataDir: /data\nworkers: 2\ncores: [0, 1]\nlisten: [unix:///a.sock]\nlogFormat: json\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := newRoot()
	flagged := defaults()
	cmd.ResetFlags()
	flagged.flags(cmd.Flags())
	if err := cmd.ParseFlags([]string{"--workers", "1", "--cores", "1", "--listen", "unix:///b.sock", "--listen", "https://[::1]:8443"}); err != nil {
		t.Fatal(err)
	}
	c, err := settle(cmd, &flagged, path)
	if err != nil {
		t.Fatal(err)
	}
	want := defaults()
	want.DataDir, want.Workers, want.Cores, want.LogFormat = "/data", 1, []int{1}, "json"
	want.Listen = []string{"unix:///b.sock", "https://[::1]:8443"}
	if !reflect.DeepEqual(*c, want) {
		t.Errorf("got  %+v\nwant %+v", *c, want)
	}
	if err := os.WriteFile(path, []byte("wokers: 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := settle(cmd, &flagged, path); err == nil || !strings.Contains(err.Error(), "wokers") {
		t.Errorf("a field that is none: %v", err)
	}
	if _, err := settle(cmd, &flagged, "/nowhere"); err == nil {
		t.Error("a file that is not there")
	}
}

func TestDevelopmentIsAllInOnePlace(t *testing.T) {
	c, err := read(t, "--dev", "--data-dir", "/d")
	if err != nil || c.RunDir != "/d/run" || c.Listen[0] != "unix:///d/run/sfcd.sock" || c.temporary {
		t.Errorf("got %+v, %v", c, err)
	}
	if c, err = read(t, "--dev"); err != nil || !strings.HasPrefix(c.DataDir, os.TempDir()) || !strings.HasPrefix(c.RunDir, c.DataDir) || !c.temporary {
		t.Errorf("without a directory: %+v, %v", c, err)
	}
	if c, err = read(t, "--dev", "--listen", "unix:///x"); err != nil || c.Listen[0] != "unix:///x" {
		t.Errorf("with an address: %+v, %v", c, err)
	}
	if id, err := c.identity(); err != nil || id != nil {
		t.Errorf("runs as %v, %v: want the user who starts it", id, err)
	}
}

func TestBadConfigurations(t *testing.T) {
	for want, args := range map[string][]string{
		"absolute paths":    {"--data-dir", "here"},
		"longer than 70":    {"--run-dir", "/" + strings.Repeat("x", 80)},
		"65 workers":        {"--workers", "65"},
		"1 cores for 2":     {"--workers", "2", "--cores", "1"},
		`log format "xml"`:  {"--log-format", "xml"},
		`log level "loud"`:  {"--log-level", "loud"},
		"name both":         {"--tls-cert", "/x"},
		"nothing to listen": {"--listen", ""},
	} {
		if args[0] == "--listen" {
			c := defaults()
			c.Listen = nil
			if err := c.validate(); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v: %v, want %q", args, err, want)
			}
			continue
		}
		if _, err := read(t, args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", args, err, want)
		}
	}
}
