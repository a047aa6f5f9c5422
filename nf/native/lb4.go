package native

import (
	"cmp"
	"net"
	"net/netip"
	"slices"

	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
)

// lb4 is nf/catalog/lb4.
type lb4 struct {
	services   []*lbService
	seed       uint64
	srcMAC     net.HardwareAddr
	dropOthers bool
	flows      map[uint32]*lbFlow // by slot
}

type lbService struct {
	vip      netip.Addr
	port     uint16 // 0: any
	proto    uint8  // 0: any
	dsr      bool
	bySource bool
	backends []*lbBackend
	table    []*lbBackend
}

type lbBackend struct {
	addr   netip.Addr
	port   uint16 // 0: as asked
	mac    net.HardwareAddr
	weight int
	state  string
}

// lbFlow is where a flow goes.
type lbFlow struct {
	untouched bool
	dsr       bool
	backwards bool // packets to the back end are against the flow's direction
	natSession
}

const (
	lbNoBackend  = 1 // reasons
	lbDown       = 2
	lbNoService  = 3
	lbBind       = 4
	lbCannot     = natCannot
	lbWrong      = natWrong
	lbNoFlow     = natNoFlow
	lbNotService = 8

	lbFlows  = 0 // counters
	lbMoved  = 1
	lbErrors = 2
	lbOthers = 3
	lbNotIP4 = 4
)

func (l *lb4) inherit(from decider) { l.flows = from.(*lb4).flows }

func (l *lb4) end(slot uint32, _ []uint64) { delete(l.flows, slot) }

func (l *lb4) decide(p *view, c []uint64) (packet.Verdict, uint16) {
	if reason := l.reason(p, c); reason != 0 {
		return packet.Drop, reason
	}
	return packet.Next, 0
}

// reason says why a packet is dropped; 0: it is not.
func (l *lb4) reason(p *view, c []uint64) uint16 {
	if p.Flags&packet.FlagIPv4 == 0 {
		c[lbNotIP4]++
		return 0
	}
	if p.Slot == packet.NoSlot {
		return lbNoFlow
	}
	f := l.flows[p.Slot]
	if f == nil {
		return l.begin(p, c)
	}
	if f.untouched {
		c[lbOthers]++
		return 0
	}
	reason := l.follow(p, f, c)
	if reason == 0 && p.Flags&packet.FlagICMPError != 0 {
		c[lbErrors]++
	}
	return reason
}

// follow decides about a packet of a balanced flow.
func (l *lb4) follow(p *view, f *lbFlow, c []uint64) uint16 {
	fromBackend := (p.Flags&packet.FlagReverse != 0) != f.backwards
	if fromBackend && f.dsr {
		return 0
	}
	if fromBackend {
		return f.pass(p)
	}
	asked, went := f.before, f.after
	if f.backwards {
		asked, went = f.after.turned(), f.before.turned()
	}
	for _, s := range l.services {
		if !s.covers(asked.dst, f.proto) || s.dsr != f.dsr {
			continue
		}
		for _, b := range s.backends {
			if b.state != "down" && b.at(asked.dst) == went.dst {
				return l.send(p, f, b)
			}
		}
	}
	s := l.service(asked.dst, f.proto)
	if s == nil || p.Flags&(packet.FlagLaterFrag|packet.FlagICMPError) != 0 {
		return lbDown
	}
	ip := p.at(p.L3, packet.IPv4Len)
	if ip == nil {
		return lbCannot
	}
	shown, query, ok := p.natEnds(ip)
	switch {
	case !ok:
		return lbCannot
	case p.Proto != f.proto || shown != asked:
		return lbWrong
	case p.Proto == packet.ProtoTCP && p.at(p.L4, packet.TCPLen)[13]&0x16 != 0x02:
		return lbDown
	}
	reason := l.choose(p, s, shown, query)
	if reason == 0 {
		c[lbMoved]++
	}
	return reason
}

// begin decides about a packet of a flow that was not decided about.
func (l *lb4) begin(p *view, c []uint64) uint16 {
	ip := p.at(p.L3, packet.IPv4Len)
	if ip == nil {
		return lbCannot
	}
	decidesNothing := p.Flags&(packet.FlagLaterFrag|packet.FlagICMPError) != 0
	if !l.isVIP(netip.AddrFrom4([4]byte(ip[16:]))) {
		if l.dropOthers {
			return lbNotService
		}
		if !decidesNothing {
			l.flows[p.Slot] = &lbFlow{untouched: true}
		}
		c[lbOthers]++
		return 0
	}
	if decidesNothing {
		return lbNoService
	}
	shown, query, ok := p.natEnds(ip)
	if !ok {
		return lbCannot
	}
	s := l.service(shown.dst, p.Proto)
	if s == nil {
		return lbNoService
	}
	reason := l.choose(p, s, shown, query)
	if reason == 0 {
		c[lbFlows]++
	}
	return reason
}

