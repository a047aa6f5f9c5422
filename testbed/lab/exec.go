package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Exec replaces this process by a program that runs on a host of the lab, so
// that its exit status, its signals and its terminal are the program's own. It
// returns only with an error.
//
// The program sees the host's interfaces, also in /sys, asks the server's
// address for names, and knows the hosts by theirs. All other files are those
// of this machine.
func (c *Client) Exec(ctx context.Context, host Host, argv []string) error {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return fmt.Errorf("program %s: %w", argv[0], err)
	}
	// A mount namespace below changes what relative paths mean nowhere, but
	// the program may be meant by one.
	if path, err = filepath.Abs(path); err != nil {
		return err
	}
	ns, nodes, err := c.enter(ctx, host)
	if err != nil {
		return err
	}
	defer ns.Close()
	// On success the thread that calls becomes the process.
	return onThread(ns, func() error {
		if err := ownFiles(nodes); err != nil {
			return fmt.Errorf("files for programs on %s: %w", host, err)
		}
		if err := syscall.Exec(path, argv, os.Environ()); err != nil {
			return fmt.Errorf("run %s: %w", path, err)
		}
		return nil
	})
}

// within runs fn in the network of a host. Sockets that it opens stay there.
func (c *Client) within(ctx context.Context, host Host, fn func() error) error {
	ns, _, err := c.enter(ctx, host)
	if err != nil {
		return err
	}
	defer ns.Close()
	return onThread(ns, fn)
}

// enter asks for a host's namespace and for what the hosts are.
func (c *Client) enter(ctx context.Context, host Host) (ns *os.File, nodes []Node, err error) {
	ns, err = c.call(ctx, opEnter, enterArgs{host}, &nodes)
	if err == nil && ns == nil {
		err = fmt.Errorf("lab %s: no network namespace came with the reply", c.name)
	}
	return ns, nodes, err
}

// onThread runs fn in a network namespace, on a thread of its own.
func onThread(ns *os.File, fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			done <- err
			return
		}
		defer home.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter the network namespace: %w", err)
			return
		}
		err = fn()
		// Without a way back the goroutine ends locked, and its thread with it.
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// ownFiles gives the calling thread mounts of its own: the /sys of its network
// namespace, and files of /etc that fit the lab.
func ownFiles(nodes []Node) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("own mounts: %w", err)
	}
	if err := unix.Mount("", "/", "none", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("own mounts: %w", err)
	}
	// As ip netns exec does. Without a /sys nothing looks there.
	if err := unix.Unmount("/sys", unix.MNT_DETACH); err == nil {
		if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
			return fmt.Errorf("mount /sys: %w", err)
		}
	}
	hosts, err := os.ReadFile("/etc/hosts")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	names, text := "", string(hosts)+"\n"
	for _, n := range nodes {
		for _, a := range n.Addresses {
			text += a + " " + string(n.Name) + "\n"
			if n.Name == HostServer {
				names += "nameserver " + a + "\n"
			}
		}
	}
	return errors.Join(cover("/etc/resolv.conf", names), cover("/etc/hosts", text))
}

// cover puts a file with this text over another, for this mount namespace. A
// file that is not there cannot be covered; programs that need it say so.
func cover(path, text string) error {
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	// The file lies in a file system of its own that is gone from the tree as
	// soon as it has been bound.
	const at = "/tmp"
	if err := unix.Mount("tmpfs", at, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "size=1m"); err != nil {
		return fmt.Errorf("place for %s: %w", path, err)
	}
	defer unix.Unmount(at, unix.MNT_DETACH)
	file := filepath.Join(at, strings.ReplaceAll(strings.TrimPrefix(path, "/"), "/", "-"))
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return err
	}
	if err := unix.Mount(file, real, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s: %w", real, err)
	}
	return nil
}
