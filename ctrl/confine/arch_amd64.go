package confine

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_X86_64

// ordinaryHere are ordinary calls that only this architecture has.
var ordinaryHere = []uintptr{
	unix.SYS_ARCH_PRCTL, unix.SYS_POLL, unix.SYS_EPOLL_WAIT, unix.SYS_DUP2, unix.SYS_READLINK,
	unix.SYS_NEWFSTATAT, unix.SYS_STAT, unix.SYS_LSTAT, unix.SYS_GETRLIMIT, unix.SYS_TIME,
}
