package flow

import "golang.org/x/sys/unix"

func dupOf(fd int) (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0) }
