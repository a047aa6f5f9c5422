package dataplane

import (
	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
)

// sort puts received frames into the bursts of their paths, except those whose
// flows are not this worker's to process now.
func (w *Worker) sort(frames []packet.Frame) {
	for _, f := range frames {
		// Read once: a function that is being configured on another thread may
		// write to its tenant's frames, and Path is an index.
		m := *packet.MetaAt(w.cfg.Region, f.Pos())
		m.Bucket &= steer.Buckets - 1
		l := w.lane(m.Path)
		if l == nil {
			w.noPath(f, m.Seq)
			continue
		}
		c := l.chain
		switch {
		case m.Flags&odd != 0 && w.flows:
			w.sortOdd(l, f, &m)
			continue
		case c.buckets != nil && m.Flags&odd == 0 && !c.count(m.Bucket):
			w.foreign(&item{frame: f, meta: m})
			continue
		case c.share.divert:
			w.queued(l, &item{frame: f, meta: m})
			continue
		}
		w.add(l, f, &m)
	}
}

// noPath drops a frame whose metadata names no path.
func (w *Worker) noPath(f packet.Frame, seq uint32) {
	w.dropEngine(f, packet.ReasonNoPath)
	if w.cfg.Observer != nil {
		w.cfg.Observer.Unknown(seq)
	}
}

// add puts a frame into the burst of its path and writes its descriptor. It
// returns its place.
func (w *Worker) add(l *lane, f packet.Frame, m *packet.Meta) int {
	c := l.chain
	if c.open != l {
		w.open(l)
	}
	if l.b.N == packet.BurstSize {
		w.runLane(l) // only when packets that were held come on top
		c.open = l
	}
	k := l.b.N & (packet.BurstSize - 1)
	if !l.active {
		l.active = true
		w.active = append(w.active, l)
	}
	l.b.N = k + 1
	l.bytes += uint64(f.Len)
	l.b.RxNs[k] = m.RxNs
	l.b.TimeNs[k] = m.RxNs
	l.b.Seq[k] = m.Seq
	l.b.InPort[k] = m.Port
	l.b.Bucket[k] = m.Bucket
	l.b.Slot[k] = packet.NoSlot
	if l.Arena != nil {
		l.umem[k] = f
		own := packet.Frame{Chunk: k * packet.ChunkSize, Off: f.Off, Len: f.Len}
		copy(own.Bytes(l.Arena), f.Bytes(w.cfg.Region))
		f = own
	}
	if c.lookup != nil {
		c.lookup.metas[k] = *m
	}
	l.b.Frames[k] = f
	d := &l.Descs[k]
	d.Chunk = w.cfg.GuestBase + f.Chunk
	d.Off, d.Len = f.Off, f.Len
	d.L3 = f.Off + m.L3
	d.L4 = 0
	if m.L4 != 0 {
		d.L4 = f.Off + m.L4
	}
	d.Proto = m.Proto
	d.Flags = m.Flags
	d.Slot = packet.NoSlot
	d.Hash = m.Hash
	d.RxNs = m.RxNs
	d.InPort, d.OutPort = m.Port, l.Egress
	d.Mark = 0
	d.Verdict, d.Reason = packet.Abort, 0
	d.VLAN = m.VLAN
	return int(k)
}

// open makes l the lane whose burst lies in the descriptors of its chain. A
// burst of another of its paths goes first.
func (w *Worker) open(l *lane) {
	if o := l.chain.open; o != nil && o.b.N > 0 {
		w.runLane(o)
	}
	l.chain.open = l
}

// runLane takes one burst along its path and acts on the verdicts.
func (w *Worker) runLane(l *lane) {
	b, c := &l.b, l.chain
	if b.N == 0 {
		return // another path of the chain needed the descriptors
	}
	c.open = nil
	if w.now = w.mark; w.now == 0 {
		w.now = w.clock.Now()
	}
	b.NowNs = w.now
	if w.cfg.Observer != nil {
		w.cfg.Observer.Received(b)
		for k := range int(b.N) {
			l.Descs[k].RxNs = b.TimeNs[k]
		}
	}
	sweep := burstSweep
	if c.tick(b.NowNs) {
		sweep = idleSweep
	}
	if c.lookup != nil {
		w.lookup(l)
	}
	if len(c.probes) > 0 {
		w.probeIn(l)
	}
	l.Runner.Process(b)
	if c.lookup != nil {
		if c.binder != nil {
			c.binder.ApplyBinds(c.flows)
		}
		// Not before: by the burst's last packet, flows may be over that were
		// not when its first one came.
		w.age(c, b.NowNs, sweep)
	}
	if c.shut {
		refuseNew(b)
	}
	w.makeRoom(int(b.N))
	w.act(l)
	if c.bursts++; w.sched.shares > 1 || c.bursts%timedBursts == 1 {
		w.timed(l)
	} else {
		w.mark = 0
	}
	b.N = 0
}

// timedBursts is how many bursts there are to one whose time is taken while the
// worker has one tenant: to look at the clock takes longer than several packets.
const timedBursts = 8

// timed takes the time of a burst that is over.
func (w *Worker) timed(l *lane) {
	b, c := &l.b, l.chain
	w.mark = w.clock.Now()
	w.charge(c.share, w.mark-w.now, uint64(b.N))
	if rx := b.RxNs[c.bursts%uint64(b.N)]; rx != 0 && rx < w.mark {
		c.account.Latency.record(w.mark - rx)
	}
}

