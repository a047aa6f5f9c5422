package native

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"sfc/dataplane/packet"
)

// firewall is nf/catalog/firewall.
type firewall struct {
	rules *acl
	flows map[uint32]*fwFlow // permitted ones, by slot
	loose bool               // pickup
	syns  [2]*fwSynLimit     // per source, per destination; nil: none
}

// fwSynLimit is how many connections may be half open, or begin.
type fwSynLimit struct {
	limits
	*prefixTable
	all bool
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
	fwCrossed                 // SYN of both sides
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
	fwSyns   = 5

	fwFlows       = 0 // counters
	fwEstablished = 1
	fwRelated     = 2
	fwPickedUp    = 3
	fwSynOver     = 4 // source, destination
	fwRuleDefault = 6
	fwRuleOthers  = 7
	fwRules       = 8

	fwCountedRules = 256
)

func newFirewall(config map[string]any) (decider, error) {
	rules, errRules := newRules(config)
	pickup, errPickup := getEnum(config, "pickup", "strict", "loose")
	f := &firewall{rules: rules, flows: map[uint32]*fwFlow{}, loose: pickup == "loose"}
	return f, errors.Join(errRules, errPickup, f.readSynLimits(config), onlyFields(config, "default", "rules", "pickup", "syn_limits"))
}

