package confine

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What children set up before they are sealed.
var (
	given     [2]int // a pair of sockets
	listening net.Listener
	tidOf     = make(chan int, 1)
)

func setUp() {
	var err error
	if given, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		panic(err)
	}
	if listening, err = net.Listen("unix", fmt.Sprintf("@confine-%d", os.Getpid())); err != nil {
		panic(err)
	}
	// A thread that is there before the filter, and asks afterwards.
	go func() {
		runtime.LockOSThread()
		tidOf <- unix.Gettid()
		select {}
	}()
}

func errnoOf(e syscall.Errno) error {
	if e == 0 {
		return nil
	}
	return e
}

func call(nr uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	_, _, errno := syscall.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
	return errnoOf(errno)
}

// tries are things to do, by name.
var tries = map[string]func() error{
	// Forbidden: what only intruders do.
	"exec":       func() error { return syscall.Exec("/proc/self/exe", nil, nil) },
	"ptrace":     func() error { return unix.PtraceAttach(os.Getppid()) },
	"mount":      func() error { return unix.Mount("none", "/tmp", "tmpfs", 0, "") },
	"bpf":        func() error { return call(unix.SYS_BPF, unix.BPF_PROG_LOAD, 0, 0) },
	"setuid":     func() error { return call(unix.SYS_SETUID, 0) },
	"setresuid":  func() error { return call(unix.SYS_SETRESUID, 0, 0, 0) },
	"kill":       func() error { return unix.Kill(os.Getppid(), 0) },
	"unshare":    func() error { return unix.Unshare(unix.CLONE_NEWUSER) },
	"vm_read":    func() error { return call(unix.SYS_PROCESS_VM_READV, uintptr(os.Getppid()), 0, 0, 0, 0, 0) },
	"perf":       func() error { return call(unix.SYS_PERF_EVENT_OPEN, 0) },
	"io_uring":   func() error { return call(unix.SYS_IO_URING_SETUP, 1, 0) },
	"unlink":     func() error { return unix.Unlinkat(unix.AT_FDCWD, "/nothing", 0) },
	"connect":    func() error { return unix.Connect(given[0], &unix.SockaddrUnix{Name: "/nothing"}) },
	"new_filter": func() error { return Compile().install() },
	"x32":        func() error { return call(0x40000000 | unix.SYS_GETPID) },

	// Forbidden, refused with EPERM.
	"inet":     func() error { return socket(unix.AF_INET, unix.SOCK_STREAM, 0) },
	"packet":   func() error { return socket(unix.AF_PACKET, unix.SOCK_RAW, 0) },
	"xdp":      func() error { return socket(unix.AF_XDP, unix.SOCK_RAW, 0) },
	"audit":    func() error { return socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT) },
	"netlink":  func() error { return socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE) },
	"write":    func() error { return open(unix.O_WRONLY) },
	"rw":       func() error { return open(unix.O_RDWR) },
	"create":   func() error { return open(unix.O_CREAT) },
	"tmpfile":  func() error { return open(unix.O_TMPFILE | unix.O_RDWR) },
	"truncate": func() error { return open(unix.O_TRUNC) },
	"fork":     func() error { return call(unix.SYS_CLONE, uintptr(unix.SIGCHLD)) },
	"signal_others": func() error {
		return unix.Tgkill(os.Getppid(), os.Getppid(), 0)
	},
	"dumpable":    func() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0) },
	"raise_limit": func() error { return unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1 << 16, Max: 1 << 16}) },
	"ioctl":       func() error { _, err := unix.IoctlGetInt(given[0], unix.TIOCOUTQ); return err },

	// Allowed.
	"map_update": func() error { // it comes as far as the kernel's own check
		if err := call(unix.SYS_BPF, unix.BPF_MAP_UPDATE_ELEM, 0, 0); err != unix.EINVAL && err != unix.EFAULT && err != unix.EBADF {
			return err
		}
		return nil
	},
	"memory":   memory,
	"messages": messages,
	"accept":   accept,
	"threads":  threads,
	"read":     func() error { _, err := os.ReadFile("/sys/kernel/mm/transparent_hugepage/enabled"); return absent(err) },
	"pin": func() error {
		var s unix.CPUSet
		return errors.Join(unix.SchedGetaffinity(0, &s), unix.SchedSetaffinity(0, &s))
	},
	"poll": func() error {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(given[0]), Events: unix.POLLOUT}}, 1)
		return err
	},
	"collect": func() error { runtime.GC(); time.Sleep(20 * time.Millisecond); return nil },
	"routes":  func() error { _, err := net.Interfaces(); return err },

	// Facts.
	"status": status,

	// For control.
	"child": func() error { return exec.Command("/bin/true").Run() },
	"dial":  func() error { return socket(unix.AF_INET, unix.SOCK_STREAM, 0) },
}

func absent(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func socket(family, kind, proto int) error {
	fd, err := unix.Socket(family, kind, proto)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func open(flags int) error {
	fd, err := unix.Open("/tmp", flags, 0o600)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// memory does what a runtime for guests does: shared memory, mapped twice, and
// code that becomes executable.
func memory() error {
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, 8192); err != nil {
		return err
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW); err != nil {
		return err
	}
	for range 2 {
		m, err := unix.Mmap(fd, 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return err
		}
		m[0]++
		defer unix.Munmap(m)
	}
	code, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	defer unix.Munmap(code)
	return unix.Mprotect(code, unix.PROT_READ|unix.PROT_EXEC)
}

// messages sends a descriptor to itself.
func messages() error {
	if err := unix.Sendmsg(given[0], []byte("x"), unix.UnixRights(given[0]), nil, 0); err != nil {
		return err
	}
	oob := make([]byte, 64)
	_, n, _, _, err := unix.Recvmsg(given[1], make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return err
	}
	if n == 0 {
		return errors.New("no descriptor came")
	}
	return nil
}

// accept waits a moment on a listener that it had before.
func accept() error {
	listening.(*net.UnixListener).SetDeadline(time.Now().Add(10 * time.Millisecond))
	_, err := listening.Accept()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

// threads makes new ones, which have the filter too.
func threads() error {
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			runtime.LockOSThread()
			if err := socket(unix.AF_INET, unix.SOCK_DGRAM, 0); err != unix.EPERM {
				errs[i] = fmt.Errorf("a new thread made a socket: %v", err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// status returns what the kernel says of the child and of a thread that was
// there before the filter.
func status() error {
	old, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/status", <-tidOf))
	if err != nil {
		return err
	}
	own, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return err
	}
	var facts []string
	for _, text := range [][]byte{own, old} {
		for line := range bytes.Lines(text) {
			key, value, _ := strings.Cut(strings.TrimSpace(string(line)), ":")
			switch key {
			case "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp":
				facts = append(facts, key+"="+strings.Join(strings.Fields(value), ","))
			}
		}
	}
	return errors.New(strings.Join(facts, " "))
}
