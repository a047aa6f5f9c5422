package bench

import (
	"encoding/binary"
	"math/bits"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"sfc/ctrl/agent"
	"sfc/dataplane"
	"sfc/dataplane/packet"
)

// port is a worker's port in memory. What it receives, and what is done with
// what it transmits, a job says.
//
// Owner: the worker; give may be called by anyone.
type port struct {
	index  int
	mem    agent.Memory
	clock  dataplane.Clock
	wakeFD int // readable when there is a job: a worker may sleep
	next   atomic.Pointer[job]
	job    job // nil: none
}

// job is work for the ports of a worker.
type job interface {
	// receive fills f with frames that arrive at p, and says whether more will.
	receive(p *port, f []packet.Frame) (n int, more bool)
	// sent sees the frames that leave by p. Their chunks are given back behind it.
	sent(p *port, f []packet.Frame)
}

func newPort(m agent.Memory, index int) (*port, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	return &port{index: index, mem: m, clock: dataplane.NewClock(), wakeFD: fd}, err
}

// give leaves a job for the port, which has none.
func (p *port) give(j job) error {
	p.next.Store(&j)
	one := [8]byte{1}
	_, err := unix.Write(p.wakeFD, one[:])
	return err
}

// take begins with the job that was left, if there is one.
func (p *port) take() {
	if p.next.Load() != nil {
		p.job = *p.next.Swap(nil)
		var count [8]byte
		_, _ = unix.Read(p.wakeFD, count[:]) // nothing there is fine
	}
}

// Receive implements [dataplane.Port].
func (p *port) Receive(f []packet.Frame) int {
	if p.take(); p.job == nil {
		return 0
	}
	n, more := p.job.receive(p, f)
	if !more {
		p.job = nil
	}
	return n
}

// Transmit implements [dataplane.Port]; it takes everything.
func (p *port) Transmit(f []packet.Frame) int {
	if p.take(); p.job != nil { // what arrived elsewhere may be first to come here
		p.job.sent(p, f)
	}
	for _, fr := range f {
		p.mem.Pool.Put(fr.Chunk)
	}
	return len(f)
}

// Flush implements [dataplane.Port].
func (p *port) Flush() bool { return false }

// Refill implements [dataplane.Port].
func (p *port) Refill() {}

// Waiting implements [dataplane.Port].
func (p *port) Waiting() (rx, tx int) { return 0, 0 }

// PollFD implements [dataplane.Port].
func (p *port) PollFD() int { return p.wakeFD }

// Census implements [dataplane.Port]: the port keeps no chunks.
func (p *port) Census() packet.Census { return packet.Census{} }

// shot is a packet as a port makes it: what it does not share with the others
// of its kind. Words are as they lie in the packet.
type shot struct {
	addrs  uint64
	ports  uint32
	hash   uint32
	ipSum  uint16
	l4Sum  uint16
	bucket uint16
	path   uint8
	kind   uint8
}

func (s *shot) tuple() tuple {
	return tuple{
		bits.ReverseBytes32(uint32(s.addrs)), bits.ReverseBytes32(uint32(s.addrs >> 32)),
		bits.ReverseBytes16(uint16(s.ports)), bits.ReverseBytes16(uint16(s.ports >> 16)),
	}
}

// shoot writes a packet into a chunk; false when there is none.
func (p *port) shoot(s *shot, k *kind, f *packet.Frame, now uint64) bool {
	chunk, ok := p.mem.Pool.Get()
	if !ok {
		return false
	}
	*f = packet.Frame{Chunk: chunk, Off: packet.Headroom, Len: k.len}
	pos := f.Pos()
	h := p.mem.Region[pos:][:headBytes]
	copy(h, k.head[:])
	binary.LittleEndian.PutUint16(h[ipSumAt:], s.ipSum)
	binary.LittleEndian.PutUint64(h[addrsAt:], s.addrs)
	binary.LittleEndian.PutUint32(h[l4At:], s.ports)
	sum := udpSumAt
	if k.proto == packet.ProtoTCP {
		sum = tcpSumAt
	}
	binary.LittleEndian.PutUint16(h[sum:], s.l4Sum)
	*packet.MetaAt(p.mem.Region, pos) = packet.Meta{
		RxNs: now, Hash: s.hash, Path: uint16(s.path), Port: uint16(p.index), L3: ipAt, L4: l4At,
		Flags: packet.FlagIPv4, Proto: k.proto, Version: packet.MetaVersion, Bucket: s.bucket,
	}
	return true
}
