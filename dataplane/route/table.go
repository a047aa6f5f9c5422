// Package route tells workers where routed packets go next: it follows the
// kernel's routes and neighbours, and writes the Ethernet addresses of the next
// hop into frames.
//
// The kernel keeps doing what it does well: it holds the routes, sends ARP and
// neighbour discovery, and answers both for its addresses. A [Table] holds an
// immutable picture of that behind an atomic pointer. One goroutine renews it
// when netlink says that something changed, and each worker reads it through a
// [View] of its own, without locks.
//
//	kernel: routes, neighbours, links
//	   | netlink: changes, then dumps        ^ netlink: use this neighbour
//	   v                                     |
//	goroutine --- atomic pointer --> View    |    one per worker
//	   ^                              |      |
//	   '---- ring: who is 10.0.0.7? --'------'
package route

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Errors returned by this package.
var (
	// ErrClosed says that the table was closed before.
	ErrClosed = errors.New("routes are closed")
	// ErrNoPort says that the table has no such port.
	ErrNoPort = errors.New("no such port")
)

// Options configure a [Table]. The zero value selects the defaults.
type Options struct {
	// Cache is how many destinations each view remembers, rounded up to a
	// power of two; 40 bytes each. Default 4096.
	Cache int
	// Use asks the kernel to look for neighbours, for a process that may not:
	// as [Proxies.Use], which is the default.
	Use func([]Neighbour) error
}

// Stats counts what a table did. All but Generation only rise.
type Stats struct {
	// Generation is the number of the picture that workers see.
	Generation uint32
	// Reads is how often the kernel's tables were read, Failed how often that
	// went wrong. The picture before stays then, and reading is tried again.
	Reads, Failed uint64
	// Asked is how often the kernel was asked to look for a neighbour,
	// Refused how often it would not, as when its table of neighbours is full.
	Asked, Refused uint64
}

// Table follows the routes and neighbours of one network namespace for a set of
// ports. Its methods may be called from any goroutine.
type Table struct {
	opts    Options
	ports   atomic.Pointer[[]int] // interface indices, 0 for none; never changed in place
	current atomic.Pointer[snapshot]

	nl     *netlink.Handle // reads and asks; inside the namespace
	events int             // netlink socket with changes
	wake   waker
	done   chan struct{}

	mu      sync.Mutex
	closed  bool
	views   []*View
	proxies []proxy

	reads, failed, asked, refused atomic.Uint64

	// Of the goroutine.
	known map[question]bool // asked in this generation
}

// Open follows the namespace of the calling thread. The ports are given by the
// indices of their interfaces; a port's number in this package is its place in
// that list. There need be none: see [Table.SetPort]. It returns when the first
// picture is there.
//
// Each time something changes, the namespace's routes are read again: 4 ms for
// 1,000 of them, 28 ms for 10,000 (2-core AMD EPYC VM, Linux 6.18, 2026-11-23).
// That is meant for thousands of routes, not for the Internet's. Only the main
// routing table is read.
func Open(ports []int, opts Options) (_ *Table, err error) {
	if len(ports) > maxPorts {
		return nil, fmt.Errorf("follow routes: %d ports, want at most %d", len(ports), maxPorts)
	}
	if opts.Cache <= 0 {
		opts.Cache = 4096
	}
	t := &Table{opts: opts, events: -1, wake: waker{fd: -1}, done: make(chan struct{}), known: map[question]bool{}}
	list := append([]int(nil), ports...)
	t.ports.Store(&list)
	defer func() {
		if err != nil {
			t.release()
		}
	}()
	if t.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("follow routes: open netlink socket: %w", err)
	}
	if opts.Use == nil {
		t.opts.Use = func(list []Neighbour) error { return use(t.nl, list) }
	}
	// Changes are heard before the first reading, so that none falls between.
	if t.events, err = subscribe(); err != nil {
		return nil, fmt.Errorf("follow routes: subscribe to changes: %w", err)
	}
	if t.wake, err = newWaker(); err != nil {
		return nil, fmt.Errorf("follow routes: %w", err)
	}
	for try := 0; ; try++ {
		if err = t.read(false); err == nil {
			break
		}
		if try == readTries || !errors.Is(err, netlink.ErrDumpInterrupted) {
			return nil, fmt.Errorf("follow routes: %w", err)
		}
	}
	go t.follow(&list)
	return t, nil
}

