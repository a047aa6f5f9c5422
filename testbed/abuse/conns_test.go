package abuse

import (
	"sync/atomic"

	"sfc/dataplane/packet"
)

// conn is a TCP connection between a client behind port in and a server behind
// port out. One of its packets is under way at a time: what the other side
// acknowledges has arrived.
type conn struct {
	client, server end
	outside        atomic.Uint64 // the client as the server sees it, 0: not yet
	moved          atomic.Bool   // the server saw another one later
	misled         atomic.Bool   // the client got something from or for somebody else
	number         [2]uint32     // the next sequence number of each side
	last           uint32        // number of the packet under way
	busy           bool
	by             int // side that it is from
	data           uint32
	lost           int
}

func pack(e end) uint64   { return uint64(e.addr)<<16 | uint64(e.port) }
func unpack(v uint64) end { return end{uint32(v >> 16), uint16(v)} }

// crowd is connections that talk, in turn.
type crowd struct {
	b     *bed
	conns []conn
	list  []int // those of conns that talk
	next  int
	buf   [maxData]byte
}

// payload is the bytes of data in every segment of a conversation.
const payload = 16

// newCrowd opens n connections, each from an address and port of its own in
// 10.0.0.0/9, and completes their handshakes.
func newCrowd(b *bed, n int) *crowd {
	b.tb.Helper()
	c := &crowd{b: b, conns: make([]conn, n)}
	b.seen = c.seen
	for i := range c.conns {
		k := &c.conns[i]
		c.list = append(c.list, i)
		k.client = end{10<<24 | 1<<16 | uint32(i)>>4, uint16(20000 + i&15)}
		k.server = end{198<<24 | 51<<16 | 100<<8 | uint32(i)%200, 443}
		k.number = [2]uint32{1000 + uint32(i), 5000 + uint32(i)}
	}
	steps := []struct {
		side  int
		flags uint8
	}{{0, syn}, {1, syn | ack}, {0, ack}}
	for _, s := range steps {
		for i := range c.conns {
			c.send(i, s.side, s.flags, 0, setup)
		}
		b.settle()
		for i := range c.conns {
			k := &c.conns[i]
			c.land(k)
			if s.flags&syn != 0 {
				k.number[s.side]++
			}
		}
	}
	for i := range c.conns {
		if c.conns[i].lost != 0 {
			b.tb.Fatalf("connection %d did not open: %v", i, b.account(setup, 0))
		}
	}
	return c
}

// send sends a segment of a connection's side.
func (c *crowd) send(i, side int, flags uint8, data int, k kind) {
	n := &c.conns[i]
	src, dst, acks := n.client, n.server, uint32(0)
	if side == 1 {
		src, dst = n.server, unpack(n.outside.Load())
	}
	if flags&ack != 0 {
		acks = n.number[1-side]
	}
	n.by, n.data, n.busy = side, uint32(data), true
	n.last = c.b.offer(side, tcpFrame(c.buf[:], src, dst, flags, n.number[side], acks, data), k, uint32(i))
}

// land takes note of the fate of a connection's packet, and says whether it has
// met one.
func (c *crowd) land(n *conn) bool {
	if !n.busy {
		return true
	}
	o, ok := c.b.fate(n.last)
	if !ok {
		return false
	}
	n.busy = false
	if o.Verdict == packet.Tx {
		n.number[n.by] += n.data
	} else {
		n.lost++
	}
	return true
}

// one sends the next segment of some connection: client and server in turn.
func (c *crowd) one() {
	for tries := 0; ; tries++ {
		i := c.list[c.next]
		if c.next++; c.next == len(c.list) {
			c.next = 0
		}
		if n := &c.conns[i]; c.land(n) {
			c.send(i, 1-n.by, ack|psh, payload, talk)
			return
		}
		c.b.patience(tries)
	}
}

// wait returns when no packet of these connections is under way.
func (c *crowd) wait() {
	for _, i := range c.list {
		for n := 0; !c.land(&c.conns[i]); n++ {
			c.b.patience(n)
		}
	}
}

// seen is told of what leaves the engine: the server learns from the first
// packet where the client seems to be, and both see to whom packets go.
func (c *crowd) seen(ref uint32, k kind, port uint16, frame []byte) {
	if k != setup && k != talk {
		return
	}
	n := &c.conns[ref]
	src, dst := ends(frame)
	if port == portIn {
		if src != n.server || dst != n.client {
			n.misled.Store(true)
		}
		return
	}
	if !n.outside.CompareAndSwap(0, pack(src)) && n.outside.Load() != pack(src) || dst != n.server {
		n.moved.Store(true)
	}
}

// unharmed checks that nothing of the conversations was lost or went astray.
func (c *crowd) unharmed(what string) {
	c.b.tb.Helper()
	c.b.settle()
	lost, moved, misled := 0, 0, 0
	for i := range c.conns {
		n := &c.conns[i]
		c.land(n)
		lost += n.lost
		if n.moved.Load() {
			moved++
		}
		if n.misled.Load() {
			misled++
		}
	}
	a := c.b.account(talk, 0)
	if lost != 0 || a.drops() != 0 || a.passed != 0 || moved != 0 || misled != 0 {
		c.b.tb.Errorf("%s: of %d established connections %d packets were lost, %d changed their address, %d got others' packets: %v",
			what, len(c.conns), lost, moved, misled, a)
	}
}