// act does what was decided about each packet of a burst.
func (w *Worker) act(l *lane) {
	b, a := &l.b, &l.chain.account
	a.Packets += uint64(b.N)
	a.Bytes += l.bytes
	l.bytes = 0
	region := w.cfg.Region
	if l.Arena != nil {
		region = l.Arena
	}
	sent := uint64(0)
	for k := range int(b.N) {
		o, f := b.Out[k], b.Frames[k]
		home := f
		if l.Arena != nil {
			home = l.umem[k]
		}
		switch o.Verdict {
		case packet.Tx:
			if int(o.Port) >= len(w.tx) || w.tx[o.Port] == nil {
				w.refusePort(a, home, &b.Out[k])
				continue
			}
			if l.Arena != nil {
				home.Off, home.Len = f.Off, f.Len
				copy(home.Bytes(w.cfg.Region), f.Bytes(l.Arena))
			}
			if w.cfg.Routed>>o.Port&1 != 0 && !w.nextHop(a, home, &b.Out[k]) {
				continue
			}
			w.enqueue(o.Port, home, l, k)
			sent++
		case packet.Pass:
			w.pass(a, f.Bytes(region), &b.Out[k])
			w.cfg.Pool.Put(home.Chunk)
		default:
			w.local.Dropped++
			a.outcome(o)
			w.cfg.Pool.Put(home.Chunk)
		}
	}
	a.Sent += sent
	if len(l.chain.probes) > 0 {
		w.probeOut(l)
	}
	if w.cfg.Observer != nil {
		w.cfg.Observer.Decided(b, region)
	}
}

// refuseNew drops the packets of a burst that have no flow, of a chain that takes
// no new ones: no_path.
func refuseNew(b *packet.Burst) {
	for k := range int(b.N) {
		if b.Slot[k] == packet.NoSlot && b.Out[k].Verdict != packet.Drop {
			b.Out[k] = packet.Outcome{Verdict: packet.Drop, Hop: packet.HopEngine, Reason: uint16(packet.ReasonNoPath)}
		}
	}
}

// makeRoom sees to it that n more frames can leave by any port this turn. They
// are not sent before the observer has seen the whole burst.
func (w *Worker) makeRoom(n int) {
	for _, q := range w.filled {
		if q.n+n > packet.BurstSize {
			w.transmitPort(q)
		}
	}
}

// enqueue adds a frame to what leaves by port this turn.
func (w *Worker) enqueue(port uint16, f packet.Frame, l *lane, k int) {
	q, b := w.tx[port], &l.b
	if !q.listed {
		q.listed = true
		w.filled = append(w.filled, q)
	}
	i := q.n & (packet.BurstSize - 1)
	q.frames[i] = f
	q.path[i] = b.Path
	q.rxNs[i] = b.RxNs[k]
	q.seq[i] = b.Seq[k]
	q.inPort[i] = b.InPort[k]
	q.n = i + 1
}

// txTries bounds how often a turn knocks at a full TX ring before it drops.
const txTries = 64

// transmit gives every port its frames.
func (w *Worker) transmit() {
	for _, q := range w.filled {
		q.listed = false
		if q.n > 0 {
			w.transmitPort(q)
		}
	}
	w.filled = w.filled[:0]
	if w.cfg.Observer != nil && len(w.sentNs) > 0 {
		w.cfg.Observer.Sent(w.sentNs, w.clock.Now())
		w.sentNs = w.sentNs[:0]
	}
}

// transmitPort gives a port its frames. What it does not take after txTries
// kicks is dropped: tx_full.
func (w *Worker) transmitPort(q *txQueue) {
	sent := 0
	for range txTries {
		sent += q.port.Transmit(q.frames[sent:q.n])
		q.port.Flush()
		if sent == q.n {
			break
		}
	}
	q.given += uint64(sent)
	w.local.Sent += uint64(sent)
	if w.cfg.Observer != nil {
		w.sentNs = append(w.sentNs, q.rxNs[:sent]...)
	}
	for i := sent; i < q.n; i++ {
		c := w.lanes[q.path[i]].chain
		c.account.Sent-- // as it seemed
		c.account.drop(packet.ReasonTxFull)
		if len(c.probes) > 0 {
			w.probeDrop(c, q.frames[i], &packet.Meta{RxNs: q.rxNs[i], Seq: q.seq[i], Port: q.inPort[i], Path: q.path[i]}, packet.ReasonTxFull)
		}
		w.dropEngine(q.frames[i], packet.ReasonTxFull)
		if w.cfg.Observer != nil {
			w.cfg.Observer.TxFull(q.seq[i], q.inPort[i])
		}
	}
	q.n = 0
}

// pass hands a packet to the kernel's stack, or turns its outcome into a drop.
func (w *Worker) pass(a *Account, frame []byte, o *packet.Outcome) {
	if w.cfg.Stack != nil && w.cfg.Stack.Inject(frame) {
		w.local.Passed++
		a.Passed++
		return
	}
	*o = packet.Outcome{Verdict: packet.Drop, Hop: packet.HopEngine, Reason: uint16(packet.ReasonStackFull)}
	w.local.Dropped++
	w.local.Engine[packet.ReasonStackFull]++
	a.drop(packet.ReasonStackFull)
}

// refusePort drops a frame whose egress port is not there: it was removed, or
// it never could be, and a runner's mistake must not stop the worker.
func (w *Worker) refusePort(a *Account, f packet.Frame, o *packet.Outcome) {
	reason := packet.ReasonBadPort
	if int(o.Port) < len(w.tx) {
		reason = packet.ReasonPortGone
	}
	*o = packet.Outcome{Verdict: packet.Drop, Hop: packet.HopEngine, Reason: uint16(reason)}
	a.drop(reason)
	w.dropEngine(f, reason)
}

// dropEngine drops a frame for a reason of the engine's own.
func (w *Worker) dropEngine(f packet.Frame, r packet.Reason) {
	w.local.Dropped++
	w.local.Engine[r]++
	w.cfg.Pool.Put(f.Chunk)
}