// maxPorts is how many ports a table can have.
const maxPorts = 64

// readTries is how often Open reads again when changes interrupt it.
const readTries = 10

// View returns a view for one worker. Views end with the table: none may be
// used when Close is called.
func (t *Table) View() *View {
	v := newView(t)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.views = append(t.views, v)
	return v
}

// Stats returns the counters.
func (t *Table) Stats() Stats {
	return Stats{
		Generation: t.current.Load().generation, Reads: t.reads.Load(), Failed: t.failed.Load(),
		Asked: t.asked.Load(), Refused: t.refused.Load(),
	}
}

// Close stops following and takes back what AddProxy gave. Closing again does
// nothing.
func (t *Table) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	t.mu.Unlock()
	t.wake.now()
	<-t.done
	err := t.removeProxies()
	t.release()
	return err
}

func (t *Table) isClosed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.closed
}

// release closes what Open opened. Errors of close are of no use to anybody.
func (t *Table) release() {
	if t.nl != nil {
		t.nl.Close()
	}
	if t.events >= 0 {
		unix.Close(t.events)
	}
	t.wake.close()
}

// links returns the ports' interfaces, not to be changed.
func (t *Table) links() []int { return *t.ports.Load() }

// port returns the interface index of a port.
func (t *Table) port(port int) (ifindex int, err error) {
	links := t.links()
	if port < 0 || port >= len(links) || links[port] == 0 {
		return 0, fmt.Errorf("%w: %d, want 0 to %d", ErrNoPort, port, len(links)-1)
	}
	return links[port], nil
}

// SetPort gives a port another interface, or none with 0: then nothing leaves by
// it. It returns when workers see it. The interface may be gone again by then;
// that is a port whose link is down.
func (t *Table) SetPort(port, ifindex int) error {
	if port < 0 || port >= maxPorts || ifindex < 0 {
		return fmt.Errorf("%w: %d, want 0 to %d", ErrNoPort, port, maxPorts-1)
	}
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return ErrClosed
	}
	list := append([]int(nil), t.links()...)
	for len(list) <= port {
		list = append(list, 0)
	}
	list[port] = ifindex
	t.ports.Store(&list)
	t.mu.Unlock()
	t.wake.now()
	for end := time.Now().Add(setPatience); t.current.Load().of != &list[0]; time.Sleep(setLook) {
		if t.isClosed() {
			return ErrClosed
		}
		if t.ports.Load() != &list {
			return nil // somebody changes another one, and waits for that
		}
		if time.Now().After(end) {
			return fmt.Errorf("follow routes of interface %d: they could not be read within %v; the host may have too many, or change them all the time", ifindex, setPatience)
		}
	}
	return nil
}

// Pace of the goroutine.
const (
	// restAfterRead is the least time between two readings, idleShare how many
	// times as long as it took to read there is rest afterwards: constant
	// changes cost at most a fifth of a core.
	restAfterRead = time.Millisecond
	idleShare     = 4
	// retryAfter is when a failed reading is tried again, and when questions
	// that are still open may be asked again: as often as the kernel sends
	// ARP and neighbour solicitations by default.
	retryAfter = time.Second
	// restAfterBatch is the rest after a batch of questions that was full, of
	// batchNew new ones or batchAll in all: packets to addresses that nobody
	// has cost about 12,000 questions a second and no more.
	restAfterBatch = 5 * time.Millisecond
	batchNew       = 64
	batchAll       = 256
	// setPatience is how long SetPort waits for a picture, setLook how often it
	// looks whether there is one.
	setPatience = 2 * time.Second
	setLook     = 200 * time.Microsecond
)
