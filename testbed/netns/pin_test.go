package netns

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"sfc/testbed/gate"
)

func TestPinShowsInIPNetns(t *testing.T) {
	gate.Leaks(t)
	ns := newNS(t)
	ip := gate.Tool(t, "ip")
	list := func() string {
		out, err := exec.Command(ip, "netns", "list").CombinedOutput()
		if err != nil {
			t.Fatalf("ip netns list: %v: %s", err, out)
		}
		return string(out)
	}
	const name = "sfc-test-shown"
	if strings.Contains(list(), "sfc-test") {
		t.Error("anonymous namespace shows in ip netns")
	}
	if err := ns.Pin(name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Unpin() })
	if !strings.Contains(list(), name) {
		t.Errorf("%s does not show in ip netns: %s", name, list())
	}
	out, err := exec.Command(ip, "-n", name, "link", "show", "lo").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "UP") {
		t.Errorf("ip -n %s link: %v: %s", name, err, out)
	}
	if err := ns.Pin(name); !errors.Is(err, os.ErrExist) || !strings.Contains(err.Error(), "ip netns delete") {
		t.Errorf("second Pin = %v, want ErrExist with the cure", err)
	}
	for range 2 {
		if err := ns.Unpin(); err != nil {
			t.Error(err)
		}
	}
	if strings.Contains(list(), name) {
		t.Error("still shown after Unpin")
	}
}

func TestPinRefusesBadNames(t *testing.T) {
	ns := newNS(t)
	for _, name := range []string{"", ".", "..", "a/b", strings.Repeat("x", 256), "a\x00b"} {
		if err := ns.Pin(name); err == nil || !strings.Contains(err.Error(), "name") {
			t.Errorf("Pin(%q) = %v, want an error that names it", name, err)
			_ = ns.Unpin()
		}
	}
	if _, err := RemoveStale(""); err == nil {
		t.Error("RemoveStale accepted an empty prefix")
	}
}

func TestRemoveStaleTakesHalfMadePin(t *testing.T) {
	newNS(t) // gates
	const prefix = "sfc-test-half-"
	if err := os.MkdirAll(pinDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(pinDir+"/"+prefix+"1", nil, 0o444); err != nil {
		t.Fatal(err)
	}
	if names, err := RemoveStale(prefix); err != nil || len(names) != 1 {
		t.Errorf("RemoveStale = %q, %v", names, err)
	}
	if names, err := Stale(prefix); err != nil || len(names) != 0 {
		t.Errorf("Stale = %q, %v", names, err)
	}
}
