package flow

import (
	"fmt"
	"math/bits"
	"time"

	"sfc/dataplane/packet"
)

// ReaderOptions configure a [Reader]. The zero value selects the defaults.
type ReaderOptions struct {
	// Key is the secret of [sfc/dataplane/packet.FlowHash], the same that
	// the steering program has.
	Key [2]uint64
	// Fragments is how many fragmented packets are remembered. Rounded up to
	// a power of two. Default 4096, 64 bytes each.
	Fragments uint32
	// FragmentTimeout is how long after its first fragment a packet's other
	// fragments are recognised. Default 30 s, as Linux waits for them.
	FragmentTimeout time.Duration
}

// maxFragments bounds ReaderOptions.Fragments.
const maxFragments = 1 << 22

// Reader makes queries of packets. It remembers the first fragments that it
// read, so all fragments of a packet must be read by the same Reader.
//
// Owner: one worker. Not safe for concurrent use.
type Reader struct {
	secret [2]uint64
	frags  fragments
}

// NewReader returns a reader. It is memory of the Go heap; Read allocates none.
func NewReader(opts ReaderOptions) (*Reader, error) {
	orDefault(&opts.Fragments, 4096)
	orDefault(&opts.FragmentTimeout, 30*time.Second)
	if opts.Fragments > maxFragments {
		return nil, fmt.Errorf("flow reader: %d fragments: at most %d are possible", opts.Fragments, maxFragments)
	}
	if opts.FragmentTimeout < time.Millisecond || opts.FragmentTimeout > MaxTimeout {
		return nil, fmt.Errorf("flow reader: fragment timeout of %v: choose between 1ms and %v", opts.FragmentTimeout, MaxTimeout)
	}
	return &Reader{secret: opts.Key, frags: newFragments(opts.Fragments, ms(opts.FragmentTimeout))}, nil
}

// Fragments returns the counters of fragments.
func (r *Reader) Fragments() FragmentCounters { return r.frags.count }

// Read fills q from a frame and what steering found out about it. It trusts
// neither to agree: every offset is checked against the frame.
//
// m.Hash is taken as the hash of the tuple, except for fragments and ICMP
// errors.
func (r *Reader) Read(frame []byte, m *packet.Meta, q *Query) {
	// Field by field: a literal would be built elsewhere and copied, 3 ns.
	q.hash, q.at, q.group = m.Hash, uint32(m.RxNs/1e6), 0
	q.seq, q.ack, q.path, q.kind, q.bits = 0, 0, m.Path, Packet, 0
	l3, l4 := int(m.L3), int(m.L4)
	if m.Flags&(packet.FlagOdd|packet.FlagLaterFrag) != 0 || l4 == 0 || !packet.HasPorts(m.Proto) || l4+4 > len(frame) {
		r.readOdd(frame, m, q)
		return
	}
	ports := bits.ReverseBytes32(le32(frame[l4 : l4+4]))
	sport, dport := uint16(ports>>16), uint16(ports)
	if m.Proto == packet.ProtoTCP && l4+14 <= len(frame) {
		h := frame[l4 : l4+14]
		q.seq, q.ack, q.bits = be16(h[6:]), be16(h[10:]), h[13]&tcpMask
	}
	switch {
	case m.Flags&packet.FlagIPv4 != 0 && l3+packet.IPv4Len <= len(frame):
		h := frame[l3 : l3+packet.IPv4Len]
		q.bits |= q.key.setV4(endV4(le32(h[12:]), sport), endV4(le32(h[16:]), dport), lastWord(4, m.Proto, 0)) << querySwapShift
	case m.Flags&packet.FlagIPv6 != 0 && l3+packet.IPv6Len <= len(frame):
		h := frame[l3 : l3+packet.IPv6Len]
		q.bits |= q.key.setV6(le64(h[8:]), le64(h[16:]), le64(h[24:]), le64(h[32:]), sport, dport, lastWord(6, m.Proto, 0)) << querySwapShift
	default:
		q.none()
	}
}

// readOdd is Read for everything but whole packets that show ports. Of these
// q has all but the tuple.
func (r *Reader) readOdd(frame []byte, m *packet.Meta, q *Query) {
	h := frame[min(int(m.L3), len(frame)):]
	var l4 []byte // empty: not to be seen
	if m.L4 != 0 && m.Flags&packet.FlagLaterFrag == 0 {
		l4 = frame[min(int(m.L4), len(frame)):]
	}
	ipv4 := m.Flags&packet.FlagIPv4 != 0 && len(h) >= packet.IPv4Len
	if !ipv4 && (m.Flags&packet.FlagIPv6 == 0 || len(h) < packet.IPv6Len) {
		q.none()
		return
	}
	switch {
	case m.Flags&packet.FlagLaterFrag != 0:
		r.frags.resolve(r.secret, h, m, ipv4, q)
		return
	case m.Flags&packet.FlagICMPError != 0:
		readQuote(r.secret, l4, m.Proto, q)
		return
	}
	sport, dport, query := tell(m.Proto, l4)
	if m.Proto == packet.ProtoTCP && len(l4) >= 14 {
		q.seq, q.ack, q.bits = be16(l4[6:]), be16(l4[10:]), l4[13]&tcpMask
	}
	q.setTuple(h, ipv4, m.Proto, sport, dport, query)
	if m.Flags&packet.FlagFragment != 0 {
		q.hash = q.key.hash(r.secret)
		r.frags.note(r.secret, h, m, ipv4, q)
	}
}

// setTuple sets the key from an IP header and what was read behind it, and the
// direction.
func (q *Query) setTuple(h []byte, ipv4 bool, proto uint8, sport, dport uint16, query uint8) {
	var swap uint8
	if ipv4 {
		swap = q.key.setV4(endV4(le32(h[12:]), sport), endV4(le32(h[16:]), dport), lastWord(4, proto, query))
	} else {
		swap = q.key.setV6(le64(h[8:]), le64(h[16:]), le64(h[24:]), le64(h[32:]), sport, dport, lastWord(6, proto, query))
	}
	q.bits |= swap << querySwapShift
}

// tell reads what tells the flows of a protocol apart from the beginning of a
// transport header: all zero where there is nothing to read.
func tell(proto uint8, h []byte) (sport, dport uint16, query uint8) {
	switch {
	case packet.HasPorts(proto) && len(h) >= 4:
		return be16(h), be16(h[2:]), 0
	case isICMP(proto) && len(h) >= 6:
		if query = packet.ICMPQuery(proto, h[0]); query != 0 {
			sport = be16(h[4:])
		}
		return sport, sport, query
	}
	return 0, 0, 0
}

func isICMP(proto uint8) bool { return proto == packet.ProtoICMP || proto == packet.ProtoICMPv6 }

// Hash64 returns packet.FlowHash64 of the tuple by which a packet's flow is
// looked up, 0 when there is none.
func (r *Reader) Hash64(q *Query) uint64 {
	if q.kind == NoFlow || q.kind == UnknownFragment {
		return 0
	}
	return q.key.hash64(r.secret)
}
