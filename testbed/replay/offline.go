package replay

import (
	"context"
	"errors"
	"io"

	"sfc/ctrl/agent"
	"sfc/dataplane"
	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
)

// capturePort is a port whose far end is the capture: it receives what the
// steering would have sent to the worker, and shows what it transmits to the
// tracker.
type capturePort struct {
	index  int
	region []byte
	pool   *packet.Pool
	t      *tracker
	// source is nil on ports where nothing arrives.
	source *source
	steer  *steering
	key    [2]uint64
	burst  int
	ctx    context.Context

	clock dataplane.Clock
	done  bool
	err   error
}

// Receive implements dataplane.Port.
func (p *capturePort) Receive(f []packet.Frame) int {
	if p.source == nil || p.done {
		return 0
	}
	n := 0
	for n < min(len(f), p.burst) && p.t.room() {
		if p.ctx.Err() != nil {
			p.finish(p.ctx.Err()) // what was sent goes on to its fate
			break
		}
		timeNs, data, cut, err := p.source.next()
		if err != nil {
			p.finish(err)
			break
		}
		s := p.steer.steer(data, cut)
		if !p.t.add(timeNs, data, s) || s.verdict != steerPath {
			p.outside(data, s)
			continue
		}
		chunk, ok := p.pool.Get()
		if !ok {
			panic("replay: the window is smaller than the pool")
		}
		f[n] = packet.Frame{Chunk: chunk, Off: packet.Headroom, Len: uint16(len(data))}
		copy(f[n].Bytes(p.region), data)
		hash := packet.FlowHash(p.key, &s.info)
		*packet.MetaAt(p.region, f[n].Pos()) = packet.Meta{
			RxNs: p.clock.Now(), Seq: p.t.sent() - 1, Hash: hash,
			Path: s.path, Port: portIn, L3: s.info.L3, L4: s.info.L4, Flags: s.info.Flags, Proto: s.info.Proto,
			Version: packet.MetaVersion, VLAN: s.info.VLAN, Bucket: steer.Bucket(hash),
		}
		n++
	}
	return n
}

// outside gives a packet that no worker sees its fate.
func (p *capturePort) outside(data []byte, s steered) {
	if s.unsendable {
		return
	}
	if s.verdict == steerForward {
		p.t.arrived(portOut, data)
		return
	}
	p.t.steeredUpTo(p.t.sent())
}

func (p *capturePort) finish(err error) {
	p.done = true
	if !errors.Is(err, io.EOF) {
		p.err = err
	}
}

// Transmit implements dataplane.Port.
func (p *capturePort) Transmit(f []packet.Frame) int {
	for _, fr := range f {
		p.t.arrived(p.index, fr.Bytes(p.region))
		p.pool.Put(fr.Chunk)
	}
	return len(f)
}

// Flush implements dataplane.Port.
func (p *capturePort) Flush() bool { return false }

// Refill implements dataplane.Port.
func (p *capturePort) Refill() {}

// TxDrained implements dataplane.Port.
func (p *capturePort) TxDrained() bool { return true }

// PollFD implements dataplane.Port.
func (p *capturePort) PollFD() int { return -1 }

// Census implements dataplane.Port: the port keeps no chunks.
func (p *capturePort) Census() packet.Census { return packet.Census{} }

// stackSink counts what the kernel's stack would have been given.
type stackSink struct{}

func (stackSink) Inject([]byte) bool { return true }

// attachOffline stands in a report where no XDP program was attached.
const attachOffline = "offline"

// runOffline takes the capture through the worker on this goroutine's
// schedule: no root, no kernel, the same code from burst to verdict.
func runOffline(ctx context.Context, e *agent.Engine, src *source, t *tracker, rep *Report, opts Options) error {
	in := &capturePort{
		index: portIn, t: t, source: src, key: e.HashKey(), ctx: ctx, burst: opts.Burst, clock: dataplane.NewClock(),
		steer: &steering{table: e.Table(), port: e.Plan().Ports[portIn]},
	}
	if in.burst == 0 {
		in.burst = packet.BurstSize
	}
	out := &capturePort{index: portOut, t: t}
	err := e.ConnectMemory(func(m agent.Memory) []dataplane.Port {
		in.region, in.pool, out.region, out.pool = m.Region, m.Pool, m.Region, m.Pool
		return []dataplane.Port{in, out}
	}, stackSink{}, nil)
	if err != nil {
		return err
	}
	if err := t.open(); err != nil {
		return err
	}
	rep.Mode.Attach, rep.Mode.Bind, rep.Mode.Workers, rep.Mode.Core, rep.Mode.Stack = attachOffline, "memory", 1, -1, "none"
	err = e.Run(func() bool {
		opts.Progress(int(t.progress()), src.total())
		return in.done && t.idle()
	})
	if err != nil {
		return err
	}
	return in.err
}
