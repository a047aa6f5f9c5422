package chains

import (
	"errors"

	"sfc/dataplane/packet"
	"sfc/nf"
)

// Forwarder is the service function forwarder (SFF) of one path on one worker
// for functions of this process. It settles verdicts by the same rules as the
// C side of nf/wasm does for guests (nf/wasm/chain.c), which a test compares
// packet by packet.
//
// Owner: the worker. It implements Runner.
type Forwarder struct {
	hops  []Function
	descs *[packet.BurstSize]packet.Desc
	ports uint16
	// reasons is the number of drop reasons each hop declares.
	reasons []uint16
	// where is what a descriptor's Chunk, Off and Len should be, by packet.
	where [packet.BurstSize]packet.Frame
	idx   [packet.BurstSize]uint8
}

// NewForwarder makes the forwarder of a path. The descriptors are those the
// worker fills; ports is the number of ports; reasons has the number of drop
// reasons of each hop.
func NewForwarder(descs *[packet.BurstSize]packet.Desc, ports int, hops []Function, reasons []uint16) *Forwarder {
	return &Forwarder{hops: hops, descs: descs, ports: uint16(ports), reasons: reasons}
}

// Process walks a burst along the hops; see Runner.
func (f *Forwarder) Process(b *packet.Burst) {
	n := int(b.N)
	for k := range n {
		f.idx[k] = uint8(k)
		f.where[k] = b.Frames[k]
		b.Out[k] = packet.Outcome{Verdict: packet.Tx, Hop: packet.HopEngine, Port: f.descs[k].OutPort}
	}
	for h, fn := range f.hops {
		if n == 0 {
			return
		}
		fn.Process(f.descs[:n])
		n = f.collect(b, h, n)
	}
}

// collect settles the burst after hop h and keeps the packets that go on at
// the front of the descriptors, in order, verdicts cleared.
func (f *Forwarder) collect(b *packet.Burst, h, n int) int {
	kept := 0
	for i := range n {
		d := &f.descs[i]
		k := f.idx[i]
		if !f.settle(b, h, int(k), d) {
			continue
		}
		d.Verdict, d.Reason = packet.Abort, 0
		if kept != i {
			f.descs[kept] = *d
			f.idx[kept] = k
		}
		kept++
	}
	return kept
}

// settle reads a descriptor once, checks it and writes the host's own record.
// It returns whether the packet goes on to the next hop.
func (f *Forwarder) settle(b *packet.Burst, h, k int, d *packet.Desc) bool {
	verdict, reason, port := d.Verdict, d.Reason, d.OutPort
	at := packet.Frame{Chunk: d.Chunk - nf.FramesStart, Off: d.Off, Len: d.Len}
	out := &b.Out[k]
	engine := func(r packet.Reason) bool {
		*out = packet.Outcome{Verdict: packet.Drop, Hop: uint8(h), Reason: uint16(r), Port: out.Port, Fault: 1}
		return false
	}
	switch {
	case verdict == packet.Abort || verdict >= packet.NumVerdicts:
		return engine(packet.ReasonNoVerdict)
	case verdict == packet.Drop:
		if reason > f.reasons[h] {
			reason = 0
		}
		*out = packet.Outcome{Verdict: packet.Drop, Hop: uint8(h), Reason: reason, Port: out.Port}
		return false
	}
	if at != f.where[k] {
		if at.Chunk != f.where[k].Chunk || at.Len < packet.MinFrame || int(at.Off)+int(at.Len) > packet.ChunkSize {
			return engine(packet.ReasonBadDescriptor)
		}
		f.where[k] = at
		b.Frames[k] = at
	}
	if port >= f.ports {
		return engine(packet.ReasonBadPort)
	}
	out.Port = port
	if verdict == packet.Next {
		return true
	}
	out.Verdict, out.Hop = verdict, uint8(h)
	return false
}

// Tick does nothing: functions of this process keep no time of their own.
func (f *Forwarder) Tick(uint64) {}

// FlowEnd does nothing: functions of this process keep no flow state.
func (f *Forwarder) FlowEnd([]uint32) {}

// FlowBytes is 0: see FlowEnd.
func (f *Forwarder) FlowBytes() int { return 0 }

// TakeFlow does nothing: there is nothing to take.
func (f *Forwarder) TakeFlow(uint32, []byte) {}

// ClearFlow does nothing either.
func (f *Forwarder) ClearFlow(uint32) {}

// GiveFlow does nothing either.
func (f *Forwarder) GiveFlow(uint32, []byte) {}

// Close closes the hops in reverse order.
func (f *Forwarder) Close() error {
	var errs []error
	for i := len(f.hops) - 1; i >= 0; i-- {
		errs = append(errs, f.hops[i].Close())
	}
	return errors.Join(errs...)
}
