package replay

import (
	"bytes"
	"context"
	"errors"
	"io"

	"sfc/ctrl/agent"
	"sfc/dataplane/packet"
)

// parcel is a packet that is about to be sent.
type parcel struct {
	timeNs  int64 // in the capture
	clockNs int64 // for functions and flow tables
	data    []byte
	cut     bool
	port    int // that it goes into
	conv    *conversation
	form    form
	s       steered
}

// feed decides what is sent next, and into which port. In a replay of both
// directions clients are behind port in and servers behind port out; else
// everything goes into port in.
//
// What the engine sees in the order of the capture is each port's packets.
// Between two ports there is no order, nor between packets that steering takes
// for different flows though they are of one: several workers take them. So a
// packet waits until those of its conversation that went another way have met
// their fate. That is what the other host does too: it answers what it has got.
//
// Owner: the goroutine that sends.
type feed struct {
	ctx     context.Context
	src     *source
	t       *tracker
	steer   *steering
	convs   *conversations // nil: nobody needs to know
	clock   clock
	twoWay  bool
	ahead   *parcel
	ended   bool  // no more will be sent
	stopped error // why, unless the capture has ended
}

// newFeed makes the feed of a replay.
func newFeed(ctx context.Context, e *agent.Engine, src *source, t *tracker) (f *feed, err error) {
	f = &feed{ctx: ctx, src: src, t: t, steer: newSteering(e), twoWay: t.twoWay}
	if t.apart {
		f.convs, err = newConversations()
	}
	return f, err
}

// end sends no more, for a reason.
func (f *feed) end(why error) {
	f.ended, f.ahead = true, nil
	if !errors.Is(why, io.EOF) {
		f.stopped = why
	}
}

// peek returns the next packet, nil after the last.
func (f *feed) peek() *parcel {
	if !f.ended && f.ctx.Err() != nil {
		f.end(context.Cause(f.ctx)) // what was sent goes on to its fate
	}
	if f.ahead != nil || f.ended {
		return f.ahead
	}
	timeNs, data, cut, err := f.src.next()
	if err != nil {
		f.end(err)
		return nil
	}
	p := &parcel{timeNs: timeNs, clockNs: f.clock.at(timeNs), data: data, cut: cut}
	if f.convs != nil && !cut {
		var server bool
		p.conv, p.form, server = f.convs.of(p.clockNs, data)
		if server && f.twoWay {
			p.port = portOut
		}
	}
	f.ahead = p
	return p
}

// clock makes of the capture's time that of functions and flow tables. It is the
// same, but for silence of more than maxGap, which counts as maxGap: flow tables
// keep times in 32 bits of milliseconds, and would take what is 50 days old for
// new. Every flow is over after less.
type clock struct {
	lastNs, skipped int64
	begun           bool
}

// maxGap is ten days, in ns.
const maxGap = 10 * 24 * 3600 * 1_000_000_000

func (c *clock) at(timeNs int64) int64 {
	if gap := timeNs - c.lastNs; c.begun && gap > maxGap {
		c.skipped += gap - maxGap
	}
	c.lastNs, c.begun = timeNs, true
	return max(timeNs-c.skipped, 0)
}

// take returns the next packet when it goes into the port, or any for -1, and
// may go now. It is in the account then; send says whether it is to be sent.
func (f *feed) take(port int) (p *parcel, send bool) {
	p = f.peek()
	if p == nil || port >= 0 && p.port != port || !f.t.mayGo(p) {
		return nil, false
	}
	f.ahead = nil
	f.t.outside(p)
	p.s = f.steer.steer(p)
	return p, f.t.add(p)
}

// blocked says that the next packet waits for others to meet their fate.
func (f *feed) blocked() bool {
	p := f.peek()
	return p != nil && !f.t.mayGo(p)
}

// farthest is how far apart in time packets under way may be, in ns: workers are
// not equally far, and a flow table that looks at a flow's packet from a minute
// ahead takes it for one from before its clock was set back.
const farthest = 10_000_000_000

// mayGo reports whether a packet may be sent: there is room, and nothing is
// under way that it has to come after.
func (t *tracker) mayGo(p *parcel) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.next-t.first >= window {
		return false
	}
	if t.apart && t.next > t.first && p.clockNs-t.rec(t.first).clockNs > farthest {
		return false
	}
	if p.conv == nil {
		return true
	}
	for n := t.first; n < t.next; n++ {
		if r := t.rec(n); r.conv == p.conv && r.fate == underWay && (r.port != p.port || r.form != p.form) {
			return false
		}
	}
	return true
}

// outside makes of what a server sends what it would have sent: to whom the
// client's packets say they are from, and from where they say they go.
func (t *tracker) outside(p *parcel) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p.port == portOut && p.conv != nil && p.conv.translated {
		p.data = bytes.Clone(p.data)
		translate(p.data, reversed(p.conv.tuple), reversed(p.conv.outside))
	}
}

// learn notes how a client's packet, which is new behind the chain, shows its
// conversation there.
func (t *tracker) learn(r *record, frame []byte) {
	in, result := packet.Parse(frame)
	if result != packet.ParsedIP || r.form == quoting || in.Flags&packet.FlagLaterFrag != 0 {
		return
	}
	readQuery(t.reader, r.clockNs, frame, &in, &t.query)
	if tuple, ok := t.query.Tuple(); ok {
		r.conv.outside, r.conv.translated = tuple, tuple != r.conv.tuple
	}
}
