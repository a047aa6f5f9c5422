package gate

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// recorder is a testing.TB that notes how a gate ended instead of ending.
type recorder struct {
	testing.TB
	skipped, failed string
	cleanups        []func()
}

func (r *recorder) Helper()                     {}
func (r *recorder) Cleanup(f func())            { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Skipf(f string, args ...any) { r.skipped = fmt.Sprintf(f, args...) }
func (r *recorder) Fatalf(f string, args ...any) {
	r.failed = fmt.Sprintf(f, args...)
}
func (r *recorder) Errorf(f string, args ...any) { r.failed = fmt.Sprintf(f, args...) }

func TestUnmetGateSkipsOrFails(t *testing.T) {
	tests := []struct {
		require string
		fails   bool
	}{{"", false}, {"kernel", false}, {"kernel,tool", true}, {"all", true}}
	for _, tt := range tests {
		t.Run("require="+tt.require, func(t *testing.T) {
			t.Setenv(EnvRequire, tt.require)
			var r recorder
			Tool(&r, "no-such-program-anywhere")
			if got := r.failed != ""; got != tt.fails {
				t.Fatalf("failed = %q, skipped = %q", r.failed, r.skipped)
			}
			if !strings.Contains(r.failed+r.skipped, "no-such-program-anywhere") {
				t.Errorf("reason does not name the program: %q", r.failed+r.skipped)
			}
		})
	}
}

func TestKernelGate(t *testing.T) {
	tests := []struct {
		have, need, ci string
		skip, fail     bool
	}{
		{"6.18.44", "6.1", "", false, false},
		{"6.1.0-18-amd64", "6.1", "", false, false},
		{"6.1", "6.17", "", true, false},
		{"6.1", "6.17", "6.18", true, false},
		{"6.1", "6.17", "6.12", false, true},
		{"5.15", "6.1", "nonsense", false, true},
		{"6.18-rc1", "7.0", "6.18", false, true},
	}
	for _, tt := range tests {
		t.Run(tt.have+"/"+tt.need+"/"+tt.ci, func(t *testing.T) {
			t.Setenv(EnvRequire, "")
			t.Setenv(EnvCIKernel, tt.ci)
			have, err := parseVersion(tt.have)
			if err != nil {
				t.Fatal(err)
			}
			need, err := parseVersion(tt.need)
			if err != nil {
				t.Fatal(err)
			}
			var r recorder
			checkKernel(&r, have, need, "a feature")
			if (r.skipped != "") != tt.skip || (r.failed != "") != tt.fail {
				t.Errorf("skipped %q, failed %q", r.skipped, r.failed)
			}
		})
	}
	var r recorder
	if Kernel(&r, "2.6", "anything"); r.skipped+r.failed != "" {
		t.Errorf("the running kernel is older than 2.6: %s%s", r.skipped, r.failed)
	}
	if Kernel(&r, "six", "anything"); r.failed == "" {
		t.Error("nonsense version accepted")
	}
}

func TestCapsNamesWhatIsMissing(t *testing.T) {
	t.Setenv(EnvRequire, "")
	var r recorder
	const noSuchCap = 62
	if Caps(&r, noSuchCap); !strings.Contains(r.skipped, "capability 62") {
		t.Errorf("skipped = %q", r.skipped)
	}
	if os.Geteuid() != 0 {
		r = recorder{}
		if Caps(&r, unix.CAP_NET_ADMIN); !strings.Contains(r.skipped, "CAP_NET_ADMIN") {
			t.Errorf("skipped = %q", r.skipped)
		}
	}
}

func TestPcapsFindsCaptures(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(EnvPcaps, dir)
	t.Setenv(EnvRequire, "")
	var r recorder
	if Pcaps(&r); !strings.Contains(r.skipped, dir) {
		t.Errorf("skipped = %q", r.skipped)
	}
	want := []string{filepath.Join(dir, "a.pcapng"), filepath.Join(dir, "b.pcap")}
	for _, f := range append(want, filepath.Join(dir, "README.md")) {
		if err := os.WriteFile(f, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := Pcaps(t); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestLeaksSeesEachKind(t *testing.T) {
	before := take()
	if left := before.left(time.Second); len(left) > 0 {
		t.Fatalf("nothing done, yet left: %q", left)
	}

	f, err := os.Open("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	go func() { <-stop }()
	left := strings.Join(before.left(0), "\n")
	for _, want := range []string{"/status", "TestLeaksSeesEachKind"} {
		if !strings.Contains(left, want) {
			t.Errorf("%s not found in %s", want, left)
		}
	}
	close(stop)
	f.Close()
	if left := before.left(leakWait); len(left) > 0 {
		t.Errorf("all ended, yet left: %q", left)
	}
}

func TestLeaksSeesThreadInOtherNamespace(t *testing.T) {
	Root(t)
	before := take()
	moved, stop, back := make(chan error), make(chan struct{}), make(chan error)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			moved <- err
			return
		}
		defer home.Close()
		moved <- unix.Unshare(unix.CLONE_NEWNET)
		<-stop
		// Ending locked instead would leave the process's main thread, should
		// this be it, in the namespace for good.
		err = unix.Setns(int(home.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			runtime.UnlockOSThread()
		}
		back <- err
	}()
	if err := <-moved; err != nil {
		t.Fatal(err)
	}
	if left := strings.Join(before.left(0), "\n"); !strings.Contains(left, "thread ") {
		t.Errorf("thread not found in %s", left)
	}
	close(stop)
	if err := <-back; err != nil {
		t.Fatal(err)
	}
	if left := before.left(leakWait); len(left) > 0 {
		t.Errorf("thread is back, yet left: %q", left)
	}
}

func TestLeaksReportsThroughCleanup(t *testing.T) {
	var r recorder
	Leaks(&r)
	f, err := os.Open("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range r.cleanups {
		c()
	}
	f.Close()
	if !strings.Contains(r.failed, "/status") {
		t.Errorf("failed = %q", r.failed)
	}
}
