package abuse

import (
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"sfc/ctrl/agent"
	"sfc/dataplane/packet"
	"sfc/dataplane/ring"
)

// maxData is the longest frame in bytes that a bed carries.
const maxData = 320

// ringSlots is the size of an RX ring: as many as an AF_XDP socket's.
const ringSlots = 2048

// given is a packet in an RX ring.
type given struct {
	meta packet.Meta
	n    int
	data [maxData]byte
}

// lane is a worker's end of both ports.
type lane struct {
	m     agent.Memory
	ports [2]port
	fd    int         // an eventfd: the worker's poll wakes up
	dry   atomic.Bool // the worker found nothing for a while, and may sleep

	cpuNs   atomic.Int64 // the worker's CPU time for packets
	packets atomic.Int64
	held    atomic.Int64 // the most chunks in use between two bursts; of a single worker

	// The worker's own.
	empty int   // turns without packets
	since int64 // of a burst under way: the thread's CPU time, ns
}

// port is one port of a worker.
type port struct {
	lane  *lane
	in    *ring.Ring[given]
	next  given // the sender's
	batch [packet.BurstSize]given
}

func newLane(tb testing.TB, m agent.Memory) *lane {
	tb.Helper()
	l := &lane{m: m}
	var err error
	l.fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	check(tb, err)
	for i := range l.ports {
		l.ports[i].lane = l
		l.ports[i].in, err = ring.New[given](ringSlots)
		check(tb, err)
	}
	return l
}

func (l *lane) close() { unix.Close(l.fd) }

func (l *lane) wakeUp() {
	l.dry.Store(false)
	one := [8]byte{1}
	_, _ = unix.Write(l.fd, one[:]) // a counter that is full wakes as well
}

// threadNs is the CPU time of the calling thread in ns.
func threadNs() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts) // fails only for a clock that is not there
	return ts.Nano()
}

// Receive implements dataplane.Port.
func (p *port) Receive(f []packet.Frame) int {
	l := p.lane
	if l.since != 0 {
		l.cpuNs.Add(threadNs() - l.since)
		l.since = 0
	}
	n := p.in.Pop(p.batch[:min(len(f), packet.BurstSize)])
	if n == 0 {
		l.rest()
		return 0
	}
	l.empty = 0
	if used := int64(l.m.Pool.Total() - l.m.Pool.Free()); used > l.held.Load() {
		l.held.Store(used)
	}
	for i := range n {
		g := &p.batch[i]
		chunk, ok := l.m.Pool.Get()
		if !ok {
			panic("abuse: more packets under way than chunks")
		}
		f[i] = packet.Frame{Chunk: chunk, Off: packet.Headroom, Len: uint16(g.n)}
		copy(f[i].Bytes(l.m.Region), g.data[:g.n])
		*packet.MetaAt(l.m.Region, f[i].Pos()) = g.meta
	}
	l.packets.Add(int64(n))
	l.since = threadNs()
	return n
}

// rest notes a turn without packets.
func (l *lane) rest() {
	if l.empty++; l.empty%128 == 0 {
		l.dry.Store(true)
		var count [8]byte
		_, _ = unix.Read(l.fd, count[:]) // nothing there is fine
	}
}

// Transmit implements dataplane.Port: what is sent has left.
func (p *port) Transmit(f []packet.Frame) int {
	for _, fr := range f {
		p.lane.m.Pool.Put(fr.Chunk)
	}
	return len(f)
}

// Flush implements dataplane.Port.
func (p *port) Flush() bool { return false }

// Refill implements dataplane.Port.
func (p *port) Refill() {}

// Waiting implements dataplane.Port.
func (p *port) Waiting() (rx, tx int) { return p.in.Len(), 0 }

// PollFD implements dataplane.Port.
func (p *port) PollFD() int { return p.lane.fd }

// Census implements dataplane.Port: what waits has no chunk yet.
func (p *port) Census() packet.Census { return packet.Census{Rx: p.in.Len()} }

// cost is the CPU time in ns that the workers took for a packet since the last
// call. Nothing is under way.
func (b *bed) cost() float64 {
	b.tb.Helper()
	b.settle()
	var cpu, packets int64
	for _, l := range b.lanes {
		cpu += l.cpuNs.Swap(0)
		packets += l.packets.Swap(0)
	}
	return float64(cpu) / float64(max(packets, 1))
}
