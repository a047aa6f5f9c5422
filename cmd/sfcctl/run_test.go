package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// result is what a command line came to.
type result struct {
	status         int
	stdout, stderr string
}

// sfcctl runs a command line inside the test.
func sfcctl(tb testing.TB, args ...string) result {
	tb.Helper()
	var out, errs bytes.Buffer
	status := run(context.Background(), env{
		args: args, stdin: strings.NewReader(""), stdout: &out, stderr: &errs,
		getenv:     func(string) string { return "" },
		isTerminal: func(io.Writer) bool { return false },
	})
	return result{status, out.String(), errs.String()}
}

// writeFile puts a file into a temporary folder of the test.
func writeFile(tb testing.TB, name string, data []byte) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// each calls f for every command of the tree.
func each(cmd *cobra.Command, f func(*cobra.Command)) {
	f(cmd)
	for _, sub := range cmd.Commands() {
		each(sub, f)
	}
}

func TestEveryCommandHasHelpWithExamples(t *testing.T) {
	n := 0
	each(newRoot(env{}), func(cmd *cobra.Command) {
		n++
		args := append(strings.Fields(cmd.CommandPath())[1:], "--help")
		got := sfcctl(t, args...)
		if got.status != exitOK || got.stderr != "" {
			t.Errorf("%v: status %d, stderr %q", args, got.status, got.stderr)
		}
		if cmd.Short == "" || !strings.Contains(got.stdout, "Usage:") {
			t.Errorf("%v: no description or usage", args)
		}
		if !strings.Contains(got.stdout, "Examples:\n  ") || !strings.Contains(cmd.Example, cmd.CommandPath()) {
			t.Errorf("%v: no example of the command itself:\n%s", args, cmd.Example)
		}
	})
	if n < 10 {
		t.Errorf("only %d commands were tried", n)
	}
}

// Every example must at least parse: a flag that was renamed shows here.
func TestExamplesParse(t *testing.T) {
	root := newRoot(env{})
	each(root, func(cmd *cobra.Command) {
		for line := range strings.Lines(cmd.Example) {
			line, _, _ = strings.Cut(line, " > ")
			line, _, _ = strings.Cut(line, " | ")
			words := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "sudo "))
			found, rest, err := root.Find(words[1:])
			if err != nil || words[0] != "sfcctl" {
				t.Errorf("%s: %q: %v", cmd.CommandPath(), line, err)
				continue
			}
			if err := found.ParseFlags(rest); err != nil {
				t.Errorf("%s: %q: %v", cmd.CommandPath(), line, err)
			}
		}
	})
}

func TestUsageErrors(t *testing.T) {
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"frobnicate"}, "sfcctl: unknown command \"frobnicate\"; see sfcctl --help\n"},
		{[]string{"chain", "vaildate"}, "sfcctl: unknown command \"vaildate\"; did you mean \"validate\"?; see sfcctl chain --help\n"},
		{[]string{"chain", "validate"}, "sfcctl: missing argument: one or more chain files; see sfcctl chain validate --help\n"},
		{[]string{"chain", "validate", "--jsno", "x"}, "sfcctl: unknown flag: --jsno; see sfcctl chain validate --help\n"},
		{[]string{"nf", "inspect"}, "sfcctl: missing argument: one module; see sfcctl nf inspect --help\n"},
		{[]string{"nf", "inspect", "a", "b"}, "sfcctl: unexpected argument \"b\": want one module; see sfcctl nf inspect --help\n"},
		{[]string{"--nonsense"}, "sfcctl: unknown flag: --nonsense; see sfcctl --help\n"},
	}
	for _, tt := range tests {
		if got := sfcctl(t, tt.args...); got != (result{exitUsage, "", tt.want}) {
			t.Errorf("%v: %+v\nwant status %d, stderr %q", tt.args, got, exitUsage, tt.want)
		}
	}
}

func TestGroupsShowHelp(t *testing.T) {
	for _, args := range [][]string{{}, {"chain"}, {"nf"}} {
		if got := sfcctl(t, args...); got.status != exitOK || !strings.Contains(got.stdout, "Available Commands:") {
			t.Errorf("%v: %+v", args, got)
		}
	}
}

func TestVersion(t *testing.T) {
	if got := sfcctl(t, "--version"); got.status != exitOK || !strings.HasPrefix(got.stdout, "sfcctl devel") {
		t.Errorf("%+v", got)
	}
	info := &debug.BuildInfo{Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "0123456789abcdef"}, {Key: "vcs.modified", Value: "true"}}}
	if got := describeBuild("v1.2.3", info); !strings.HasPrefix(got, "v1.2.3 (commit 0123456789ab, modified) go") {
		t.Error(got)
	}
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if got := sfcctl(t, "completion", shell); got.status != exitOK || !strings.Contains(got.stdout, "sfcctl") {
			t.Errorf("%s: status %d, %d bytes", shell, got.status, len(got.stdout))
		}
	}
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"__complete", "chain", "validate", ""}, "yaml\nyml\n:8\n"}, // 8: filter by extension
		{[]string{"__complete", "nf", "inspect", ""}, "wasm\n:8\n"},
		{[]string{"__complete", "nf", "build", ""}, ":16\n"}, // 16: folders
		{[]string{"__complete", "nf", "build", "x", ""}, ":4\n"},
	}
	for _, tt := range tests {
		if got := sfcctl(t, tt.args...); got.status != exitOK || got.stdout != tt.want {
			t.Errorf("%v: %+v, want %q", tt.args, got, tt.want)
		}
	}
}

func TestIsTerminal(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "out")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if isTerminal(f) || isTerminal(io.Discard) {
		t.Error("a file or a discarding writer counts as a terminal")
	}
}
