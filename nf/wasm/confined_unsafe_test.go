package wasm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"sfc/dataplane/packet"
)

// confined is the environment variable that makes the test binary load and run
// an artifact while the kernel lets through the calls of the package's
// documentation only.
const confined = "SFC_TEST_CONFINED"

// ours are the system calls of the package's documentation, goCalls those of Go's
// runtime and of the C library beside it.
var (
	ours = []uintptr{
		unix.SYS_MMAP, unix.SYS_MPROTECT, unix.SYS_MUNMAP, unix.SYS_MADVISE, unix.SYS_LSEEK,
		unix.SYS_MEMFD_CREATE, unix.SYS_FTRUNCATE, unix.SYS_FCNTL, unix.SYS_CLOSE,
		unix.SYS_FUTEX, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_SCHED_YIELD,
		unix.SYS_RT_SIGRETURN, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGACTION, unix.SYS_SIGALTSTACK,
		unix.SYS_CLONE3, unix.SYS_CLONE, unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ, unix.SYS_EXIT,
		unix.SYS_BRK, unix.SYS_MREMAP, unix.SYS_GETRANDOM,
	}
	goCalls = []uintptr{
		unix.SYS_NANOSLEEP, unix.SYS_EPOLL_PWAIT, unix.SYS_TGKILL, unix.SYS_GETPID, unix.SYS_GETTID, unix.SYS_WRITE,
		unix.SYS_EXIT_GROUP, unix.SYS_READ, unix.SYS_EPOLL_CTL, unix.SYS_EVENTFD2, unix.SYS_PRCTL,
	}
)

// A process under a filter that ends it at any call but those of the list loads
// an artifact, makes instances of it, runs them, has one replaced after a fault
// and closes everything.
func TestConfined(t *testing.T) {
	if path := os.Getenv(confined); path != "" {
		runConfined(t, path)
		return
	}
	dir := t.TempDir()
	for _, name := range []string{"flow_counts", "traps_every_packet"} {
		if err := os.WriteFile(filepath.Join(dir, name), encode(t, build(t, name)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(extra string) ([]byte, error) {
		cmd := exec.Command(os.Args[0], "-test.run=^TestConfined$", "-test.v")
		cmd.Env = append(os.Environ(), confined+"="+dir, "SFC_TEST_EXTRA="+extra)
		return cmd.CombinedOutput()
	}
	if out, err := run(""); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	// The filter has to work.
	for _, call := range []string{"socket", "execve"} {
		if out, err := run(call); err == nil {
			t.Errorf("%s went unnoticed:\n%s", call, out)
		}
	}
}

func runConfined(t *testing.T, dir string) {
	var list []*Artifact
	for _, name := range []string{"flow_counts", "traps_every_packet"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		a, err := DecodeArtifact(b)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, a)
	}
	rt, err := Open(Options{NoCompiler: true, Mappings: 1000})
	if err != nil {
		t.Fatal(err)
	}
	filter(t, append(ours, goCalls...))
	switch os.Getenv("SFC_TEST_EXTRA") {
	case "socket":
		_, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	case "execve":
		err = unix.Exec("/bin/true", []string{"true"}, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{rt: rt, mem: newMemory(t, packet.BurstSize)}
	var hops []Hop
	for i, a := range list {
		m, err := rt.Load(a)
		if err != nil {
			t.Fatal(err)
		}
		hops = append(hops, Hop{Name: fmt.Sprint("f", i), Module: m, Config: []byte("{}"), Open: true})
		defer m.Close()
	}
	if f.group, err = rt.NewGroup(f.mem, hops, GroupOptions{Flows: 2 << 20, Ports: 2}); err != nil {
		t.Fatal(err)
	}
	r, err := f.group.Prepare(0, hops[0], ReplaceOptions{Probation: -1})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 { // of 10 ms: the janitor comes every 100
		f.fill(packet.BurstSize, 60)
		f.group.Process(&f.burst)
		f.group.Tick(uint64(i))
		f.group.FlowEnd([]uint32{0})
		if i == 10 {
			if err := r.Install(); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	if s := f.group.Stats()[1]; s.Traps < 2 || r.Status().Phase != Accepted {
		t.Errorf("%d traps, replacement %v", s.Traps, r.Status().Phase)
	}
	if err := f.group.Close(); err != nil {
		t.Fatal(err)
	}
}

// filter ends this process when any of its threads makes a call that is not in
// the list.
func filter(t *testing.T, allowed []uintptr) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var f []unix.SockFilter
	f = append(f, unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}) // the number of the call
	for i, nr := range allowed {
		f = append(f, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(nr), Jt: uint8(len(allowed) - i)})
	}
	f = append(f, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_KILL_PROCESS},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	prog := unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	if _, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog))); e != 0 {
		t.Fatal(e)
	}
}