// choose gives the packet's flow a back end and sends the packet there.
func (l *lb4) choose(p *view, s *lbService, shown natEnds, query uint8) uint16 {
	b := l.pick(s, shown, p.Proto)
	if b == nil {
		return lbNoBackend
	}
	f := &lbFlow{dsr: s.dsr, backwards: p.Flags&packet.FlagReverse != 0}
	f.proto, f.before, f.after = p.Proto, shown, natEnds{shown.src, b.at(shown.dst)}
	if f.backwards {
		f.before, f.after = f.after.turned(), f.before.turned()
	}
	if !s.dsr {
		e := f.after
		if f.backwards {
			e = f.before
		}
		t := flow.Tuple{Src: e.src.Addr(), Dst: e.dst.Addr(), SrcPort: e.src.Port(), DstPort: e.dst.Port(), Proto: p.Proto, Query: query}
		switch p.host.FlowBind(p.index, t) {
		case BindOK:
		case BindNoFlow:
			return lbNoFlow
		default:
			return lbBind
		}
	}
	l.flows[p.Slot] = f
	return l.send(p, f, b)
}

// send rewrites what goes to a back end.
func (l *lb4) send(p *view, f *lbFlow, b *lbBackend) uint16 {
	if !f.dsr {
		return f.pass(p)
	}
	copy(p.frame, b.mac)
	copy(p.frame[6:], l.srcMAC)
	return 0
}

// pass translates a packet or an ICMP error.
func (f *lbFlow) pass(p *view) uint16 {
	if p.Flags&packet.FlagICMPError != 0 {
		return f.translateError(p)
	}
	return f.translate(p)
}

// at is where the back end takes what was sent to an end of a service.
func (b *lbBackend) at(asked netip.AddrPort) netip.AddrPort {
	if b.port == 0 {
		return netip.AddrPortFrom(b.addr, asked.Port())
	}
	return netip.AddrPortFrom(b.addr, b.port)
}

func (s *lbService) covers(dst netip.AddrPort, proto uint8) bool {
	return s.vip == dst.Addr() && (s.port == 0 || s.port == dst.Port()) && (s.proto == 0 || s.proto == proto)
}

func (l *lb4) isVIP(a netip.Addr) bool {
	return slices.ContainsFunc(l.services, func(s *lbService) bool { return s.vip == a })
}

// service returns the service that names most of what is asked for.
func (l *lb4) service(dst netip.AddrPort, proto uint8) *lbService {
	for _, named := range []struct{ port, proto bool }{{true, true}, {true, false}, {false, true}, {false, false}} {
		for _, s := range l.services {
			if s.covers(dst, proto) && (s.port != 0) == named.port && (s.proto != 0) == named.proto {
				return s
			}
		}
	}
	return nil
}

// pick returns the back end of a new flow, nil when none is up.
func (l *lb4) pick(s *lbService, e natEnds, proto uint8) *lbBackend {
	if s.table == nil {
		return nil
	}
	k := natMix(l.seed ^ uint64(ip4Number(e.src.Addr())))
	if !s.bySource {
		k = natMix(k^(uint64(e.src.Port())<<48|uint64(e.dst.Port())<<32|uint64(ip4Number(e.dst.Addr())))) + uint64(proto)
	}
	return s.table[natMix(k)>>32*uint64(len(s.table))>>32]
}

// build makes the service's table, as in the paper.
func (s *lbService) build(size int) {
	var up []*lbBackend
	for _, b := range s.backends {
		if b.state == "up" && b.weight > 0 {
			up = append(up, b)
		}
	}
	if len(up) == 0 {
		return
	}
	slices.SortFunc(up, func(a, b *lbBackend) int { return cmp.Or(a.addr.Compare(b.addr), cmp.Compare(a.port, b.port)) })
	walked := make([]int, len(up)) // places of each one's permutation
	next := func(i int) int {
		h := natMix(uint64(ip4Number(up[i].addr))<<16 | uint64(up[i].port))
		offset, skip := int(h>>32*uint64(size)>>32), 1+int(uint64(uint32(h))*uint64(size-1)>>32)
		walked[i]++
		return (offset + (walked[i]-1)*skip) % size
	}
	s.table = make([]*lbBackend, size)
	for left := size; left > 0; {
		for i, b := range up {
			for range b.weight {
				for left > 0 {
					if place := next(i); s.table[place] == nil {
						s.table[place] = b
						left--
						break
					}
				}
			}
		}
	}
}
