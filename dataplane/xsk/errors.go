package xsk

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Errors returned by Open, Create and Adopt.
var (
	// ErrQueueTaken says that another AF_XDP socket serves the queue.
	ErrQueueTaken = errors.New("queue is taken by another AF_XDP socket")
	// ErrNoQueue says that the interface has no such queue.
	ErrNoQueue = errors.New("interface has no such queue")
	// ErrNoInterface says that the network namespace has no such interface.
	ErrNoInterface = errors.New("no such interface in this network namespace")
	// ErrNoZeroCopy says that zero copy was demanded and is not to be had.
	ErrNoZeroCopy = errors.New("zero copy is not available")
	// ErrNotSupported says that the kernel has no AF_XDP.
	ErrNotSupported = errors.New("kernel has no AF_XDP")
	// ErrNoAdopt says that the rings of a socket that is bound cannot be mapped:
	// make new sockets instead.
	ErrNoAdopt = errors.New("kernel (before Linux 6.4) lets nobody map the rings of a bound socket")
)

// explainSocket turns the error of socket(2) into one with a cure.
func explainSocket(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("open AF_XDP socket: %w: needs CAP_NET_RAW (run as root)", err)
	case errors.Is(err, unix.EAFNOSUPPORT):
		return fmt.Errorf("open AF_XDP socket: %w: %w: build it with CONFIG_XDP_SOCKETS", ErrNotSupported, err)
	}
	return fmt.Errorf("open AF_XDP socket: %w", err)
}

// explainUMEM does so for XDP_UMEM_REG.
func explainUMEM(err error, size int) error {
	switch {
	case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.EPERM):
		return fmt.Errorf("register UMEM of %d KiB: %w: needs CAP_IPC_LOCK, or a locked-memory limit above it (%s; raise it with ulimit -l)",
			size>>10, err, memlock())
	case errors.Is(err, unix.ENOMEM):
		return fmt.Errorf("register UMEM of %d KiB: %w: the kernel cannot pin so much memory, use fewer chunks", size>>10, err)
	case errors.Is(err, unix.EFAULT):
		return fmt.Errorf("register UMEM of %d KiB: %w: the memory is not mapped writable", size>>10, err)
	}
	return fmt.Errorf("register UMEM of %d KiB: %w", size>>10, err)
}

func memlock() string {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &lim); err != nil {
		return "limit unknown"
	}
	return fmt.Sprintf("limit %d KiB", lim.Cur>>10)
}

// explainBind does so for bind(2).
func explainBind(err error, opts Options) error {
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w, still so after %v: close the other program, or use another queue: %w", ErrQueueTaken, max(opts.BindWait, 0), err)
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("%w: %w", ErrNoInterface, err)
	case errors.Is(err, unix.ENETDOWN):
		return fmt.Errorf("interface is down, set it up first: %w", err)
	case errors.Is(err, unix.EOPNOTSUPP) && opts.Mode == ZeroCopy:
		return fmt.Errorf("%w with this driver, use mode Auto: %w", ErrNoZeroCopy, err)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%w (or it does not carry Ethernet frames): %w", ErrNoQueue, err)
	}
	return err
}
