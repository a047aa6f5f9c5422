package native

import (
	"encoding/binary"
	"net/netip"

	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
)

// nat44 is nf/catalog/nat44.
type nat44 struct {
	natConfig
	flows map[uint32]*natSession // by slot
}

// natSession is what became of a flow.
type natSession struct {
	untouched bool
	waiting   bool // hairpin: the other side has not let the origin in
	proto     uint8
	before    natEnds // of a packet in the flow's direction
	after     natEnds
}

// natEnds are a packet's source and destination. Of an ICMP query both ports
// are the identifier; of what shows no ports, or keeps them, they stay what they
// are.
type natEnds struct{ src, dst netip.AddrPort }

func (e natEnds) turned() natEnds { return natEnds{e.dst, e.src} }

const (
	natExhausted = 1 // reasons
	natNoMapping = 2
	natFiltered  = 3
	natBind      = 4
	natCannot    = 5
	natWrong     = 6
	natNoFlow    = 7
	natNotInside = 8

	natSessions = 0 // counters
	natIncoming = 1
	natHairpins = 2
	natMappings = 3
	natErrors   = 4
	natOthers   = 5
	natNotIP4   = 6

	protoDCCP    = 33
	protoUDPLite = 136
)

func newNAT44(config map[string]any) (decider, error) {
	c, err := newNATConfig(config)
	return &nat44{natConfig: c, flows: map[uint32]*natSession{}}, err
}

func (n *nat44) inherit(from decider) { n.flows = from.(*nat44).flows }

func (n *nat44) end(slot uint32, _ []uint64) { delete(n.flows, slot) }

func (n *nat44) decide(p *view, c []uint64) (packet.Verdict, uint16) {
	if reason := n.reason(p, c); reason != 0 {
		return packet.Drop, reason
	}
	return packet.Next, 0
}

// reason says why a packet is dropped; 0: it is not.
func (n *nat44) reason(p *view, c []uint64) uint16 {
	if p.Flags&packet.FlagIPv4 == 0 {
		c[natNotIP4]++
		return 0
	}
	if p.Slot == packet.NoSlot {
		return natNoFlow
	}
	s := n.flows[p.Slot]
	isError := p.Flags&packet.FlagICMPError != 0
	switch {
	case s == nil:
		return n.begin(p, c)
	case s.untouched:
		c[natOthers]++
		return 0
	case s.waiting:
		if p.Flags&packet.FlagReverse == 0 && !n.admits(p, s.proto, s.before.dst, s.after.src.Addr()) {
			return natFiltered
		}
		if isError {
			return natNoMapping
		}
		reason := s.translate(p)
		s.waiting = reason != 0
		return reason
	case isError:
		reason := s.translateError(p)
		if reason == 0 {
			c[natErrors]++
		}
		return reason
	}
	return s.translate(p)
}

// begin decides about a packet of a flow that has no session.
func (n *nat44) begin(p *view, c []uint64) uint16 {
	ip := p.at(p.L3, packet.IPv4Len)
	if ip == nil {
		return natCannot
	}
	if p.Flags&(packet.FlagLaterFrag|packet.FlagICMPError) != 0 {
		return natNoMapping
	}
	src, dst := netip.AddrFrom4([4]byte(ip[12:])), netip.AddrFrom4([4]byte(ip[16:]))
	fromInside, toInside, toPool := n.inside.has(src), n.inside.has(dst), n.pool.has(dst)
	toMany := dst.As4()[0] >= 224
	switch {
	case fromInside && !toInside && !toMany:
	case !fromInside && toPool:
	case n.passOthers:
		n.flows[p.Slot] = &natSession{untouched: true}
		c[natOthers]++
		return 0
	default:
		return natNotInside
	}
	shown, query, ok := p.natEnds(ip)
	if !ok {
		return natCannot
	}
	s := &natSession{proto: p.Proto, before: shown}
	reason := uint16(0)
	if fromInside {
		reason = n.outgoing(p, s, query, toPool, c)
	} else {
		reason = n.incoming(p, s, query, c)
	}
	if reason != 0 && !s.waiting {
		return reason
	}
	c[natSessions]++
	if p.Flags&packet.FlagReverse != 0 {
		s.before, s.after = s.after.turned(), s.before.turned()
	}
	n.flows[p.Slot] = s
	if reason != 0 {
		return reason
	}
	return s.translate(p)
}

// portsChange says whether the translation is free to change ports of a
// protocol, or identifiers.
func portsChange(proto uint8) bool {
	return proto == packet.ProtoTCP || proto == packet.ProtoUDP || proto == packet.ProtoICMP
}

