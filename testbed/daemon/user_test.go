package daemon

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sfc/testbed/gate"
)

// The script of everything that a user does runs to its end, and leaves
// nothing.
func TestWhatAUserDoes(t *testing.T) {
	gate.Root(t)
	for _, tool := range []string{"bash", "curl", "ping", "python3"} {
		gate.Tool(t, tool)
	}
	gate.Leaks(t)
	before := namespaces(t)
	// A repository of links, whose bin has the programs of this test.
	root, err := filepath.Abs(repository)
	check(t, err)
	dir, err := os.MkdirTemp("", "sfcd-")
	check(t, err)
	t.Cleanup(func() { check(t, os.RemoveAll(dir)) })
	tree, temp := filepath.Join(dir, "tree"), filepath.Join(dir, "temp")
	check(t, os.Mkdir(tree, 0o755))
	check(t, os.Mkdir(temp, 0o755))
	check(t, os.Symlink(binaries(t), filepath.Join(tree, "bin")))
	for _, name := range []string{"nf", "testbed"} {
		check(t, os.Symlink(filepath.Join(root, name), filepath.Join(tree, name)))
	}
	cmd := exec.Command("bash", "testbed/examples/daemon.sh")
	cmd.Dir = tree
	cmd.Env = append(os.Environ(), "TMPDIR="+temp)
	text, err := cmd.CombinedOutput()
	out := string(text)
	if err != nil {
		t.Errorf("%v", err)
	}
	last := 0
	for _, want := range []string{
		"firewall@1.2.0 of tenant acme is stored", "5,000,000 bytes arrived as they were",
		"IPv4 10.0.1.1->10.0.1.2, TCP", "edge.pcapng", "firewall@prod stands for 1.3.0", "chain acme/edge deleted", "signed by release", "done\n",
	} {
		at := strings.Index(out[last:], want)
		if at < 0 {
			t.Errorf("%q did not come, in its place", want)
			continue
		}
		last += at
	}
	if _, err := exec.LookPath("tshark"); err == nil && !strings.Contains(out, "function firewall, worker 0, verdict next") {
		t.Error("tshark did not read the capture's comments")
	}
	nobodyLeft(t, dir)
	if after := namespaces(t); !slices.Equal(before, after) {
		t.Errorf("network namespaces were %v, are %v", before, after)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) != 0 {
		t.Errorf("files are left: %v, %v", left, err)
	}
	if t.Failed() {
		t.Logf("its output:\n%s", out)
	}
}
