package confine

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Start starts cmd as another user, without capabilities or a way to get any.
// A nil identity keeps the user, but not the capabilities: not even root gets
// any back. Without privileges there is only the way to new ones to close, and
// a foreign identity is refused by the kernel.
//
// cmd.SysProcAttr.Pdeathsig must not be set: the thread that starts the child
// ends here, and that is when the kernel would send the signal.
func Start(cmd *exec.Cmd, id *Identity) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	if cmd.SysProcAttr.Pdeathsig != 0 {
		return errors.New("a confined child cannot have a parent-death signal: the thread it is tied to ends")
	}
	if id != nil && (os.Getuid() == 0 || os.Getuid() != id.UID) {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(id.UID), Gid: uint32(id.GID), Groups: []uint32{}}
	}
	// A child has the credentials of the thread that forked it. This thread is
	// spoilt for everything else, so it ends with the goroutine.
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := spoil(); err != nil {
			done <- err
			return
		}
		done <- cmd.Start()
	}()
	return <-done
}

// spoil takes every way to privileges from the calling thread's children.
func spoil() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	for c := uintptr(0); ; c++ {
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0)
		if err == unix.EINVAL {
			return nil // behind the last one of this kernel
		}
		if err == nil && has == 0 {
			continue // this process is confined itself
		}
		err = unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		switch {
		case err == unix.EPERM && os.Geteuid() != 0:
			return nil // nothing to lose: see no_new_privs
		case err != nil:
			return fmt.Errorf("drop capability %d from the bounding set: %w", c, err)
		}
	}
}
