package flow

import (
	"fmt"
	"time"

	"sfc/dataplane/packet"
)

// oracle is the table as one would write it without care for speed: maps,
// strings, and descriptions of packets instead of their bytes. It knows nothing
// of buckets, lists or slots; it says which flow a packet belongs to, by number.
type oracle struct {
	next  int
	flows map[int]*oracleFlow
	keys  map[string]oracleKey // tuple in a direction
	notes map[string]oracleNote
	conf  Timeouts
}

// oracleKey says that packets of this tuple, in this direction, belong to a flow.
type oracleKey struct {
	flow    int
	reverse bool
}

type oracleNote struct {
	tuple string // of the first fragment
	at    uint64
}

type oracleFlow struct {
	keys     []string
	class    Class
	state    State
	seen     uint64 // ms
	fin      [2]bool
	expect   int64 // the acknowledgment that completes the handshake, -1: none
	rstBy    int
	wasOpen  bool
	bindings int
}

func newOracle(conf Timeouts) *oracle {
	return &oracle{flows: map[int]*oracleFlow{}, keys: map[string]oracleKey{}, notes: map[string]oracleNote{}, conf: conf}
}

// verdict is what the oracle says of a packet.
type verdict struct {
	status  Status
	flow    int
	reverse bool
}

// tupleText is the tuple that a whole packet shows.
func (s *sent) tupleText() string {
	src, dst, kind := addr(s.v6, s.src), addr(s.v6, s.dst), ""
	switch {
	case packet.HasPorts(s.proto):
		kind = fmt.Sprintf("%d>%d", s.sport, s.dport)
	case isICMP(s.proto) && s.typ == 8 || s.typ == 0 && s.proto == packet.ProtoICMP || s.typ == 128 || s.typ == 129:
		kind = fmt.Sprintf("echo %d", s.sport)
	}
	return fmt.Sprintf("%v>%v proto %d %s", src, dst, s.proto, kind)
}

// fragmentText is what the fragments of a packet share.
func (s *sent) fragmentText() string {
	proto := s.proto
	if s.v6 {
		proto = 0
	}
	return fmt.Sprintf("%v>%v %d %d %d", addr(s.v6, s.src), addr(s.v6, s.dst), s.id, proto, s.vlan)
}

func (f *oracleFlow) timeout(c *Timeouts) uint64 {
	d := c.OtherOneWay
	switch f.class {
	case TCP:
		d = map[State]time.Duration{Opening: c.TCPOpening, Open: c.TCPEstablished, Closing: c.TCPClosing, Closed: c.TCPClosed, Reset: c.TCPReset}[f.state]
	case UDP:
		if d = c.UDPOneWay; f.state == Open {
			d = c.UDPTwoWay
		}
	case ICMP:
		d = c.ICMP
	case Other:
		if f.state == Open {
			d = c.OtherTwoWay
		}
	}
	return uint64(d.Milliseconds())
}

// end forgets a flow.
func (o *oracle) end(flow int) {
	for _, k := range o.flows[flow].keys {
		delete(o.keys, k)
	}
	delete(o.flows, flow)
}

// age ends what is idle for too long at a time in ms, and says what.
func (o *oracle) age(now uint64) (ended []int) {
	for id, f := range o.flows {
		if now > f.seen && now-f.seen > f.timeout(&o.conf) {
			ended = append(ended, id)
		}
	}
	for _, id := range ended {
		o.end(id)
	}
	return ended
}

// find returns the flow of a tuple that is not idle for too long.
func (o *oracle) find(tuple string, now uint64) (oracleKey, bool) {
	k, ok := o.keys[tuple]
	if !ok {
		return k, false
	}
	if f := o.flows[k.flow]; now > f.seen && now-f.seen > f.timeout(&o.conf) {
		o.end(k.flow)
		return k, false
	}
	return k, true
}

