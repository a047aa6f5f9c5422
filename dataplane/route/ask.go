package route

import (
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// question asks who has an address on a port.
type question struct {
	port int
	addr key
}

const ringSize = 64

// ring takes questions from one worker to the table's goroutine. Single
// producer, single consumer; when it is full, questions wait where they came
// from.
type ring struct {
	slots [ringSize]question
	head  atomic.Uint32 // next to write; the worker's
	tail  atomic.Uint32 // next to read; the goroutine's
}

func (r *ring) put(q question) bool {
	head := r.head.Load()
	if head-r.tail.Load() == ringSize {
		return false
	}
	r.slots[head%ringSize] = q
	r.head.Store(head + 1)
	return true
}

func (r *ring) take() (q question, ok bool) {
	tail := r.tail.Load()
	if r.head.Load() == tail {
		return q, false
	}
	q = r.slots[tail%ringSize]
	r.tail.Store(tail + 1)
	return q, true
}

// waker wakes a goroutine that sleeps in poll. Workers pay for the system call
// only when it does sleep.
type waker struct {
	fd     int
	asleep *atomic.Bool
}

func newWaker() (waker, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return waker{fd: -1}, fmt.Errorf("make eventfd: %w", err)
	}
	return waker{fd, new(atomic.Bool)}, nil
}

// eventOne is what is written to an eventfd: one, in either byte order.
var eventOne = [8]byte{1, 0, 0, 0, 0, 0, 0, 1}

// now wakes the goroutine, or keeps it from falling asleep.
func (w *waker) now() {
	// It fails only when the counter is full, and then poll returns as well.
	_, _ = unix.Write(w.fd, eventOne[:])
}

// ifAsleep wakes the goroutine if it sleeps or is about to.
func (w *waker) ifAsleep() {
	if w.asleep.Load() && w.asleep.Swap(false) {
		w.now()
	}
}

func (w *waker) clear() {
	var count [8]byte
	_, _ = unix.Read(w.fd, count[:])
}

func (w *waker) close() {
	if w.fd >= 0 {
		unix.Close(w.fd)
	}
}
