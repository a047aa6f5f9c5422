package native

import (
	"encoding/binary"

	"sfc/dataplane/packet"
)

// firewall is nf/catalog/firewall.
type firewall struct {
	rules *acl
	flows map[uint32]*fwFlow // permitted ones, by slot
}

// fwFlow is a flow that the rules permitted.
type fwFlow struct {
	tcp     bool
	reverse bool // the origin's packets carry FlagReverse
	stage   fwStage
	peers   [2]fwPeer // origin, answer
	loose   bool      // no windows: part of a segment is unknown
}

type fwStage int

const (
	fwAsked    fwStage = iota // SYN
	fwAnswered                // SYN,ACK
	fwOpen                    // ACK, and data
	fwOver                    // RST
)

// fwPeer is what one end of a TCP connection has shown. Sequence numbers are
// modulo 2^32: only ahead compares them.
type fwPeer struct {
	first  uint32 // its SYN's
	next   uint32 // behind all it sent
	limit  uint32 // behind all that it may send
	window uint32 // the largest that it offered
	shift  uint
	scales bool // its SYN had the window scale option
	fin    bool
}

const (
	fwDenied = 1 // reasons
	fwState  = 2
	fwWindow = 3
	fwNoFlow = 4

	fwFlows       = 0 // counters
	fwEstablished = 1
	fwRelated     = 2
)

func newFirewall(config map[string]any) (decider, error) {
	rules, err := newACL(config)
	return &firewall{rules: rules.(*acl), flows: map[uint32]*fwFlow{}}, err
}

func (f *firewall) end(slot uint32, _ []uint64) { delete(f.flows, slot) }

func (f *firewall) decide(p *view, c []uint64) (packet.Verdict, uint16) {
	if reason := f.reason(p, c); reason != 0 {
		return packet.Drop, reason
	}
	return packet.Next, 0
}

// reason says why a packet is dropped; 0: it is not.
func (f *firewall) reason(p *view, c []uint64) uint16 {
	if p.Slot == packet.NoSlot {
		return fwNoFlow
	}
	flow, known := f.flows[p.Slot]
	if p.Flags&packet.FlagICMPError != 0 {
		if !known {
			return fwDenied
		}
		c[fwRelated]++
		return 0
	}
	if !known {
		return f.begin(p, c)
	}
	if !flow.tcp {
		return 0
	}
	if p.Proto != packet.ProtoTCP {
		return fwState
	}
	if p.Flags&packet.FlagLaterFrag != 0 {
		if flow.stage == fwOver {
			return fwState
		}
		return 0
	}
	s, ok := p.segment()
	if !ok {
		return fwState
	}
	over := flow.stage == fwOver || flow.peers[0].fin && flow.peers[1].fin
	if over && s.syn && !s.ack {
		return f.begin(p, c)
	}
	fromOrigin := (p.Flags&packet.FlagReverse != 0) == flow.reverse
	switch flow.stage {
	case fwOver:
		return fwState
	case fwAsked:
		return flow.beforeAnswer(s, fromOrigin)
	}
	return flow.afterAnswer(s, fromOrigin, c)
}

// begin asks the rules about the first packet of a flow.
func (f *firewall) begin(p *view, c []uint64) uint16 {
	ip := p.ip()
	if ip == nil || !f.rules.permits(p, ip) {
		return fwDenied
	}
	flow := &fwFlow{reverse: p.Flags&packet.FlagReverse != 0}
	if p.Proto == packet.ProtoTCP {
		s, ok := p.segment()
		if !ok || p.Flags&packet.FlagLaterFrag != 0 || !s.syn || s.ack {
			return fwState
		}
		flow.tcp = true
		flow.ask(s)
	}
	f.flows[p.Slot] = flow
	c[fwFlows]++
	return 0
}

// fwSegment is a TCP segment.
type fwSegment struct {
	fin, syn, rst, ack bool
	seq, acked         uint32
	window             uint32 // not scaled
	length             uint32 // of data, SYN and FIN count 1
	shift              uint
	scales             bool
	partial            bool // fragments of it follow
}