// natEnds reads what the packet shows; ok is false when it cannot be translated.
func (v *view) natEnds(ip []byte) (e natEnds, query uint8, ok bool) {
	src, dst := netip.AddrFrom4([4]byte(ip[12:])), netip.AddrFrom4([4]byte(ip[16:]))
	e = natEnds{netip.AddrPortFrom(src, 0), netip.AddrPortFrom(dst, 0)}
	least := map[uint8]int{packet.ProtoTCP: packet.TCPLen, packet.ProtoUDP: packet.UDPLen, packet.ProtoSCTP: packet.SCTPLen,
		packet.ProtoICMP: packet.ICMPLen, protoDCCP: 8, protoUDPLite: 8}[v.Proto]
	h := v.natTransport(ip, least)
	switch {
	case v.Proto == packet.ProtoAH || least > 0 && h == nil:
		return e, 0, false
	case v.Proto == packet.ProtoICMP:
		query = map[byte]uint8{0: 8, 8: 8, 13: 13, 14: 13, 15: 15, 16: 15, 17: 17, 18: 17}[h[0]]
		id := binary.BigEndian.Uint16(h[4:])
		return natEnds{netip.AddrPortFrom(src, id), netip.AddrPortFrom(dst, id)}, query, query != 0
	case packet.HasPorts(v.Proto):
		return natEnds{netip.AddrPortFrom(src, binary.BigEndian.Uint16(h)), netip.AddrPortFrom(dst, binary.BigEndian.Uint16(h[2:]))}, 0, true
	}
	return e, 0, true
}

// natTransport returns size bytes of the transport header. The parser does not
// look for headers of protocols it does not know.
func (v *view) natTransport(ip []byte, size int) []byte {
	l4 := int(v.L4)
	if v.Proto == protoDCCP || v.Proto == protoUDPLite {
		l4 = int(v.L3) + int(ip[0]&15)*4
	}
	if l4 < int(v.L3)+packet.IPv4Len {
		return nil
	}
	return v.at(uint16(l4), size)
}

// outgoing chooses what a packet from the inside becomes.
func (n *nat44) outgoing(p *view, s *natSession, query uint8, hairpin bool, c []uint64) uint16 {
	inside, remote := s.before.src, s.before.dst
	s.after.dst = remote
	become := func(outside netip.AddrPort) {
		s.after.src = outside
		if query != 0 {
			s.after.dst = netip.AddrPortFrom(remote.Addr(), outside.Port())
		}
	}
	addr, ports := n.candidates(p.Proto, inside)
	switch {
	case hairpin && (n.perDestination || !n.hairpin || !packet.HasPorts(p.Proto) || p.Proto == packet.ProtoSCTP):
		return natNoMapping
	case !portsChange(p.Proto):
		ports = []uint16{inside.Port()}
		fallthrough
	case n.perDestination:
		for _, port := range ports {
			become(netip.AddrPortFrom(addr, port))
			switch got := p.natBind(s, query); got {
			case BindOK:
				return 0
			case BindTaken:
			default:
				return natRefusal(got)
			}
		}
		return natExhausted
	}
	if hairpin {
		to, ok := n.mapped(p, p.Proto, remote)
		if !ok {
			return natNoMapping
		}
		s.after.dst = to
	}
	outside, ok := n.existing(p, inside)
	if !ok {
		var reason uint16
		if outside, reason = n.fresh(p, inside, remote.Addr()); reason != 0 {
			return reason
		}
		c[natMappings]++
	} else if got := n.hold(p, inside, outside, remote.Addr()); got != BindOK {
		return natRefusal(got)
	}
	become(outside)
	if got := p.natBind(s, query); got != BindOK {
		return natRefusal(got)
	}
	if hairpin {
		c[natHairpins]++
		if s.waiting = !n.admits(p, p.Proto, remote, outside.Addr()); s.waiting {
			return natFiltered
		}
	}
	return 0
}

// incoming finds what a packet from the outside becomes.
func (n *nat44) incoming(p *view, s *natSession, query uint8, c []uint64) uint16 {
	remote, outside := s.before.src, s.before.dst
	inside, ok := n.mapped(p, p.Proto, outside)
	switch {
	case !portsChange(p.Proto) || !ok:
		return natNoMapping
	case !n.admits(p, p.Proto, outside, remote.Addr()):
		return natFiltered
	}
	if got := n.hold(p, inside, outside, remote.Addr()); got != BindOK {
		return natRefusal(got)
	}
	s.after = natEnds{remote, inside}
	if query != 0 {
		s.after.src = netip.AddrPortFrom(remote.Addr(), inside.Port())
	}
	if got := p.natBind(s, query); got != BindOK {
		return natRefusal(got)
	}
	c[natIncoming]++
	return 0
}

// natRefusal is the reason to drop what the host refused.
func natRefusal(got int32) uint16 {
	if got == BindNoFlow {
		return natNoFlow
	}
	return natBind
}

// natBind binds what the packet becomes to its flow.
func (v *view) natBind(s *natSession, query uint8) int32 {
	e := s.after
	if v.Flags&packet.FlagReverse != 0 {
		e = e.turned()
	}
	return v.host.FlowBind(v.index, flow.Tuple{
		Src: e.src.Addr(), Dst: e.dst.Addr(), SrcPort: e.src.Port(), DstPort: e.dst.Port(), Proto: v.Proto, Query: query,
	})
}
