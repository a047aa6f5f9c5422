package replay

import (
	"sfc/ctrl/agent"
	"sfc/dataplane"
	"sfc/dataplane/classify"
	"sfc/dataplane/packet"
)

// memory is a worker's end of a port whose far end is the capture.
type memory struct {
	port    int
	region  []byte
	pool    *packet.Pool
	t       *tracker
	placing *classify.Placing
	clock   dataplane.Clock
}

// put gives the worker a packet that the steering has counted for it.
func (m *memory) put(p *parcel, seq uint32, at classify.Place) packet.Frame {
	chunk, ok := m.pool.Get()
	if !ok {
		panic("replay: the window is smaller than the pool")
	}
	in := &p.s.info
	f := packet.Frame{Chunk: chunk, Off: packet.Headroom, Len: uint16(len(p.data))}
	copy(f.Bytes(m.region), p.data)
	*packet.MetaAt(m.region, f.Pos()) = packet.Meta{
		RxNs: m.clock.Now(), Seq: seq, Hash: uint32(at.Hash),
		Path: p.s.path, Port: uint16(m.port), L3: in.L3, L4: in.L4, Flags: in.Flags, Proto: in.Proto,
		Version: packet.MetaVersion, VLAN: in.VLAN, Bucket: at.Bucket,
	}
	return f
}

// Transmit implements dataplane.Port.
func (m *memory) Transmit(f []packet.Frame) int {
	for _, fr := range f {
		m.t.arrived(m.port, fr.Bytes(m.region))
		m.pool.Put(fr.Chunk)
	}
	return len(f)
}

// Flush implements dataplane.Port.
func (m *memory) Flush() bool { return false }

// Refill implements dataplane.Port.
func (m *memory) Refill() {}

// Waiting implements dataplane.Port.
func (m *memory) Waiting() (rx, tx int) { return 0, 0 }

// steeredAlone gives a packet that no worker sees its fate.
func steeredAlone(t *tracker, p *parcel) {
	if p.s.verdict == steerForward {
		t.arrived(p.s.to, p.data)
		return
	}
	t.steeredUpTo(p.port, t.sent(p.port))
}

// capturePort takes packets out of the feed for the only worker there is.
type capturePort struct {
	memory
	f     *feed
	burst int
}

// Receive implements dataplane.Port.
func (c *capturePort) Receive(f []packet.Frame) int {
	n := 0
	for n < min(len(f), c.burst) {
		p, send := c.f.take(c.port)
		if p == nil {
			break
		}
		switch {
		case !send:
		case p.s.verdict != steerPath:
			steeredAlone(c.t, p)
		default:
			f[n] = c.put(p, c.t.sent(c.port)-1, c.placing.Place(p.s.path, &p.s.info))
			n++
		}
	}
	return n
}

// PollFD implements dataplane.Port.
func (c *capturePort) PollFD() int { return -1 }

// Census implements dataplane.Port: the port keeps no chunks.
func (c *capturePort) Census() packet.Census { return packet.Census{} }

// stackSink counts what the kernel's stack would have been given.
type stackSink struct{}

func (stackSink) Inject([]byte) bool { return true }

// attachOffline stands in a report where no XDP program was attached.
const attachOffline = "offline"

// runOffline takes the capture through the workers: no root, no kernel, the
// same code from burst to verdict.
func runOffline(e *agent.Engine, f *feed, t *tracker, d *disturbance, rep *Report, opts Options) error {
	rep.Mode.Attach, rep.Mode.Bind, rep.Mode.Stack = attachOffline, "memory", "none"
	if opts.Workers > 1 {
		return runInMemory(e, f, t, d, opts)
	}
	var list []*capturePort
	err := e.ConnectMemory(func(m agent.Memory) (out []dataplane.Port) {
		for i := range ports {
			p := &capturePort{memory: newMemory(i, m, t), f: f, burst: opts.Burst}
			if p.burst == 0 {
				p.burst = packet.BurstSize
			}
			list, out = append(list, p), append(out, p)
		}
		return out
	}, stackSink{}, nil)
	if err != nil {
		return err
	}
	for _, p := range list {
		p.placing = e.Placing()
	}
	if err := t.open(); err != nil {
		return err
	}
	d.start()
	defer d.stop()
	err = e.Run(func() bool {
		opts.Progress(int(t.progress()), f.src.total())
		return f.ended && t.idle()
	})
	if err != nil {
		return err
	}
	return d.verdict(f.stopped)
}

func newMemory(port int, m agent.Memory, t *tracker) memory {
	return memory{port: port, region: m.Region, pool: m.Pool, t: t, clock: dataplane.NewClock()}
}
