package replay

import (
	"bytes"

	"sfc/dataplane/packet"
)

// Where a port belongs to one tenant, its functions share the memory in which
// frames wait, before the worker takes them and after it sent them. A function
// that writes there, by mistake or malice, harms its own tenant's packets only;
// the account has to come out even so:
//
//   - A packet whose metadata is overwritten is an orphan: the worker decides
//     about it, but its number is not to be trusted.
//   - A frame that is overwritten on its way out is a stray: it comes out with
//     bytes that nobody expects.
//
// Both happen in order, as rings do. When nothing else moves, the packets that
// still lack a fate are those, oldest first.

// damage is what does not fit.
type damage struct {
	orphans []*orphan
	strays  [2][][]byte // by port
}

// orphan is a packet that the worker met and that says it is another.
type orphan struct{ record }

// maxStrays bounds the frames that are kept of each port; more than are under
// way cannot be ours.
const maxStrays = window

// identify returns the number of the packet that the steering program of a port
// numbered seq, if a worker can be about to decide about it. Later fragments
// take the path of their first one, whatever steering thought.
func (t *tracker) identify(port uint16, seq uint32, path uint16) (n uint64, ok bool) {
	if int(port) >= len(t.entry) {
		return 0, false
	}
	e := &t.entry[port]
	n = e.bySeq[seq%uint32(len(e.bySeq))]
	if n < t.first || n >= t.next {
		return 0, false
	}
	r := t.rec(n)
	s := &r.steered
	return n, r.fate == underWay && !r.met && !s.unsendable && r.seq == seq && r.port == int(port) && s.verdict == steerPath &&
		(s.path == path || s.info.Flags&packet.FlagLaterFrag != 0)
}

// adopt notes a packet that nobody knows.
func (t *tracker) adopt() *orphan {
	o := &orphan{}
	t.orphans = append(t.orphans, o)
	return o
}

// owner returns where the fate of a due frame is noted.
func (t *tracker) owner(d dueFrame) *record {
	if d.orphan != nil {
		return &d.orphan.record
	}
	return t.rec(d.n)
}

// stray notes a frame that came out and that nobody expects.
func (t *tracker) stray(port int, frame []byte) {
	if len(t.strays[port]) == maxStrays {
		t.report.Foreign++
		return
	}
	t.strays[port] = append(t.strays[port], bytes.Clone(frame))
}

// reconcile gives packets without a fate those that do not fit. It is called
// when nothing has moved for a while, and says whether it helped.
func (t *tracker) reconcile() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.report.Damaged
	for n := t.first; n < t.next && len(t.orphans) > 0; n++ {
		if r := t.rec(n); r.fate == underWay && !r.met && r.steered.verdict == steerPath {
			t.settleOrphan(n)
		}
	}
	for port := range t.strays {
		q := &t.due[port]
		for len(t.strays[port]) > 0 && len(q.q) > 0 {
			t.owner(q.q[0]).arrive(port, t.strays[port][0])
			t.strays[port], q.q = t.strays[port][1:], q.q[1:]
			t.report.Damaged++
		}
	}
	t.close()
	return t.report.Damaged != before
}

// settleOrphan takes the oldest orphan for packet n.
func (t *tracker) settleOrphan(n uint64) {
	o := t.orphans[0]
	t.orphans = t.orphans[1:]
	r := t.rec(n)
	r.met, r.fate, r.reason, r.out, r.outPort = true, o.fate, o.reason, o.out, o.outPort
	for port := range t.due {
		for i := range t.due[port].q {
			if d := &t.due[port].q[i]; d.orphan == o {
				d.n, d.orphan = n, nil
			}
		}
	}
	t.report.Damaged++
}

// forget counts what belongs to nobody.
func (t *tracker) forget() {
	for port := range t.strays {
		t.report.Foreign += uint64(len(t.strays[port]))
		t.strays[port] = nil
	}
	t.report.Foreign += uint64(len(t.orphans))
	t.orphans = nil
}

// arrive notes that a packet came out of a port.
func (r *record) arrive(port int, frame []byte) {
	r.fate, r.out, r.outPort = received, bytes.Clone(frame), port
}
