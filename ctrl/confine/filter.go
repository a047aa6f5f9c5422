package confine

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Filter is a set of system calls that a process may make. Each of the forbidden
// has one of two answers:
//
//   - what only an intruder would call kills the process (SIGSYS), which its
//     parent reports;
//   - the rest fails with EPERM, and the kernel logs it where auditing is on
//     (SECCOMP_FILTER_FLAG_LOG).
type Filter struct {
	name  string
	rules []rule
	other uint32 // for calls that have no rule
}

// rule is one of a filter's rules.
type rule struct {
	nr         uintptr
	what       uint32
	conditions []condition
}

// DataPlane returns the filter of the data plane: its runtime, guests' code,
// sockets and memory that it was given, and nothing else. It opens no file for
// writing, no socket but one that reads routes, and starts no process.
func DataPlane() *Filter {
	f := &Filter{name: "data plane", other: retErrno | uint32(unix.EPERM)}
	// An element of a map that it was given: the grace period (bpf.View).
	f.add(unix.SYS_BPF, retAllow, condition{0, 0xffffffff, unix.BPF_MAP_UPDATE_ELEM})
	f.deadly(intruders)
	f.deadly(foreign)
	f.runtime()
	f.allow(connected)
	// Routes and neighbours; to change any needs what the process has not.
	f.add(unix.SYS_SOCKET, retAllow,
		condition{0, ^uint64(0), unix.AF_NETLINK}, condition{2, ^uint64(0), unix.NETLINK_ROUTE})
	f.allow([]uintptr{unix.SYS_BIND}) // of that one, and of AF_XDP sockets that it was given unbound
	return f
}

// Compile returns the filter of children that compile: they read a module,
// write code into memory, and have no sockets at all.
func Compile() *Filter {
	f := &Filter{name: "compile", other: retErrno | uint32(unix.EPERM)}
	f.deadly(intruders)
	f.deadly(foreign)
	f.runtime()
	return f
}

// Control returns the filter of the control process. It has files, sockets and
// children of its own, so the filter names what is forbidden.
func Control() *Filter {
	f := &Filter{name: "control", other: retAllow}
	f.deadly(intruders)
	// Its children are the same program, and a library in it tries this call
	// before main begins, to see what the kernel can.
	f.add(unix.SYS_BPF, retErrno|uint32(unix.EPERM))
	return f
}

func (f *Filter) add(nr uintptr, what uint32, conditions ...condition) {
	f.rules = append(f.rules, rule{nr, what, conditions})
}

func (f *Filter) allow(list []uintptr) {
	for _, nr := range list {
		f.add(nr, retAllow)
	}
}

func (f *Filter) deadly(list []uintptr) {
	for _, nr := range list {
		f.add(nr, retKill)
	}
}

// runtime allows what any Go program with C in it does by itself.
func (f *Filter) runtime() {
	f.allow(ordinary)
	f.allow(ordinaryHere)
	// Threads, but no processes and no namespaces. The flags of clone3 are in
	// memory, where a filter cannot look: the C library then takes clone.
	f.add(unix.SYS_CLONE, retAllow, condition{0, unix.CLONE_THREAD | namespaces, unix.CLONE_THREAD})
	f.add(unix.SYS_CLONE3, retErrno|uint32(unix.ENOSYS))
	// Signals to its own threads: the scheduler's, and aborts.
	f.add(unix.SYS_TGKILL, retAllow, condition{0, 0xffffffff, uint64(os.Getpid())})
	// Files can be read, as far as their modes let nobody read them.
	const writing = unix.O_ACCMODE | unix.O_CREAT | unix.O_TRUNC | unix.O_APPEND
	f.add(unix.SYS_OPENAT, retAllow, condition{2, writing, unix.O_RDONLY})
	// Names of threads and of memory; whether signals come. Nothing else.
	for _, option := range []uint64{unix.PR_SET_NAME, unix.PR_GET_NAME, unix.PR_SET_VMA} {
		f.add(unix.SYS_PRCTL, retAllow, condition{0, 0xffffffff, option})
	}
	// Limits can be read.
	f.add(unix.SYS_PRLIMIT64, retAllow, condition{2, ^uint64(0), 0})
}

const namespaces = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET |
	unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP

// assemble returns the filter as the kernel takes it.
func (f *Filter) assemble() ([]unix.SockFilter, error) {
	var a assembler
	a.begin(auditArch)
	for _, r := range f.rules {
		if err := a.rule(r.nr, r.what, r.conditions...); err != nil {
			return nil, err
		}
	}
	a.ret(f.other)
	if len(a.prog) > unix.BPF_MAXINSNS {
		return nil, fmt.Errorf("filter %s has %d instructions: at most %d", f.name, len(a.prog), unix.BPF_MAXINSNS)
	}
	return a.prog, nil
}

// installing is held meanwhile: with TSYNC threads must have the same filters.
var installing sync.Mutex

// install puts the filter on all threads of the process, present and future.
func (f *Filter) install() error {
	installing.Lock()
	defer installing.Unlock()
	prog, err := f.assemble()
	if err != nil {
		return err
	}
	// no_new_privs lets the unprivileged have filters. It is a thread's own, and
	// TSYNC gives it to the others together with the filter.
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	switch tid, err := seccomp(prog, unix.SECCOMP_FILTER_FLAG_TSYNC|unix.SECCOMP_FILTER_FLAG_LOG); {
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL):
		return fmt.Errorf("filter %s: %w: the kernel needs CONFIG_SECCOMP_FILTER", f.name, err)
	case err != nil:
		return fmt.Errorf("filter %s: %w", f.name, err)
	case tid != 0:
		return fmt.Errorf("filter %s: thread %d has another filter already", f.name, tid)
	}
	return nil
}
