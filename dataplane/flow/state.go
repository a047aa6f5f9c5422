package flow

import (
	"sfc/dataplane/packet"
)

// Class is a kind of protocol, by which flows age and are counted.
type Class uint8

// The classes.
const (
	TCP Class = iota
	UDP
	ICMP
	Other

	// NumClasses sizes arrays indexed by Class.
	NumClasses = iota
)

// String returns the class's stable name, a metric label.
func (c Class) String() string {
	return [...]string{"tcp", "udp", "icmp", "other"}[c&3]
}

func classOf(proto uint8) Class {
	switch proto {
	case packet.ProtoTCP:
		return TCP
	case packet.ProtoUDP:
		return UDP
	case packet.ProtoICMP, packet.ProtoICMPv6:
		return ICMP
	}
	return Other
}

// State is how far a flow has come, as far as ageing needs to know. It is no
// check of TCP: a firewall keeps its own state.
type State uint8

const (
	// unused: the slot is free.
	unused State = iota
	// ended: the flow is over, and Drain has not been told yet.
	ended
	// leaving: Extract has taken the flow, and Leave has not been told yet.
	leaving
	// Opening: packets one way only; of TCP: no handshake seen yet. The
	// first to go when the table is full, after closed ones.
	Opening
	// Open: both sides have spoken; of TCP: established.
	Open
	// Closing: TCP, one side has sent FIN.
	Closing
	// Closed: TCP, both sides have sent FIN.
	Closed
	// Reset: TCP, one side has sent RST.
	Reset
)

// String returns the state's stable name.
func (s State) String() string {
	return [...]string{"unused", "ended", "leaving", "opening", "open", "closing", "closed", "reset"}[s&7]
}

// kind is class and state in one byte: how a flow ages. Of a flow that is
// leaving, the upper bits say which state it was in.
type kind uint8

const kindWas = 5

// numKinds sizes arrays indexed by kind.
const numKinds = NumClasses * 8

func makeKind(c Class, s State) kind { return kind(c)<<3 | kind(s) }

func (k kind) class() Class { return Class(k >> 3 & 3) }
func (k kind) state() State { return State(k & 7) }
func (k kind) was() State   { return State(k >> kindWas) }
func (k kind) live() bool   { return k.state() >= Opening }

// over says that the flow's connection is, so a SYN begins another.
func (k kind) over() bool { return k.state() >= Closed }

// Bits of entry.bits.
const (
	// startSwap: the source of the flow's first packet is the key's higher end.
	startSwap = 1 << iota
	// again: seen since eviction last looked at the flow.
	again
	// finStart and finAnswer: FIN from the side that began, from the other.
	finStart
	finAnswer
	// hasCookie: entry.cookie is the low half of the number that the
	// starting side must acknowledge.
	hasCookie
	// resetAnswer: RST came from the answering side.
	resetAnswer
	// wasOpen: the flow was open before it was reset.
	wasOpen
	// arriving: what functions keep of the flow has not come yet, see Insert.
	arriving
)

// begin returns the state and bits that a flow begins with; its first packet
// is q.
func begin(q *Query) (kind, uint8) {
	c, bits := classOf(q.key.proto()), q.swap()*startSwap
	if c == TCP {
		if q.bits&tcpRST != 0 {
			return makeKind(c, Reset), bits
		}
		if q.bits&tcpFIN != 0 {
			bits |= finStart
		}
	}
	return makeKind(c, Opening), bits
}

// advance returns the state of e after another packet of its flow, and keeps
// e.bits and e.cookie. reverse is 1 for packets of the answering side, else 0.
func (e *entry) advance(q *Query, reverse uint8) State {
	s := e.kind.state()
	if e.kind.class() != TCP {
		if s == Opening && reverse == 0 {
			e.bits |= again
			return Opening
		}
		return Open
	}
	switch {
	case q.bits&tcpRST != 0:
		if s == Reset {
			return Reset
		}
		e.bits &^= resetAnswer | wasOpen
		if s > Opening {
			e.bits |= wasOpen
		}
		e.bits |= reverse * resetAnswer
		return Reset
	case s == Reset:
		return e.afterReset(q, reverse)
	case q.bits&tcpFIN != 0:
		e.bits |= finStart << reverse
		if e.bits&(finStart|finAnswer) == finStart|finAnswer {
			return Closed
		}
		if s == Open {
			return Closing
		}
		return s
	case s == Opening:
		return e.shakeHands(q, reverse)
	}
	return s
}

// shakeHands follows a connection that is opening. It is open when the starting
// side acknowledges the other's SYN, which one who forges addresses cannot
// (but for 1 guess in 65,536), or when the answering side sends on without SYN.
func (e *entry) shakeHands(q *Query, reverse uint8) State {
	switch {
	case reverse == 0 && q.bits&tcpACK != 0 && e.bits&hasCookie != 0 && q.ack == e.cookie:
		return Open
	case reverse == 0:
		e.bits |= again
	case q.bits&tcpSYN != 0:
		e.cookie = q.seq + 1
		e.bits |= hasCookie
	case q.bits&tcpACK != 0:
		return Open
	}
	return Opening
}

// afterReset returns a flow to life when the side that is said to have sent RST
// goes on as if it had not: then somebody else sent it.
func (e *entry) afterReset(q *Query, reverse uint8) State {
	from := uint8(0)
	if e.bits&resetAnswer != 0 {
		from = 1
	}
	if reverse != from || q.bits&(tcpACK|tcpSYN) != tcpACK {
		return Reset
	}
	switch {
	case e.bits&wasOpen == 0:
		return Opening
	case e.bits&(finStart|finAnswer) == finStart|finAnswer:
		return Closed
	case e.bits&(finStart|finAnswer) != 0:
		return Closing
	}
	return Open
}
