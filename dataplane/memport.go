package dataplane

import (
	"sfc/dataplane/packet"
)

// Template is a frame that a [MemPort] offers again and again.
type Template struct {
	Frame []byte
	Meta  packet.Meta
}

// MemPort is a port in memory: it receives templates in turn, each copied into
// a fresh chunk as a device would, and what it transmits it only counts. It is
// the engine's load without a kernel.
type MemPort struct {
	region    []byte
	pool      *packet.Pool
	templates []Template
	next      int
	burst     int

	// Left is how many more frames the port offers.
	Left int
	// Transmitted counts frames sent, TransmittedBytes their length.
	Transmitted, TransmittedBytes uint64
}

// NewMemPort makes a port that offers left frames, at most burst at a time
// (0: packet.BurstSize). Templates have at most packet.MaxFrame bytes; with
// none of them left is 0.
func NewMemPort(region []byte, pool *packet.Pool, templates []Template, burst, left int) *MemPort {
	if burst == 0 {
		burst = packet.BurstSize
	}
	return &MemPort{region: region, pool: pool, templates: templates, burst: burst, Left: left}
}

// Receive implements [Port].
func (m *MemPort) Receive(f []packet.Frame) int {
	n := min(len(f), m.burst, m.Left)
	for i := range n {
		chunk, ok := m.pool.Get()
		if !ok {
			n = i
			break
		}
		t := &m.templates[m.next]
		if m.next++; m.next == len(m.templates) {
			m.next = 0
		}
		f[i] = packet.Frame{Chunk: chunk, Off: packet.Headroom, Len: uint16(len(t.Frame))}
		pos := f[i].Pos()
		copy(m.region[pos:], t.Frame)
		*packet.MetaAt(m.region, pos) = t.Meta
	}
	m.Left -= n
	return n
}

// Transmit implements [Port]; it takes everything.
func (m *MemPort) Transmit(f []packet.Frame) int {
	for _, fr := range f {
		m.TransmittedBytes += uint64(fr.Len)
		m.pool.Put(fr.Chunk)
	}
	m.Transmitted += uint64(len(f))
	return len(f)
}

// Flush implements [Port].
func (m *MemPort) Flush() bool { return false }

// Refill implements [Port].
func (m *MemPort) Refill() {}

// Waiting implements [Port].
func (m *MemPort) Waiting() (rx, tx int) { return 0, 0 }

// PollFD implements [Port].
func (m *MemPort) PollFD() int { return -1 }

// Census implements [Port]: a memory port keeps no chunks.
func (m *MemPort) Census() packet.Census { return packet.Census{} }