// segment reads the packet's TCP header. ok is false when it is cut short, does
// not fit the packet, or has flags that no TCP sends together.
func (v *view) segment() (s fwSegment, ok bool) {
	h := v.at(v.L4, packet.TCPLen)
	if h == nil || v.ip() == nil || v.L4 < v.L3 {
		return s, false
	}
	size := int(h[12]>>4) * 4
	data := int(v.ipOctets()) - int(v.L4-v.L3) - size
	if size < packet.TCPLen || data < 0 {
		return s, false
	}
	s = fwSegment{
		fin: h[13]&1 != 0, syn: h[13]&2 != 0, rst: h[13]&4 != 0, ack: h[13]&16 != 0,
		seq: binary.BigEndian.Uint32(h[4:]), acked: binary.BigEndian.Uint32(h[8:]),
		window: uint32(binary.BigEndian.Uint16(h[14:])), length: uint32(data),
		partial: v.Flags&packet.FlagFragment != 0,
	}
	kinds := 0
	for _, is := range []bool{s.fin, s.syn, s.rst} {
		if is {
			kinds++
		}
	}
	if kinds > 1 || kinds == 0 && !s.ack || s.fin && !s.ack {
		return s, false
	}
	if s.syn || s.fin {
		s.length++
	}
	if s.syn {
		s.shift, s.scales = windowScale(v.at(v.L4, size)[packet.TCPLen:])
	}
	return s, true
}

// windowScale finds the window scale option (RFC 7323) among TCP options.
func windowScale(options []byte) (shift uint, ok bool) {
	for len(options) > 0 {
		switch kind := options[0]; {
		case kind == 0:
			return 0, false
		case kind == 1:
			options = options[1:]
			continue
		case len(options) < 2 || options[1] < 2 || int(options[1]) > len(options):
			return 0, false
		case kind == 3 && options[1] == 3:
			return min(uint(options[2]), 14), true
		}
		options = options[options[1]:]
	}
	return 0, false
}

// ahead is how far a is ahead of b, negative when it is behind.
func ahead(a, b uint32) int64 { return int64(int32(a - b)) }

// ask notes the SYN that begins a connection.
func (f *fwFlow) ask(s fwSegment) {
	f.stage, f.loose = fwAsked, s.partial
	f.peers = [2]fwPeer{{first: s.seq, next: s.seq + s.length, window: max(s.window, 1), shift: s.shift, scales: s.scales}}
}

// beforeAnswer follows a connection of which only SYNs were seen.
func (f *fwFlow) beforeAnswer(s fwSegment, fromOrigin bool) uint16 {
	origin, answer := &f.peers[0], &f.peers[1]
	acknowledged := func(n uint32) bool { // the SYN, and perhaps data with it
		return ahead(n, origin.first+1) >= 0 && ahead(origin.next, n) >= 0
	}
	switch {
	case fromOrigin && s.syn && !s.ack:
		f.ask(s)
	case fromOrigin && s.rst:
		if !acknowledged(s.seq) {
			return fwWindow
		}
		f.stage = fwOver
	case !fromOrigin && s.ack && (s.syn || s.rst):
		if !acknowledged(s.acked) {
			return fwWindow
		}
		if s.rst {
			f.stage = fwOver
			break
		}
		f.stage = fwAnswered
		f.loose = f.loose || s.partial
		*answer = fwPeer{first: s.seq, next: s.seq + s.length, window: max(s.window, 1), shift: s.shift, scales: s.scales}
		if !origin.scales || !answer.scales {
			origin.shift, answer.shift = 0, 0
		}
		origin.limit = s.acked + answer.window
		answer.limit = answer.first + 1 + origin.window
	default:
		return fwState
	}
	return 0
}

// afterAnswer follows a connection both of whose SYNs were seen.
func (f *fwFlow) afterAnswer(s fwSegment, fromOrigin bool, c []uint64) uint16 {
	from, to := &f.peers[0], &f.peers[1]
	if !fromOrigin {
		from, to = to, from
	}
	if !f.loose {
		const laggingAck = 66000
		tooFar := ahead(s.seq, from.limit) > 0
		tooOld := ahead(s.seq+s.length, from.next-to.window) < 0
		checkAck := s.ack && !s.rst
		ackTooFar := checkAck && ahead(s.acked, to.next) > 0
		ackTooOld := checkAck && ahead(s.acked, to.next-max(from.window, laggingAck)) < 0
		if tooFar || tooOld || ackTooFar || ackTooOld {
			return fwWindow
		}
	}
	if s.rst {
		f.stage = fwOver
		return 0
	}
	if f.stage == fwAnswered && fromOrigin && s.ack {
		f.stage = fwOpen
		if !from.fin && !to.fin {
			c[fwEstablished]++
		}
	}
	window := s.window
	if !s.syn {
		window <<= from.shift
	}
	from.window = max(from.window, window)
	if ahead(s.seq+s.length, from.next) > 0 {
		from.next = s.seq + s.length
	}
	if limit := s.acked + max(window, 1); s.ack && ahead(limit, to.limit) > 0 {
		to.limit = limit
	}
	f.loose = f.loose || s.partial
	from.fin = from.fin || s.fin
	return 0
}
