package replay

import (
	"sfc/dataplane/packet"
)

// watcher tells the tracker what a worker does: it is the worker's
// dataplane.Observer.
type watcher struct {
	*tracker
	worker int
	lastNs uint64 // time of the packet met last
}

// Received implements dataplane.Observer: functions see the capture's time.
func (w *watcher) Received(b *packet.Burst) {
	t := w.tracker
	if t.opts.Clock != ClockCapture {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for k := range int(b.N) {
		if n, ok := t.identify(b.InPort[k], b.Seq[k], b.Path); ok {
			w.lastNs = uint64(t.rec(n).clockNs)
		}
		b.TimeNs[k] = w.lastNs
	}
	b.NowNs = w.lastNs
	if t.apart && t.first < t.next {
		// Elsewhere, packets from before may still be under way: no flow of
		// theirs must end of old age here.
		b.NowNs = min(b.NowNs, uint64(t.rec(t.first).clockNs))
	}
}

// Decided implements dataplane.Observer.
func (w *watcher) Decided(b *packet.Burst, region []byte) {
	t := w.tracker
	t.mu.Lock()
	defer t.mu.Unlock()
	for k := range int(b.N) {
		d := dueFrame{group: uint64(w.worker), port: b.InPort[k], seq: b.Seq[k]}
		var r *record
		if n, ok := t.identify(d.port, d.seq, b.Path); ok {
			r, d.n = t.rec(n), n
			r.met = true
		} else {
			d.orphan = t.adopt()
			r = &d.orphan.record
		}
		switch o := b.Out[k]; o.Verdict {
		case packet.Tx:
			d.hash = t.hash(b.Frames[k].Bytes(region))
			t.due[o.Port].push(d)
		case packet.Pass:
			r.fate = passed
		default:
			t.drop(r, t.names(b.Path, o))
		}
	}
	t.close()
}

// TxFull implements dataplane.Observer.
func (w *watcher) TxFull(seq uint32, port uint16) {
	t := w.tracker
	t.mu.Lock()
	defer t.mu.Unlock()
	for p := range t.due {
		if d, ok := t.due[p].removeLast(port, seq); ok {
			t.drop(t.owner(d), packet.ReasonTxFull.String())
			break
		}
	}
	t.close()
}

// Dropped implements dataplane.Observer.
func (w *watcher) Dropped(m packet.Meta, reason packet.Reason) {
	t := w.tracker
	t.mu.Lock()
	defer t.mu.Unlock()
	if n, ok := t.identify(m.Port, m.Seq, m.Path); ok {
		r := t.rec(n)
		r.met = true
		t.drop(r, reason.String())
	} else {
		t.drop(&t.adopt().record, reason.String())
	}
	t.close()
}

// Unknown implements dataplane.Observer.
func (w *watcher) Unknown(uint32) {
	t := w.tracker
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drop(&t.adopt().record, packet.ReasonNoPath.String())
}

// Sent implements dataplane.Observer.
func (w *watcher) Sent(rxNs []uint64, nowNs uint64) {
	t := w.tracker
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, ns := range rxNs {
		// The histogram's range is a minute; a longer wait counts as one.
		_ = t.latency.RecordValue(int64(min(nowNs-min(ns, nowNs), 60_000_000_000)))
	}
}
