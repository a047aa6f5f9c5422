package confine

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_AARCH64

// ordinaryHere are ordinary calls that only this architecture has.
var ordinaryHere = []uintptr{unix.SYS_FSTATAT, unix.SYS_GETRLIMIT}
