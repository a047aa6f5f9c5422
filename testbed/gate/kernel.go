package gate

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Kernel skips tb when the running kernel is older than min ("6.1"), which the
// named feature needs. It fails tb when SFC_CI_KERNEL is older than min: then
// no CI machine would ever run the test.
func Kernel(tb testing.TB, min, feature string) {
	tb.Helper()
	need, err := parseVersion(min)
	if err != nil {
		tb.Fatalf("gate kernel: %s: %v", feature, err)
		return
	}
	release, err := release()
	if err != nil {
		tb.Fatalf("gate kernel: %v", err)
		return
	}
	have, err := parseVersion(release)
	if err != nil {
		tb.Fatalf("gate kernel: %v", err)
		return
	}
	checkKernel(tb, have, need, feature)
}

func checkKernel(tb testing.TB, have, need version, feature string) {
	tb.Helper()
	if !have.less(need) {
		return
	}
	if s := os.Getenv(EnvCIKernel); s != "" {
		ci, err := parseVersion(s)
		if err != nil {
			tb.Fatalf("gate kernel: %s: %v", EnvCIKernel, err)
			return
		}
		if ci.less(need) {
			tb.Fatalf("gate kernel: %s needs Linux %s, newer than any CI machine (%s=%s): nothing would ever run this test", feature, need, EnvCIKernel, s)
			return
		}
	}
	unmet(tb, "kernel", fmt.Sprintf("%s needs Linux %s, this is %s", feature, need, have))
}

// version is the first two numbers of a kernel release.
type version struct{ major, minor int }

func (v version) less(w version) bool {
	return v.major < w.major || v.major == w.major && v.minor < w.minor
}

func (v version) String() string { return fmt.Sprintf("%d.%d", v.major, v.minor) }

// parseVersion reads "6.1", "6.1.0-18-amd64" or "6.18-rc2".
func parseVersion(s string) (version, error) {
	var v version
	if _, err := fmt.Sscanf(s, "%d.%d", &v.major, &v.minor); err != nil {
		return version{}, fmt.Errorf("kernel version %q: want major.minor: %w", s, err)
	}
	return v, nil
}

func release() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", fmt.Errorf("uname: %w", err)
	}
	return unix.ByteSliceToString(u.Release[:]), nil
}
