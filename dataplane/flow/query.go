package flow

// Query is what a table needs to know of a packet. It has no pointers, so it
// may be held, or handed to another worker together with the frame.
type Query struct {
	key key
	// hash is the one that steering computes for whole packets of the flow.
	// It places the key in the index, and the flow in an ownership bucket.
	hash uint32
	// at is the packet's time in ms, modulo 2^32.
	at uint32
	// group is what all fragments of a packet share, 0 for whole packets.
	group uint32
	// seq and ack are the low halves of TCP's numbers.
	seq, ack uint16
	path     uint16
	kind     Kind
	// bits are TCP's flags, and querySwap.
	bits uint8
}

// querySwap, in Query.bits: the packet's source is the key's higher end.
const (
	querySwap      = 1 << 7
	querySwapShift = 7
)

// TCP header flags (RFC 9293 section 3.1).
const (
	tcpFIN = 1 << iota
	tcpSYN
	tcpRST
	_
	tcpACK
	tcpMask = 1<<5 - 1
)

// Kind says how a packet relates to flows.
type Kind uint8

const (
	// NoFlow: not IP, or cut short.
	NoFlow Kind = iota
	// Packet shows its flow's tuple, and makes a flow where there is none.
	Packet
	// LaterFragment belongs to the flow of its first fragment.
	LaterFragment
	// QuotedPacket is an ICMP error that quotes a packet of its flow.
	QuotedPacket
	// UnknownFragment is a later fragment whose first one was not seen, or
	// too long ago. Hold it, and read it again after a packet with the same
	// [Query.Group] came by.
	UnknownFragment
)

// Kind returns how the packet relates to flows.
func (q *Query) Kind() Kind { return q.kind }

// Owner returns the hash whose low bits are the ownership bucket of the flow:
// what steering computes for the flow's whole packets. It differs from the
// packet's own [sfc/dataplane/packet.Meta.Hash] for fragments and ICMP errors:
// these may have come to a worker that does not own their flow. 0 for NoFlow
// and UnknownFragment.
func (q *Query) Owner() uint32 { return q.hash }

// Path returns the service path of the packet; of later fragments, which show
// nothing that rules on ports could match, that of the first one.
func (q *Query) Path() uint16 { return q.path }

// Group returns a number that all fragments of one packet share, and others
// hardly ever; 0 for packets that are no fragments.
func (q *Query) Group() uint32 { return q.group }

// Tuple returns the tuple by which the flow is looked up, in the packet's
// direction (of an ICMP error: against the quoted packet's). ok is false when
// there is none.
func (q *Query) Tuple() (t Tuple, ok bool) {
	if q.kind == NoFlow || q.kind == UnknownFragment {
		return t, false
	}
	return q.key.tuple(q.swap()), true
}

// swap is 1 when the packet's source is the key's higher end.
func (q *Query) swap() uint8 { return q.bits >> querySwapShift }

// none makes q a query of kind NoFlow.
func (q *Query) none() {
	q.key, q.hash, q.kind, q.bits = key{}, 0, NoFlow, 0
}

// SetTime says when the packet came, in ns: where that was not known yet when
// the query was read.
func (q *Query) SetTime(ns uint64) { q.at = uint32(ns / 1e6) }
