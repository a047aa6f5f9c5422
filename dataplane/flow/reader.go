package flow

import (
	"fmt"
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
// m.Hash is taken as the hash of the tuple, except for fragments, ICMP errors
// and ICMP queries.
func (r *Reader) Read(frame []byte, m *packet.Meta, q *Query) {
	*q = Query{at: uint32(m.RxNs / 1e6), path: m.Path}
	l4 := frame[min(int(m.L4), len(frame)):]
	if m.L4 == 0 || m.Flags&packet.FlagLaterFrag != 0 {
		l4 = nil
	}
	var sport, dport uint16
	var query uint8
	const odd = packet.FlagFragment | packet.FlagLaterFrag | packet.FlagICMPError
	switch {
	case len(l4) < 4:
	case m.Proto == packet.ProtoTCP:
		sport, dport = be16(l4), be16(l4[2:])
		if len(l4) >= 14 {
			q.seq, q.ack, q.bits = be16(l4[6:]), be16(l4[10:]), l4[13]&tcpMask
		}
	case packet.HasPorts(m.Proto):
		sport, dport = be16(l4), be16(l4[2:])
	case isICMP(m.Proto):
		if m.Flags&packet.FlagICMPError != 0 {
			r.readQuote(l4, m, q)
			return
		}
		if query = icmpQuery(m.Proto, l4[0]); query != 0 && len(l4) >= 6 {
			sport = be16(l4[4:])
			dport = sport
		}
	}
	h := frame[min(int(m.L3), len(frame)):]
	var swap uint8
	switch {
	case m.Flags&packet.FlagIPv4 != 0 && len(h) >= packet.IPv4Len:
		q.key, swap = keyV4(le32(h[12:]), le32(h[16:]), sport, dport, m.Proto, query)
	case m.Flags&packet.FlagIPv6 != 0 && len(h) >= packet.IPv6Len:
		q.key, swap = keyV6(le64(h[8:]), le64(h[16:]), le64(h[24:]), le64(h[32:]), sport, dport, m.Proto, query)
	default:
		q.bits = 0
		return
	}
	q.kind = Packet
	q.bits |= swap << querySwapShift
	q.index, q.owner = m.Hash, m.Hash
	if m.Flags&odd != 0 || query != 0 {
		r.readOdd(h, m, q)
	}
}

func isICMP(proto uint8) bool { return proto == packet.ProtoICMP || proto == packet.ProtoICMPv6 }

// readOdd finishes the query of a packet whose hash is not m.Hash; h starts
// with its IP header.
func (r *Reader) readOdd(h []byte, m *packet.Meta, q *Query) {
	if m.Flags&packet.FlagLaterFrag != 0 {
		r.frags.resolve(r.secret, h, m, q)
		return
	}
	if m.Flags&packet.FlagICMPError != 0 { // too short to quote anything
		*q = Query{at: q.at, path: q.path}
		return
	}
	if m.Flags&packet.FlagFragment == 0 { // an ICMP query
		q.index = q.key.hash(r.secret, true)
		return
	}
	q.index, q.owner = q.key.hashes(r.secret)
	r.frags.note(r.secret, h, m, q)
}
