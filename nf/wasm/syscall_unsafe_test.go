package wasm

import (
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// forbidden is the environment variable that makes the test binary do
// installForbidden.
const forbidden = "SFC_TEST_NO_SYSCALLS"

// Install makes no system call: the kernel would end the process at the first.
func TestInstallMakesNoSyscall(t *testing.T) {
	if os.Getenv(forbidden) != "" {
		installForbidden(t)
		return
	}
	run := func(what string) error {
		cmd := exec.Command(os.Args[0], "-test.run=^TestInstallMakesNoSyscall$")
		cmd.Env = append(os.Environ(), forbidden+"="+what, "GODEBUG=asyncpreemptoff=1")
		out, err := cmd.CombinedOutput()
		t.Logf("%s: %v %s", what, err, out)
		return err
	}
	if err := run("install"); err != nil {
		t.Errorf("Install: %v", err)
	}
	// The trap has to work.
	if err := run("getpid"); err == nil {
		t.Error("a system call went unnoticed")
	}
}

// installForbidden installs replacements while this thread may make no system
// call but those that end it or that Go's signal handler needs to return.
func installForbidden(t *testing.T) {
	b := newBed(t, v1, 8, GroupOptions{})
	var list []*Replacement
	for i := range 8 {
		to := v2
		if i%2 == 1 {
			to = v3 // with flow state to migrate
		}
		r, err := b.f.group.Prepare(i, Hop{Module: b.module(to), Config: config(1)}, ReplaceOptions{})
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	debug.SetGCPercent(-1)
	runtime.LockOSThread()
	status := 0
	forbid(t)
	if os.Getenv(forbidden) == "getpid" {
		unix.Getpid()
	}
	for _, r := range list {
		if r.Install() != nil {
			status = 1
		}
	}
	syscall.RawSyscall(unix.SYS_EXIT_GROUP, uintptr(status), 0, 0)
}

// forbid makes the kernel end the process when this thread makes a system call.
func forbid(t *testing.T) {
	const (
		load = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		eq   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		ret  = unix.BPF_RET | unix.BPF_K
	)
	filter := []unix.SockFilter{
		{Code: load}, // the number of the call
		{Code: eq, K: unix.SYS_RT_SIGRETURN, Jt: 2},
		{Code: eq, K: unix.SYS_EXIT_GROUP, Jt: 1},
		{Code: ret, K: unix.SECCOMP_RET_KILL_PROCESS},
		{Code: ret, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0); err != nil {
		t.Fatal(err)
	}
}

// Install allocates nothing either.
func TestInstallDoesNotAllocate(t *testing.T) {
	b := newBed(t, v1, maxHops, GroupOptions{})
	var list []*Replacement
	for i := range maxHops {
		r, err := b.f.group.Prepare(i, Hop{Module: b.module(v3), Config: config(1)}, ReplaceOptions{Probation: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	i := 0
	if n := testing.AllocsPerRun(maxHops-1, func() {
		if err := list[i].Install(); err != nil {
			t.Fatal(err)
		}
		i++
	}); n != 0 {
		t.Errorf("%v allocations per Install", n)
	}
	// Nor does a burst, with flow state under way in every function.
	slots := make([]uint32, 64)
	for i := range slots {
		slots[i] = uint32(i)
	}
	b.send(slots)
	if n := testing.AllocsPerRun(100, func() {
		b.f.burst.N = 64
		b.f.group.Process(&b.f.burst)
		b.f.group.Tick(0)
	}); n != 0 {
		t.Errorf("%v allocations per burst and tick on probation", n)
	}
}
