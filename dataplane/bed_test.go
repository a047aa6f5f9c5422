package dataplane

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"sfc/chains"
	"sfc/dataplane/packet"
	"sfc/nf"
	"sfc/testbed/gate"
)

// process is a service function's Process, with the region its frames lie in.
type process func(region []byte, d []packet.Desc)

// funcOf is a service function made of a Go function.
type funcOf struct {
	process process
	region  []byte
}

func (f funcOf) Process(d []packet.Desc) { f.process(f.region, d) }
func (f funcOf) Close() error            { return nil }

// fakePort plays a socket: it hands out frames that the test queued and keeps
// what was sent. Room limits how many frames its TX ring takes per Flush.
type fakePort struct {
	region []byte
	pool   *packet.Pool
	in     []Template
	sent   [][]byte
	tx     []packet.Frame
	room   int
}

func (p *fakePort) Receive(f []packet.Frame) int {
	n := 0
	for n < len(f) && len(p.in) > 0 {
		chunk, ok := p.pool.Get()
		if !ok {
			break
		}
		t := p.in[0]
		p.in = p.in[1:]
		f[n] = packet.Frame{Chunk: chunk, Off: packet.Headroom, Len: uint16(len(t.Frame))}
		copy(p.region[f[n].Pos():], t.Frame)
		*packet.MetaAt(p.region, f[n].Pos()) = t.Meta
		n++
	}
	return n
}

func (p *fakePort) Transmit(f []packet.Frame) int {
	n := min(len(f), p.room-len(p.tx))
	p.tx = append(p.tx, f[:n]...)
	return n
}

func (p *fakePort) Flush() bool {
	for _, f := range p.tx {
		p.sent = append(p.sent, bytes.Clone(f.Bytes(p.region)))
		p.pool.Put(f.Chunk)
	}
	p.tx = p.tx[:0]
	return false
}

func (p *fakePort) Refill()               {}
func (p *fakePort) Waiting() (rx, tx int) { return len(p.in), len(p.tx) }
func (p *fakePort) PollFD() int           { return -1 }
func (p *fakePort) Census() packet.Census { return packet.Census{Tx: len(p.tx)} }

// bed is a worker with two fake ports and two paths.
type bed struct {
	w     *Worker
	ports []*fakePort
	descs [2]*[packet.BurstSize]packet.Desc
}

func newBed(t *testing.T, shared bool, fns ...process) *bed {
	t.Helper()
	region := make([]byte, 256*packet.ChunkSize)
	pool := packet.NewPool(len(region))
	b := &bed{}
	cfg := Config{Core: -1, Region: region, Pool: pool, GuestBase: nf.FramesStart}
	for range 2 {
		p := &fakePort{region: region, pool: pool, room: 32}
		b.ports = append(b.ports, p)
		cfg.Ports = append(cfg.Ports, p)
	}
	for i := range 2 {
		b.descs[i] = new([packet.BurstSize]packet.Desc)
		path := Path{Chain: uint16(i), Descs: b.descs[i], Egress: 1}
		frames := region
		if shared {
			path.Arena = make([]byte, packet.BurstSize*packet.ChunkSize)
			frames = path.Arena
		}
		hops, reasons := make([]chains.Function, len(fns)), make([]uint16, len(fns))
		for k, fn := range fns {
			hops[k], reasons[k] = funcOf{fn, frames}, 2
		}
		path.Runner = chains.NewForwarder(b.descs[i], 2, hops, reasons)
		cfg.Paths = append(cfg.Paths, path)
	}
	w, err := NewWorker(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b.w = w
	return b
}

// offer queues n frames on port 0, alternating between the paths.
func (b *bed) offer(n int) {
	for i := range n {
		frame := fmt.Appendf(nil, "frame %06d ............................", i)
		b.ports[0].in = append(b.ports[0].in, Template{Frame: frame,
			Meta: packet.Meta{Seq: uint32(i), Path: uint16(i % 2), L3: 14, L4: 34}})
	}
}

func allNext(_ []byte, d []packet.Desc) {
	for i := range d {
		d[i].Verdict = packet.Next
	}
}

// run lets the worker take n frames, then stops it and checks its books.
func (b *bed) run(t *testing.T, n uint64) Counters {
	t.Helper()
	gate.Leaks(t)
	if err := b.w.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); b.w.Counters().Received < n && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if err := b.w.Stop(); err != nil {
		t.Fatal(err)
	}
	c := b.w.Counters()
	if c.Received != n || c.Received != c.Sent+c.Passed+c.Dropped {
		t.Errorf("received %d of %d, sent %d + passed %d + dropped %d", c.Received, n, c.Sent, c.Passed, c.Dropped)
	}
	if err := b.w.Verify(); err != nil {
		t.Error(err)
	}
	return c
}

// swapPort puts another port in the place of one of the worker's.
func (w *Worker) swapPort(index int, p Port) {
	w.ports[index].Port = p
	w.tx[index].port = p
}
