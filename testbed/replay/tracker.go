package replay

import (
	"hash/maphash"
	"maps"
	"sync"

	"github.com/HdrHistogram/hdrhistogram-go"

	"sfc/dataplane/packet"
)

// fate is what became of a packet.
type fate uint8

const (
	underWay fate = iota
	received      // came out at a far end
	passed        // went to the kernel's stack
	dropped       // for a named reason
	lost          // nobody knows
)

// record follows one packet from the capture to its fate.
type record struct {
	timeNs int64 // the packet's time in the replay
	data   []byte
	fate   fate
	reason string // when dropped
	out    []byte // as it came out
	badIn  bool
	met    bool // the worker has decided
	// steered says what the steering program does with it; path means that
	// a worker decides.
	steered steered
	seq     uint32 // the steering program's number, when it was sent
}

// window is the most packets under way at once. The veth ring holds 256.
const window = 128

// tracker knows every packet under way: it gives the worker the capture's
// time, learns each packet's fate, matches what comes out with what went in,
// and closes the account in the order of sending.
//
// The source, the worker (as dataplane.Observer) and the receivers call it
// from their own goroutines; each takes the lock once per burst or frame.
type tracker struct {
	mu   sync.Mutex
	opts Options
	// names tells the reason of a drop on a path.
	names func(path uint16, o packet.Outcome) string

	// ring holds the records first..next-1 (by number of packet).
	ring        [4 * window]record
	first, next uint64
	// bySeq tells which packet the steering program numbered so.
	bySeq [4 * window]uint64
	seq   uint32 // frames given to the steering program
	// told counts what it must have done with them, in its counters' words.
	told map[string]uint64
	// due are the packets that left the worker for a port, or that the
	// steering program forwards, and have not come out yet, in order.
	due  [2]dueQueue // by port
	fwd  dueQueue
	seed maphash.Seed
	damage

	latency *hdrhistogram.Histogram
	report  *Report
	started bool
	sinks   sinks
	err     error
}

func newTracker(opts Options, rep *Report) *tracker {
	return &tracker{
		opts: opts, report: rep, seed: maphash.MakeSeed(), told: map[string]uint64{},
		latency: hdrhistogram.New(1, 60_000_000_000, 3),
	}
}

// open creates the files to write. It comes last before the first packet, so
// that a replay that cannot start overwrites nothing.
func (t *tracker) open() (err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sinks, err = openSinks(t.opts)
	t.started = err == nil
	return err
}

func (t *tracker) rec(n uint64) *record { return &t.ring[n%uint64(len(t.ring))] }

// room reports whether another packet may be sent.
func (t *tracker) room() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.next-t.first < window
}

// progress returns how many packets have their fate.
func (t *tracker) progress() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.first
}

// sent returns how many frames the steering program was given.
func (t *tracker) sent() uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.seq
}

// expected returns what the steering program must have counted.
func (t *tracker) expected() map[string]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.told)
}

// idle reports whether no packet is under way.
func (t *tracker) idle() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.next == t.first
}

// add takes a packet into the account. It returns whether it is to be sent;
// else its fate is known already.
func (t *tracker) add(timeNs int64, data []byte, s steered) (send bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.rec(t.next)
	*r = record{timeNs: timeNs, data: data, steered: s, badIn: !packet.VerifyChecksums(data)}
	n := t.next
	t.next++
	t.report.Sent++
	if s.unsendable {
		t.drop(r, s.reason)
		t.close()
		return false
	}
	r.seq = t.seq
	t.bySeq[t.seq%uint32(len(t.bySeq))] = n
	t.seq++
	if s.verdict == steerDrop {
		t.told[s.reason]++
	} else {
		t.told[s.verdict.String()]++
	}
	if s.verdict == steerForward {
		t.fwd.push(dueFrame{n: n, hash: t.hash(data)})
	}
	return true
}

