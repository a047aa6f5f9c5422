package replay

import (
	"hash/maphash"
	"maps"
	"sync"

	"github.com/HdrHistogram/hdrhistogram-go"

	"sfc/dataplane/flow"
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
	timeNs, clockNs int64 // as in parcel
	data            []byte
	fate            fate
	reason          string // when dropped
	out             []byte // as it came out
	badIn           bool
	outPort         int  // that it came out of
	met             bool // the worker has decided
	// steered says what the steering program does with it; path means that
	// a worker decides.
	steered steered
	port    int    // that it went into
	seq     uint32 // the steering program's number on that port, when it was sent
	conv    *conversation
	form    form
}

// window is the most packets under way at once. The veth ring holds 256.
const window = 128

// tracker knows every packet under way: it gives the workers the capture's
// time, learns each packet's fate, matches what comes out with what went in,
// and closes the account in the order of sending.
//
// The source, the workers (through a watcher each) and the receivers call it
// from their own goroutines; each takes the lock once per burst or frame.
type tracker struct {
	mu   sync.Mutex
	opts Options
	// names tells the reason of a drop on a path.
	names func(path uint16, o packet.Outcome) string

	// ring holds the records first..next-1 (by number of packet).
	ring        [4 * window]record
	first, next uint64
	// entry is what went into each port.
	entry [2]entry
	// due are the packets that left a worker for a port, fwd those that the
	// steering program forwards there, and that have not come out yet, in order.
	due, fwd [2]dueQueue // by port
	seed     maphash.Seed
	// reader and query read what comes out of translating functions.
	reader *flow.Reader
	query  flow.Query
	damage

	latency *hdrhistogram.Histogram
	report  *Report
	// twoWay says that packets go into both ports, translates that functions
	// may change what conversation a packet shows, apart that packets of one
	// burst may be later than others elsewhere.
	twoWay, translates, apart bool
	// settled, when not nil, is shown every record when it is closed.
	settled func(*record)
	started bool
	sinks   sinks
	err     error
}

// entry is a port as far as packets went into it.
type entry struct {
	// bySeq tells which packet the steering program numbered so.
	bySeq [4 * window]uint64
	seq   uint32 // frames given to the steering program
	// told counts what it must have done with them, in its counters' words.
	told map[string]uint64
}

func newTracker(opts Options, rep *Report) *tracker {
	t := &tracker{
		opts: opts, report: rep, seed: maphash.MakeSeed(), settled: opts.settled,
		latency: hdrhistogram.New(1, 60_000_000_000, 3),
	}
	for i := range t.entry {
		t.entry[i].told = map[string]uint64{}
	}
	return t
}

// open creates the files to write. It comes last before the first packet, so
// that a replay that cannot start overwrites nothing.
func (t *tracker) open() (err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sinks, err = openSinks(t.opts, t.twoWay)
	t.started = err == nil
	return err
}

func (t *tracker) rec(n uint64) *record { return &t.ring[n%uint64(len(t.ring))] }

// progress returns how many packets have their fate.
func (t *tracker) progress() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.first
}

// sent returns how many frames the steering program of a port was given.
func (t *tracker) sent(port int) uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.entry[port].seq
}

// expected returns what the steering program of a port must have counted.
func (t *tracker) expected(port int) map[string]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.entry[port].told)
}

// idle reports whether no packet is under way.
func (t *tracker) idle() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.next == t.first
}

// add takes a packet into the account. It returns whether it is to be sent;
// else its fate is known already.
func (t *tracker) add(p *parcel) (send bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.rec(t.next)
	*r = record{
		timeNs: p.timeNs, clockNs: p.clockNs, data: p.data, steered: p.s, badIn: !packet.VerifyChecksums(p.data),
		port: p.port, conv: p.conv, form: p.form,
	}
	n := t.next
	t.next++
	t.report.Sent++
	if p.s.unsendable {
		t.drop(r, p.s.reason)
		t.close()
		return false
	}
	e := &t.entry[p.port]
	r.seq = e.seq
	e.bySeq[e.seq%uint32(len(e.bySeq))] = n
	e.seq++
	if p.s.verdict == steerDrop {
		e.told[p.s.reason]++
	} else {
		e.told[p.s.verdict.String()]++
	}
	if p.s.verdict == steerForward {
		// The kernel shows a packet socket frames of types that nobody else
		// wants later than others that came with them: order is kept within a
		// type (__netif_receive_skb_list_core).
		t.fwd[p.s.to].push(dueFrame{n: n, hash: t.hash(p.data), group: t.hash(p.data[:packet.EtherLen])})
	}
	return true
}

// steeredUpTo tells that the steering program of a port has seen seq frames:
// those it handled itself have their fate.
func (t *tracker) steeredUpTo(port int, seq uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for n := t.first; n < t.next; n++ {
		r := t.rec(n)
		if r.fate != underWay || r.port != port || int32(seq-r.seq) <= 0 {
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

// arrived takes a frame that came out at the far end of port.
func (t *tracker) arrived(port int, frame []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.hash(frame)
	d, late, ok := t.due[port].take(h)
	if !ok {
		d, late, ok = t.fwd[port].take(h)
	}
	if !ok {
		t.stray(port, frame)
		return
	}
	if d.orphan == nil && t.overtaken(d.n, port) || late {
		t.report.Reordered++
	}
	r := t.owner(d)
	r.arrive(port, frame)
	if t.translates && r.conv != nil && r.port == portIn && port == portOut {
		t.learn(r, frame)
	}
	t.close()
}

// overtaken says that packet n, which comes out of port now, was sent before
// one of the same conversation, into the same port, that has come out already.
func (t *tracker) overtaken(n uint64, port int) bool {
	r := t.rec(n)
	if r.conv == nil {
		return false
	}
	latest := &r.conv.latest[r.port][port]
	if *latest > n {
		return true
	}
	*latest = n + 1
	return false
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
		t.due[p].q, t.fwd[p].q = nil, nil
	}
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
		r.data, r.out, r.conv = nil, nil, nil
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
		err = t.sinks.write(r.outPort, r.timeNs, r.out)
	case passed:
		rep.Passed++
	case dropped:
		rep.Dropped[r.reason]++
		err = t.sinks.writeDrop(r.port, r.timeNs, r.data, r.reason)
	case lost:
		rep.Lost++
	}
	if err != nil && t.err == nil {
		t.err = err
	}
	if t.settled != nil {
		t.settled(r)
	}
}
