package xsk

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// plan says what socket to make. Making it takes privileges, using it does not,
// so that two processes can do it: see Create and Adopt.
type plan struct {
	ifindex int
	queue   uint32
	opts    Options
	// first: it brings its queue's fill and completion ring.
	first bool
	// shareFD is a socket of the UMEM, of the same queue if there is one, since
	// the kernel takes no other then; -1: there is none yet. inherited is its
	// wakeup setting.
	shareFD   int
	inherited *bool
}

// make makes the socket and its rings, and registers mem with the first. exact
// and txBudget are what is in force: see queue.exact and Info.
func (p *plan) make(mem []byte) (fd int, exact bool, txBudget uint32, err error) {
	fd, err = unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, false, 0, explainSocket(err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, unix.Close(fd))
			fd = -1
		}
	}()
	if p.shareFD < 0 {
		if err := registerUMEM(fd, mem, chunkSize); err != nil {
			return fd, false, 0, explainUMEM(err, len(mem))
		}
	}
	if err := p.setRings(fd); err != nil {
		return fd, false, 0, err
	}
	exact, err = p.setTxBudget(fd)
	txBudget = minTxBudget
	if exact {
		txBudget = p.opts.TxBudget
	}
	return fd, exact, txBudget, err
}

// setRings creates the socket's rings, the queue's with them for the first
// socket of a queue.
func (p *plan) setRings(fd int) error {
	rings := []struct {
		name string
		opt  int
		size uint32
	}{
		{"RX", unix.XDP_RX_RING, p.opts.RingSize},
		{"TX", unix.XDP_TX_RING, p.opts.RingSize},
		{"fill", unix.XDP_UMEM_FILL_RING, p.opts.FillRing},
		{"completion", unix.XDP_UMEM_COMPLETION_RING, p.opts.FillRing},
	}
	if !p.first {
		rings = rings[:2] // the kernel refuses more
	}
	for _, r := range rings {
		if err := unix.SetsockoptInt(fd, unix.SOL_XDP, r.opt, int(r.size)); err != nil {
			return fmt.Errorf("create %s ring of %d: %w", r.name, r.size, err)
		}
	}
	return nil
}

// setTxBudget raises how many frames a system call sends in copy mode, and says
// whether the kernel can (6.17).
func (p *plan) setTxBudget(fd int) (can bool, err error) {
	err = unix.SetsockoptInt(fd, unix.SOL_XDP, unix.XDP_MAX_TX_SKB_BUDGET, int(p.opts.TxBudget))
	if errors.Is(err, unix.ENOPROTOOPT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("set transmit budget %d: %w", p.opts.TxBudget, err)
	}
	return true, nil
}

// bind binds to the queue, and tries again while it is busy: an old socket's
// queue is freed by a work queue of the kernel some time after its close.
func (p *plan) bind(fd int) error {
	sa := &unix.SockaddrXDP{Ifindex: uint32(p.ifindex), QueueID: p.queue}
	if p.shareFD >= 0 {
		// The only flag allowed; the rest is inherited.
		sa.Flags, sa.SharedUmemFD = unix.XDP_SHARED_UMEM, uint32(p.shareFD)
	} else {
		switch p.opts.Mode {
		case ZeroCopy:
			sa.Flags |= unix.XDP_ZEROCOPY
		case Copy:
			sa.Flags |= unix.XDP_COPY
		}
		if !p.opts.NoNeedWakeup {
			sa.Flags |= unix.XDP_USE_NEED_WAKEUP
		}
	}
	end := time.Now().Add(p.opts.BindWait)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err := unix.Bind(fd, sa)
		if !errors.Is(err, unix.EBUSY) || time.Now().After(end) {
			return err
		}
		time.Sleep(pause)
	}
}

// needWakeup is the wakeup setting that bind gives.
func (p *plan) needWakeup() bool {
	if p.inherited != nil {
		return *p.inherited
	}
	return !p.opts.NoNeedWakeup
}

// mode asks the kernel what bind gave, and refuses less than was demanded.
// TxBudget is not the kernel's to tell.
func (p *plan) mode(fd int) (info Info, err error) {
	var options uint32
	if err := getsockopt(fd, unix.XDP_OPTIONS, &options); err != nil {
		return info, fmt.Errorf("read bind mode: %w", err)
	}
	info.RingSize = p.opts.RingSize
	info.ZeroCopy = options&unix.XDP_OPTIONS_ZEROCOPY != 0
	info.NeedWakeup = p.needWakeup()
	if p.opts.Mode == ZeroCopy && !info.ZeroCopy {
		return info, fmt.Errorf("%w: the socket was bound in copy mode", ErrNoZeroCopy)
	}
	if p.opts.Mode == Copy && info.ZeroCopy {
		return info, errors.New("copy mode is not available: the UMEM's other socket was bound in zero-copy mode")
	}
	return info, nil
}
