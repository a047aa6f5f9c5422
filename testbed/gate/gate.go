// Package gate says what a test needs from its machine. A gate that is not met
// skips the test and states the reason; it fails the test instead when the
// environment says that this machine must be able to run it:
//
//	SFC_REQUIRE=root,caps,kernel,nic,tool,pcaps   these gates must not skip ("all": none may)
//	SFC_CI_KERNEL=6.18                            newest kernel any CI machine has: a test that
//	                                              needs a newer one could never run, so it fails
//
// The package also finds what a test left behind: see [Leaks] and [Main].
package gate

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Environment variables read by this package.
const (
	EnvRequire  = "SFC_REQUIRE"   // gates that must not skip, comma separated, or "all"
	EnvCIKernel = "SFC_CI_KERNEL" // newest kernel of any CI machine, "major.minor"
	EnvPcaps    = "SFC_PCAPS"     // folder of captures
	EnvNIC      = "SFC_NIC"       // name of a real interface that tests may take over
)

// Root skips tb unless the process runs as root.
func Root(tb testing.TB) {
	tb.Helper()
	if uid := os.Geteuid(); uid != 0 {
		unmet(tb, "root", fmt.Sprintf("needs root, runs as uid %d", uid))
	}
}

// Caps skips tb unless the calling thread has every given capability
// (unix.CAP_NET_ADMIN, ...) in its effective set. Root in a container may lack
// some.
func Caps(tb testing.TB, caps ...int) {
	tb.Helper()
	have, err := effectiveCaps()
	if err != nil {
		unmet(tb, "caps", err.Error())
		return
	}
	var missing []string
	for _, c := range caps {
		if have&(1<<uint(c)) == 0 {
			missing = append(missing, capName(c))
		}
	}
	if len(missing) > 0 {
		unmet(tb, "caps", "lacks "+strings.Join(missing, ", "))
	}
}

// NIC returns the name of the real interface that the machine's owner gave to
// the tests in SFC_NIC, and skips tb when there is none. The purpose ("zero
// copy receive") goes into the reason.
func NIC(tb testing.TB, purpose string) string {
	tb.Helper()
	name := os.Getenv(EnvNIC)
	if name == "" {
		unmet(tb, "nic", fmt.Sprintf("%s needs a real interface: name one in %s", purpose, EnvNIC))
		return ""
	}
	if _, err := os.Stat("/sys/class/net/" + name); err != nil {
		unmet(tb, "nic", fmt.Sprintf("%s needs a real interface: %s=%s does not exist", purpose, EnvNIC, name))
	}
	return name
}

// Tool returns the path of an external program and skips tb when it is not
// installed.
func Tool(tb testing.TB, name string) string {
	tb.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		unmet(tb, "tool", fmt.Sprintf("needs the program %s in PATH", name))
	}
	return path
}

// unmet skips tb with the reason, or fails it when the gate is required.
func unmet(tb testing.TB, name, reason string) {
	tb.Helper()
	if required(name) {
		tb.Fatalf("gate %s: %s (%s=%s forbids to skip)", name, reason, EnvRequire, os.Getenv(EnvRequire))
	}
	tb.Skipf("gate %s: %s", name, reason)
}

func required(name string) bool {
	list := strings.Split(os.Getenv(EnvRequire), ",")
	return slices.Contains(list, name) || slices.Contains(list, "all")
}

// effectiveCaps returns the calling thread's effective set, one bit each.
func effectiveCaps() (uint64, error) {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return 0, fmt.Errorf("read capabilities: %w", err)
	}
	return uint64(data[1].Effective)<<32 | uint64(data[0].Effective), nil
}

// capName names the capabilities this project uses; others by number.
func capName(c int) string {
	switch c {
	case unix.CAP_NET_ADMIN:
		return "CAP_NET_ADMIN"
	case unix.CAP_NET_RAW:
		return "CAP_NET_RAW"
	case unix.CAP_BPF:
		return "CAP_BPF"
	case unix.CAP_PERFMON:
		return "CAP_PERFMON"
	case unix.CAP_IPC_LOCK:
		return "CAP_IPC_LOCK"
	case unix.CAP_SYS_ADMIN:
		return "CAP_SYS_ADMIN"
	case unix.CAP_SYS_NICE:
		return "CAP_SYS_NICE"
	case unix.CAP_SYS_RESOURCE:
		return "CAP_SYS_RESOURCE"
	}
	return fmt.Sprintf("capability %d", c)
}
