package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sfc/nf/build"
	"sfc/testbed/gate"
)

// What "nf new" prints as the next steps works as it stands.
func TestNFNew(t *testing.T) {
	gate.Leaks(t)
	dir := filepath.Join(t.TempDir(), "functions", "dropper")
	got := sfcctl(t, "nf", "new", dir)
	if got.status != exitOK || got.stderr != "" || !strings.HasPrefix(got.stdout, dir+": function dropper\n") {
		t.Fatalf("%+v", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "dropper.c")); err != nil {
		t.Error(err)
	}
	again := sfcctl(t, "nf", "new", dir)
	if again.status != exitFailed || again.stdout != "" || !strings.Contains(again.stderr, build.ErrExists.Error()) {
		t.Errorf("a second time: %+v", again)
	}
	steps := strings.Split(strings.TrimSpace(got.stdout), "\n  sfcctl ")[1:]
	if len(steps) != 2 {
		t.Fatalf("%d steps in\n%s", len(steps), got.stdout)
	}
	if _, err := build.Build(dir); errors.Is(err, build.ErrNoCompiler) {
		gate.Tool(t, "clang-19")
		gate.Tool(t, "wasm-ld-19")
	}
	for _, step := range steps {
		if got := sfcctl(t, strings.Fields(step)...); got.status != exitOK {
			t.Errorf("%s: %+v", step, got)
		}
	}
}

func TestNFNewRefuses(t *testing.T) {
	for _, name := range []string{"Upper", "-x", "a_b", strings.Repeat("a", 33)} {
		dir := filepath.Join(t.TempDir(), name)
		got := sfcctl(t, "nf", "new", "--", dir)
		if got.status != exitFailed || got.stdout != "" || !strings.Contains(got.stderr, build.ErrBadName.Error()) {
			t.Errorf("%s: %+v", name, got)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s was made: %v", dir, err)
		}
	}
}
