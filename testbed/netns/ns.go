// Package netns builds hosts and links out of network namespaces and veth
// pairs that vanish with the process.
//
// A namespace made here is anonymous: only a file descriptor holds it. When
// the process dies, by SIGKILL too, the kernel closes the descriptor, and with
// the last reference go the namespace, its links and the XDP programs on them.
// Nothing shows in "ip netns" unless [NS.Pin] asks for it.
package netns

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Errors returned by this package.
var (
	// ErrClosed says that the namespace was closed before.
	ErrClosed = errors.New("network namespace is closed")
)

// NS is a network namespace. Its methods may be called from any goroutine.
type NS struct {
	mu   sync.Mutex
	file *os.File        // holds the namespace; nil once closed
	nl   *netlink.Handle // a route socket inside it
	pins []string        // names given by Pin and not yet taken back
}

// New makes a network namespace with its loopback up and IPv6 disabled, so
// that the kernel sends nothing there on its own account.
func New() (*NS, error) {
	ns := &NS{}
	err := onThread(func() error { return unix.Unshare(unix.CLONE_NEWNET) }, func() error {
		f, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return err
		}
		ns.file = f
		return ns.prepare()
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make network namespace: %w", explain(err)), ns.release())
	}
	return ns, nil
}

// prepare runs inside the new namespace.
func (ns *NS) prepare() (err error) {
	for _, conf := range []string{"all", "default"} {
		// Absent when the kernel was booted without IPv6: nothing to disable.
		path := "/proc/sys/net/ipv6/conf/" + conf + "/disable_ipv6"
		if err := os.WriteFile(path, []byte("1"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("disable IPv6: %w", err)
		}
	}
	if ns.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("open netlink socket: %w", err)
	}
	lo, err := ns.nl.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback: %w", err)
	}
	if err := ns.nl.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set loopback up: %w", err)
	}
	return nil
}

// Do runs fn on a thread inside the namespace and returns its error. Sockets
// that fn opens, programs it attaches and files of /proc/sys/net it writes
// belong to the namespace; what fn starts on other goroutines does not. A
// panic of fn reaches the caller, and so does runtime.Goexit, so that a test
// may call t.Fatal in fn.
func (ns *NS) Do(fn func() error) error {
	fd, err := ns.dup()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return onThread(func() error {
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace: %w", explain(err))
		}
		return nil
	}, fn)
}

// Close removes the namespace's veth links and lets go of the namespace, which
// the kernel removes when no socket, descriptor or pin holds it. Pins stay.
// Closing again does nothing.
func (ns *NS) Close() error {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if ns.file == nil {
		return nil
	}
	var errs []error
	if len(ns.pins) == 0 {
		errs = append(errs, ns.removeVeths())
	}
	errs = append(errs, ns.release())
	return errors.Join(errs...)
}

// removeVeths deletes the links now: the kernel would do so only some time
// after the last reference is gone, and until then their peers would stay.
func (ns *NS) removeVeths() error {
	links, err := ns.nl.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	var errs []error
	for _, l := range links {
		if l.Type() != "veth" {
			continue
		}
		// A link that is gone went with its peer.
		if err := ns.nl.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("remove link %s: %w", l.Attrs().Name, err))
		}
	}
	return errors.Join(errs...)
}

// release closes what ns holds.
func (ns *NS) release() error {
	if ns.nl != nil {
		ns.nl.Close()
		ns.nl = nil
	}
	if ns.file == nil {
		return nil
	}
	err := ns.file.Close()
	ns.file = nil
	return err
}

// dup returns a descriptor of the namespace that the caller closes.
func (ns *NS) dup() (int, error) {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if ns.file == nil {
		return -1, ErrClosed
	}
	fd, err := unix.FcntlInt(ns.file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("duplicate descriptor of network namespace: %w", err)
	}
	return fd, nil
}

// handle returns the netlink socket inside the namespace.
func (ns *NS) handle() (*netlink.Handle, error) {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if ns.nl == nil {
		return nil, ErrClosed
	}
	return ns.nl, nil
}

// onThread runs enter and then fn on a goroutine locked to its thread, takes
// the thread back to the namespace it came from, and waits. When the way back
// fails, the goroutine ends locked and the thread dies with it: no other
// goroutine ever runs in the wrong namespace.
func onThread(enter, fn func() error) error {
	const exited, returned, panicked = 0, 1, 2
	how := exited
	var (
		err   error
		cause any
		stack []byte
		done  = make(chan struct{})
	)
	go func() {
		defer close(done)
		runtime.LockOSThread()
		home, openErr := os.Open("/proc/thread-self/ns/net")
		if openErr != nil {
			runtime.UnlockOSThread()
			err, how = fmt.Errorf("open own network namespace: %w", openErr), returned
			return
		}
		defer home.Close()
		defer func() {
			if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
				runtime.UnlockOSThread()
			}
		}()
		defer func() {
			if how == exited {
				if cause = recover(); cause != nil {
					how, stack = panicked, debug.Stack()
				}
			}
		}()
		if err = enter(); err == nil {
			err = fn()
		}
		how = returned
	}()
	<-done
	switch how {
	case panicked:
		panic(fmt.Sprintf("%v\n\nin network namespace:\n%s", cause, stack))
	case exited:
		runtime.Goexit()
	}
	return err
}

// explain adds the cure to an error of unshare or setns.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: needs CAP_SYS_ADMIN (run as root)", err)
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("%w: limit of network namespaces reached, raise /proc/sys/user/max_net_namespaces", err)
	}
	return err
}
