package route

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// groups are the netlink groups that tell of changes (rtnetlink(7)).
var groups = [...]uint32{
	unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
	unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_NEXTHOP,
}

// eventBytes is the socket's receive buffer. When it overflows, the kernel says
// so, and that is a change like any other.
const eventBytes = 1 << 20

// subscribe opens a socket that hears of changes in the calling thread's
// namespace.
func subscribe() (fd int, err error) {
	if fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE); err != nil {
		return -1, err
	}
	addr := unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	for _, g := range groups {
		addr.Groups |= 1 << (g - 1)
	}
	err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, eventBytes), unix.Bind(fd, &addr))
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// follow is the table's goroutine: it renews the picture when something changed
// and asks the kernel for what workers miss. ports are those of the first one.
func (t *Table) follow(ports *[]int) {
	defer close(t.done)
	changed := false
	var notBefore time.Time // of the next reading
	var reopenAt time.Time  // when open questions may be asked again; zero when none was asked
	for !t.isClosed() {
		now := time.Now()
		if links := t.ports.Load(); links != ports {
			ports, changed, notBefore = links, true, now // somebody waits for it
		}
		reopen := !reopenAt.IsZero() && !now.Before(reopenAt)
		if (changed || reopen) && !now.Before(notBefore) {
			before := t.current.Load()
			err := t.read(reopen)
			took := time.Since(now)
			notBefore = now.Add(took + max(restAfterRead, idleShare*took))
			// A reading that other changes interrupted is no failure, but not
			// the truth either.
			changed = err != nil
			if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
				t.failed.Add(1)
				notBefore = now.Add(retryAfter)
			}
			if t.current.Load() != before || reopen && err == nil {
				clear(t.known)
				reopenAt = time.Time{}
			}
			continue
		}
		asked, full := t.askKernel()
		if asked && reopenAt.IsZero() {
			reopenAt = now.Add(retryAfter)
		}
		timeout := forever
		switch {
		case full:
			timeout = restAfterBatch
		case changed || reopen:
			timeout = max(0, time.Until(notBefore))
		case !reopenAt.IsZero():
			timeout = max(0, time.Until(reopenAt))
		}
		if t.sleep(timeout, full) {
			changed = true
		}
	}
}

// forever is no timeout.
const forever = time.Duration(-1)

// sleep waits for changes, or unless deaf for workers' questions, at most for
// the timeout. It returns whether anything changed.
func (t *Table) sleep(timeout time.Duration, deaf bool) (changed bool) {
	ms := -1
	if timeout >= 0 {
		ms = int((timeout + time.Millisecond - 1) / time.Millisecond)
	}
	// Whoever asks after this wakes us; whoever asked before is seen now.
	t.wake.asleep.Store(!deaf)
	if !deaf && t.hasQuestions() {
		ms = 0
	}
	fds := []unix.PollFd{{Fd: int32(t.events), Events: unix.POLLIN}, {Fd: int32(t.wake.fd), Events: unix.POLLIN}}
	_, _ = unix.Poll(fds, ms) // interrupted is as good as woken
	t.wake.asleep.Store(false)
	if fds[1].Revents != 0 {
		t.wake.clear()
	}
	return fds[0].Revents != 0 && t.drain()
}

// drain takes all events from the socket and returns whether one concerns the
// ports.
func (t *Table) drain() (changed bool) {
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(t.events, buf, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return changed
		case errors.Is(err, unix.ENOBUFS): // events were lost
			changed = true
			continue
		case err != nil:
			return true
		}
		changed = changed || t.concerns(buf[:n])
	}
}

// concerns reports whether one of the messages is of a port or of a route.
func (t *Table) concerns(msgs []byte) bool {
	links := t.links()
	if len(links) == 0 {
		return false
	}
	for len(msgs) >= unix.NLMSG_HDRLEN {
		length := int(binary.NativeEndian.Uint32(msgs))
		if length < unix.NLMSG_HDRLEN || length > len(msgs) {
			return true
		}
		switch binary.NativeEndian.Uint16(msgs[4:]) {
		case unix.RTM_NEWLINK, unix.RTM_DELLINK, unix.RTM_NEWADDR, unix.RTM_DELADDR, unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
			// ifinfomsg, ifaddrmsg and ndmsg all have the interface's index
			// in their second word.
			const index = unix.NLMSG_HDRLEN + 4
			if length < index+4 || slices.Contains(links, int(int32(binary.NativeEndian.Uint32(msgs[index:])))) {
				return true
			}
		default:
			return true
		}
		msgs = msgs[min(len(msgs), (length+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1)):]
	}
	return false
}

func (t *Table) hasQuestions() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, v := range t.views {
		if v.ring.head.Load() != v.ring.tail.Load() {
			return true
		}
	}
	return false
}

// askKernel passes a batch of questions on, a question of each view in turn, and
// each question once per generation. It returns whether there was one to pass
// on, and whether there may be more.
func (t *Table) askKernel() (asked, full bool) {
	t.mu.Lock()
	views := t.views
	t.mu.Unlock()
	taken := 0
	var fresh []question
	for more := true; more && len(fresh) < batchNew && taken < batchAll; {
		more = false
		for _, v := range views {
			q, ok := v.ring.take()
			if !ok {
				continue
			}
			more = true
			taken++
			if !t.known[q] {
				t.known[q] = true
				fresh = append(fresh, q)
			}
		}
		full = more
	}
	if len(fresh) == 0 {
		return false, full
	}
	t.asked.Add(uint64(len(fresh)))
	if err := t.opts.Use(t.reach(fresh)); err != nil {
		t.refused.Add(refusals(err)) // they stay open
	}
	return true, full
}
