package confine

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// seccomp installs a filter. With TSYNC it returns the thread that cannot have
// it, 0 when all have it.
func seccomp(prog []unix.SockFilter, flags uintptr) (tid uintptr, err error) {
	p := unix.SockFprog{Len: uint16(len(prog)), Filter: unsafe.SliceData(prog)}
	tid, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&p)))
	runtime.KeepAlive(prog)
	if errno != 0 {
		return 0, errno
	}
	return tid, nil
}