func (f *firewall) readSynLimits(config map[string]any) error {
	value, ok := config["syn_limits"]
	if !ok {
		return nil
	}
	object, ok := value.(map[string]any)
	if !ok {
		return errors.New("syn_limits is not an object")
	}
	errs := []error{onlyFields(object, "per_source", "per_destination")}
	for i, name := range []string{"per_source", "per_destination"} {
		value, ok := object[name]
		if !ok {
			continue
		}
		limit, ok := value.(map[string]any)
		if !ok {
			return fmt.Errorf("%s is not an object", name)
		}
		each, errLimit := newTokenLimit(limit)
		table, errTable := newPrefixTable(limit, "max", 16384, int64(64+64*i))
		count, errCount := getEnum(limit, "count", "half_open", "new")
		f.syns[i] = &fwSynLimit{limits{each}, table, count == "new"}
		errs = append(errs, errLimit, errTable, errCount, onlyFields(limit, "rate", "burst", "count", "prefix4", "prefix6", "max", "seed"))
	}
	return errors.Join(errs...)
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
		if flow.tcp && !flow.loose && !flow.quoted(p) {
			return fwWindow
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
	fromOrigin := (p.Flags&packet.FlagReverse != 0) == flow.reverse
	switch {
	case s.syn && !s.ack:
		return f.syn(flow, s, p, fromOrigin, c)
	case flow.stage == fwOver:
		return fwState
	case flow.stage <= fwCrossed:
		return flow.beforeAnswer(s, fromOrigin)
	}
	answered := flow.stage == fwAnswered && !flow.peers[0].fin && !flow.peers[1].fin
	reason := flow.afterAnswer(s, fromOrigin)
	if answered && flow.stage == fwOpen {
		c[fwEstablished]++
		f.completed(p)
	}
	return reason
}

// quoted says whether an ICMP error about a connection quotes a segment that may
// be under way, as far as the quote is read.
func (f *fwFlow) quoted(p *view) bool {
	const icmpLen = 8
	at := int(p.L4) + icmpLen
	size, proto := packet.IPv6Len, 6 // of the quoted IP header, and where it names the protocol
	if p.Proto == packet.ProtoICMP {
		size, proto = packet.IPv4Len, 9
	}
	ip := p.at(uint16(min(at, 65535)), size)
	if ip == nil {
		return false
	}
	if ip[proto] != packet.ProtoTCP {
		return true
	}
	if p.Proto == packet.ProtoICMP {
		size = int(ip[0]&15) * 4
	}
	tcp := p.at(uint16(min(at+size, 65535)), 8)
	if tcp == nil {
		return false
	}
	seq := binary.BigEndian.Uint32(tcp[4:])
	byOrigin := (p.Flags&packet.FlagReverse == 0) == f.reverse // the error travels the other way
	sender, receiver := f.peers[0], f.peers[1]
	if !byOrigin {
		sender, receiver = receiver, sender
	}
	if f.stage <= fwCrossed {
		return (byOrigin || f.stage == fwCrossed) && seq == sender.first
	}
	return ahead(seq, sender.next) <= 0 && ahead(seq, sender.next-max(receiver.window, 1)) >= 0
}

// permits asks the rules about a packet that is to begin something.
func (f *firewall) permits(p *view, c []uint64) bool {
	ip := p.ip()
	if ip == nil {
		return false
	}
	switch rule := f.rules.first(p, ip); {
	case rule == len(f.rules.rules):
		c[fwRuleDefault]++
	case rule < fwCountedRules:
		c[fwRules+rule]++
	default:
		c[fwRuleOthers]++
	}
	return f.rules.permits(p, ip)
}

// begin asks the rules about the first packet of a flow.
func (f *firewall) begin(p *view, c []uint64) uint16 {
	if !f.permits(p, c) {
		return fwDenied
	}
	flow := &fwFlow{reverse: p.Flags&packet.FlagReverse != 0}
	if p.Proto == packet.ProtoTCP {
		s, ok := p.segment()
		if !ok || p.Flags&packet.FlagLaterFrag != 0 {
			return fwState
		}
		flow.tcp = true
		switch {
		case s.syn && !s.ack:
			if !f.maySend(p, c) {
				return fwSyns
			}
			flow.ask(s)
		case f.loose && !s.syn && !s.rst && !s.fin:
			c[fwPickedUp]++
			flow.stage, flow.loose = fwOpen, true
		default:
			return fwState
		}
	}
	f.flows[p.Slot] = flow
	c[fwFlows]++
	return 0
}

// syn decides about a SYN in a permitted flow: it begins the next connection, or
// repeats what began this one, or is from a host that forgot this one.
func (f *firewall) syn(flow *fwFlow, s fwSegment, p *view, fromOrigin bool, c []uint64) uint16 {
	switch {
	case flow.stage == fwOver || flow.peers[0].fin && flow.peers[1].fin:
		return f.begin(p, c)
	case !fromOrigin && flow.stage > fwCrossed:
		return fwState
	case !f.maySend(p, c):
		return fwSyns
	case !fromOrigin: // simultaneous open
		flow.stage = fwCrossed
		flow.peers[1].first, flow.peers[1].next = s.seq, s.seq+1
		flow.loose = flow.loose || s.partial
	case flow.stage == fwAsked || flow.stage == fwCrossed && s.seq != flow.peers[0].first:
		flow.ask(s)
	}
	return 0
}

// maySend charges a SYN to its source and its destination, if both have tokens.
func (f *firewall) maySend(p *view, c []uint64) bool {
	var charged *bucket
	for i, l := range f.syns {
		if l == nil {
			continue
		}
		b, _ := l.find(f.synAddr(i, p), l.limits, p.RxNs)
		if !l.take(b, p) {
			if charged != nil {
				f.syns[0].giveBack(charged)
			}
			c[fwSynOver+i]++
			return false
		}
		charged = b
	}
	return true
}

// completed gives back what the SYN took of a connection whose origin's packet p
// is.
func (f *firewall) completed(p *view) {
	for i, l := range f.syns {
		if l != nil && !l.all {
			b, _ := l.find(f.synAddr(i, p), l.limits, p.RxNs)
			l.giveBack(b)
		}
	}
}

func (f *firewall) synAddr(i int, p *view) netip.Addr {
	if i == 0 {
		return srcOf(p.ip())
	}
	return dstOf(p.ip())
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
	case fromOrigin && s.rst:
		if acknowledged(s.seq) {
			f.stage = fwOver
		}
	case fromOrigin && f.stage == fwCrossed && s.syn && s.ack:
		if s.acked != answer.first+1 {
			return fwWindow
		}
	case !fromOrigin && s.ack && !s.syn && !s.rst && s.length == 0: // of an older connection
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
func (f *fwFlow) afterAnswer(s fwSegment, fromOrigin bool) uint16 {
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
		if f.loose || s.seq == from.next { // what its receiver obeys, too
			f.stage = fwOver
		}
		return 0
	}
	if f.stage == fwAnswered && fromOrigin && s.ack {
		f.stage = fwOpen
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