// steeredUpTo tells that the steering program has seen seq frames: those it
// handled itself have their fate.
func (t *tracker) steeredUpTo(seq uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for n := t.first; n < t.next; n++ {
		r := t.rec(n)
		if r.fate != underWay || int32(seq-r.seq) <= 0 {
			continue
		}
		switch r.steered.verdict {
		case steerPass:
			r.fate = passed
		case steerDrop:
			t.drop(r, r.steered.reason)
		}
	}
	t.close()
}

func (t *tracker) hash(b []byte) uint64 { return maphash.Bytes(t.seed, b) }

func (t *tracker) drop(r *record, reason string) {
	r.fate, r.reason = dropped, reason
}

// Received implements dataplane.Observer: functions see the capture's time.
func (t *tracker) Received(b *packet.Burst) {
	if t.opts.Clock != ClockCapture {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for k := range int(b.N) {
		if n, ok := t.identify(b.Seq[k], b.Path); ok {
			t.lastNs = uint64(t.rec(n).timeNs)
		}
		b.TimeNs[k] = t.lastNs
		b.NowNs = t.lastNs
	}
}

// Decided implements dataplane.Observer.
func (t *tracker) Decided(b *packet.Burst, region []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k := range int(b.N) {
		d := dueFrame{seq: b.Seq[k]}
		var r *record
		if n, ok := t.identify(d.seq, b.Path); ok {
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
func (t *tracker) TxFull(seq uint32, _ uint16) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for p := range t.due {
		if d, ok := t.due[p].removeLast(seq); ok {
			t.drop(t.owner(d), packet.ReasonTxFull.String())
			break
		}
	}
	t.close()
}

// Dropped implements dataplane.Observer.
func (t *tracker) Dropped(m packet.Meta, reason packet.Reason) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n, ok := t.identify(m.Seq, m.Path); ok {
		r := t.rec(n)
		r.met = true
		t.drop(r, reason.String())
	} else {
		t.drop(&t.adopt().record, reason.String())
	}
	t.close()
}

// Unknown implements dataplane.Observer.
func (t *tracker) Unknown(uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drop(&t.adopt().record, packet.ReasonNoPath.String())
}

// Sent implements dataplane.Observer.
func (t *tracker) Sent(rxNs []uint64, nowNs uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, ns := range rxNs {
		// The histogram's range is a minute; a longer wait counts as one.
		_ = t.latency.RecordValue(int64(min(nowNs-min(ns, nowNs), 60_000_000_000)))
	}
}

// arrived takes a frame that came out at the far end of port.
func (t *tracker) arrived(port int, frame []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.hash(frame)
	d, late, ok := t.due[port].take(h)
	if !ok && port == portOut {
		d, late, ok = t.fwd.take(h)
	}
	if !ok {
		t.stray(port, frame)
		return
	}
	if late {
		t.report.Reordered++
	}
	t.owner(d).arrive(frame)
	t.close()
}

// giveUp counts everything under way as lost.
func (t *tracker) giveUp() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for n := t.first; n < t.next; n++ {
		if r := t.rec(n); r.fate == underWay {
			r.fate = lost
		}
	}
	for p := range t.due {
		t.due[p].q = nil
	}
	t.fwd.q = nil
	t.forget()
	t.close()
}

// close takes packets whose fate is known out of the account, oldest first.
func (t *tracker) close() {
	for t.first < t.next {
		r := t.rec(t.first)
		if r.fate == underWay {
			return
		}
		t.settle(r)
		r.data, r.out = nil, nil
		t.first++
	}
}

func (t *tracker) settle(r *record) {
	rep := t.report
	if r.badIn {
		rep.BadChecksumsIn++
	}
	var err error
	switch r.fate {
	case received:
		rep.Received++
		if !packet.VerifyChecksums(r.out) {
			rep.BadChecksumsOut++
		}
		err = t.sinks.write(r.timeNs, r.out)
	case passed:
		rep.Passed++
	case dropped:
		rep.Dropped[r.reason]++
		err = t.sinks.writeDrop(r.timeNs, r.data, r.reason)
	case lost:
		rep.Lost++
	}
	if err != nil && t.err == nil {
		t.err = err
	}
}