// add makes tuple and its reverse keys of a flow.
func (o *oracle) add(flow int, s *sent) {
	there, back := s.tupleText(), s.back().tupleText()
	o.keys[back] = oracleKey{flow, true}
	o.keys[there] = oracleKey{flow, false}
	o.flows[flow].keys = append(o.flows[flow].keys, there, back)
}

// packet says what a packet belongs to, and takes note of it; now is in ms.
func (o *oracle) packet(s *sent, now uint64) verdict {
	if s.quote != nil {
		k, ok := o.find(s.quote.tupleText(), now)
		if !ok {
			return verdict{status: Unrelated}
		}
		return verdict{Found, k.flow, !k.reverse}
	}
	tuple := s.tupleText()
	flags := s.tcp
	switch s.frag {
	case firstPart:
		o.notes[s.fragmentText()] = oracleNote{tuple, now}
	case laterPart:
		n, ok := o.notes[s.fragmentText()]
		if !ok || now >= n.at+30_000 {
			return verdict{status: Unknown}
		}
		tuple, flags = n.tuple, 0
	case whole:
	}
	k, ok := o.find(tuple, now)
	if ok {
		f := o.flows[k.flow]
		over := f.class == TCP && (f.state == Closed || f.state == Reset)
		if over && s.frag != laterPart && flags&(tcpSYN|tcpACK|tcpRST|tcpFIN) == tcpSYN {
			o.end(k.flow)
			ok = false
		}
	}
	switch {
	case ok:
		f := o.flows[k.flow]
		f.seen = max(f.seen, now)
		f.packet(s, flags, k.reverse)
		return verdict{Found, k.flow, k.reverse}
	case s.frag == laterPart:
		return verdict{status: Unrelated}
	}
	o.next++
	f := &oracleFlow{class: classOf(s.proto), state: Opening, seen: now, expect: -1}
	o.flows[o.next] = f
	o.add(o.next, s)
	if f.class == TCP && flags&tcpRST != 0 {
		f.state = Reset
	} else if f.class == TCP && flags&tcpFIN != 0 {
		f.fin[0] = true
	}
	return verdict{Created, o.next, false}
}

// packet changes the flow's state.
func (f *oracleFlow) packet(s *sent, flags uint8, reverse bool) {
	if f.class != TCP {
		if reverse {
			f.state = Open
		}
		return
	}
	side := 0
	if reverse {
		side = 1
	}
	syn, ack := flags&tcpSYN != 0, flags&tcpACK != 0
	if flags&tcpRST != 0 {
		if f.state != Reset {
			f.wasOpen, f.rstBy, f.state = f.state != Opening, side, Reset
		}
		return
	}
	if f.state == Reset {
		if side == f.rstBy && ack && !syn {
			switch {
			case !f.wasOpen:
				f.state = Opening
			case f.fin[0] && f.fin[1]:
				f.state = Closed
			case f.fin[0] || f.fin[1]:
				f.state = Closing
			default:
				f.state = Open
			}
		}
		return
	}
	if flags&tcpFIN != 0 {
		f.fin[side] = true
		if f.fin[0] && f.fin[1] {
			f.state = Closed
		} else if f.state == Open {
			f.state = Closing
		}
		return
	}
	if f.state != Opening {
		return
	}
	switch {
	case side == 0 && ack && f.expect >= 0 && int64(uint16(s.ack)) == f.expect:
		f.state = Open
	case side == 1 && syn:
		f.expect = int64(uint16(s.seq + 1))
	case side == 1 && ack:
		f.state = Open
	}
}

// bind is Table.Bind.
func (o *oracle) bind(flow int, s *sent) BindResult {
	f, ok := o.flows[flow]
	if !ok {
		return BindNoFlow
	}
	if k, ok := o.keys[s.tupleText()]; ok {
		if k.flow == flow {
			return Bound
		}
		return BindConflict
	}
	if f.bindings == MaxBindings {
		return BindLimit
	}
	f.bindings++
	o.add(flow, s)
	return Bound
}
