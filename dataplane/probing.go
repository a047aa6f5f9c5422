package dataplane

import (
	"math/bits"

	"sfc/dataplane/packet"
)

// What a worker does for the probes of a chain. Without one it is a look at the
// length of a list for each burst.

// probeIn shows a burst before its functions run.
func (w *Worker) probeIn(l *lane) {
	b, c := &l.b, l.chain
	region := w.frames(l)
	want := uint64(0)
	for _, p := range c.probes {
		p.chosen = 0
		if !p.Follow && !p.at(AtIngress) && !p.at(AtHop) {
			continue
		}
		for k := range int(b.N) {
			frame := b.Frames[k].Bytes(region)
			if p.Filter != nil && !p.Filter(frame) {
				continue
			}
			p.chosen |= 1 << k
			if p.at(AtIngress) {
				if r := w.record(p, l, k, AtIngress); r != nil {
					r.TimeNs, r.OutPort, r.Verdict, r.Reason, r.Hop = b.RxNs[k], l.Egress, packet.Next, 0, packet.HopEngine
					p.put(r, frame, nil)
					p.commit()
				}
			}
		}
		if p.at(AtHop) {
			want |= p.chosen
		}
	}
	if c.trace != nil {
		c.trace.Want = want
	}
}

// frames is the region in which a lane's packets lie.
func (w *Worker) frames(l *lane) []byte {
	if l.Arena != nil {
		return l.Arena
	}
	return w.cfg.Region
}

// record begins a record of packet k of a burst; nil when there is no room.
func (w *Worker) record(p *probe, l *lane, k int, pt Point) *Record {
	p.seen.Store(p.seen.Load() + 1)
	r := p.reserve()
	if r == nil {
		return nil
	}
	b := &l.b
	*r = Record{
		TimeNs: b.NowNs, Seq: b.Seq[k], InPort: b.InPort[k], Slot: b.Slot[k], Bucket: b.Bucket[k],
		Worker: uint16(w.cfg.Index), Chain: l.chain.index, Path: b.Path, Point: pt, Burst: uint16(b.N),
		Len: b.Frames[k].Len,
	}
	return r
}

// probeOut shows a burst after its packets have their fates: what functions made
// of them, what leaves, and what does not.
func (w *Worker) probeOut(l *lane) {
	b, c := &l.b, l.chain
	for _, p := range c.probes {
		if p.at(AtHop) && c.trace != nil {
			w.probeHops(p, l)
		}
		if !p.at(AtEgress) && !p.at(AtDrop) {
			continue
		}
		for k := range int(b.N) {
			o := b.Out[k]
			pt, f, region := AtEgress, b.Frames[k], w.frames(l)
			switch {
			case o.Verdict != packet.Tx && o.Verdict != packet.Pass:
				pt = AtDrop
			case o.Verdict == packet.Tx && l.Arena != nil: // as it was written back
				f = packet.Frame{Chunk: l.umem[k].Chunk, Off: f.Off, Len: f.Len}
				region = w.cfg.Region
			}
			if !p.at(pt) {
				continue
			}
			frame := f.Bytes(region)
			if p.Follow && p.chosen>>k&1 == 0 || !p.Follow && p.Filter != nil && !p.Filter(frame) {
				continue
			}
			r := w.record(p, l, k, pt)
			if r == nil {
				continue
			}
			r.Verdict, r.Hop, r.Reason, r.Fault, r.OutPort = o.Verdict, o.Hop, o.Reason, o.Fault != 0, o.Port
			r.TookNs = since(b.RxNs[k], w.clock.Now())
			p.put(r, frame, nil)
			p.commit()
		}
	}
}

// since is the time from then to now; 0 when that is not known.
func since(then, now uint64) uint64 {
	if then == 0 || then > now {
		return 0
	}
	return now - then
}

// probeHops shows what functions made of the packets that a probe chose.
func (w *Worker) probeHops(p *probe, l *lane) {
	t := l.chain.trace
	for i := range int(min(t.N, packet.HopRecords)) {
		h := &t.Records[i]
		k := int(h.Packet) & (packet.BurstSize - 1)
		if p.chosen>>k&1 == 0 || p.Hops>>h.Hop&1 == 0 {
			continue
		}
		r := w.record(p, l, k, AtHop)
		if r == nil {
			continue
		}
		r.TookNs, r.Burst, r.Hop = h.TookNs, h.Burst, h.Hop
		r.Verdict, r.Reason, r.Fault, r.OutPort = h.Verdict, h.Reason, h.Fault != 0, h.OutPort
		r.Len, r.BeforeLen = h.After.Len, h.Before.Len
		var after, before []byte
		if p.Sides&packet.TraceAfter != 0 {
			after = t.BytesAfter(h)
		}
		if p.Sides&packet.TraceBefore != 0 {
			before = t.BytesBefore(h)
		}
		p.put(r, after, before)
		p.commit()
	}
	if t.Lost > 0 {
		p.lost.Store(p.lost.Load() + uint64(bits.OnesCount64(p.chosen))) // about: the trace does not say whose
	}
}

// probeDrop shows a packet that the engine dropped outside a burst.
func (w *Worker) probeDrop(c *chain, f packet.Frame, m *packet.Meta, reason packet.Reason) {
	for _, p := range c.probes {
		if !p.at(AtDrop) {
			continue
		}
		frame := f.Bytes(w.cfg.Region)
		if p.Filter != nil && !p.Filter(frame) {
			continue
		}
		p.seen.Store(p.seen.Load() + 1)
		r := p.reserve()
		if r == nil {
			continue
		}
		now := w.clock.Now()
		*r = Record{
			TimeNs: now, TookNs: since(m.RxNs, now), Seq: m.Seq, InPort: m.Port, Slot: packet.NoSlot, Bucket: m.Bucket,
			Worker: uint16(w.cfg.Index), Chain: c.index, Path: m.Path, Point: AtDrop,
			Verdict: packet.Drop, Hop: packet.HopEngine, Reason: uint16(reason), Len: f.Len,
		}
		p.put(r, frame, nil)
		p.commit()
	}
}
