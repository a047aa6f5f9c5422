package replay

import (
	"net/netip"

	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
)

// conversation is a flow of the capture, in both directions. Who sent its first
// packet is the client, the other the server.
type conversation struct {
	// tuple is the first packet's, in its direction.
	tuple flow.Tuple

	// The rest is guarded by tracker.mu.

	// outside is what the client's packets show behind the chain, once one of
	// them has come out; translated says that it differs from tuple.
	outside    flow.Tuple
	translated bool
	// latest is, by the port that packets went into and the one they came out
	// of, the number of the packet sent last of those that have come out, + 1.
	latest [2][2]uint64
}

// form says how a packet shows what conversation it belongs to. Steering cannot
// tell the flow of anything but whole packets and sends the others another way,
// so packets of different forms may overtake each other.
type form uint8

const (
	whole form = iota
	fragment
	quoting // an ICMP error
)

// conversations tells the clients and servers of a capture apart.
//
// Owner: the goroutine that sends.
type conversations struct {
	reader  *flow.Reader
	byTuple map[flow.Tuple]*conversation
	// first are the addresses of the first packet between two hosts, source
	// first: for packets that do not tell their flow.
	first map[[2]netip.Addr]bool
}

func newConversations() (*conversations, error) {
	r, err := flow.NewReader(flow.ReaderOptions{})
	if err != nil {
		return nil, err
	}
	return &conversations{reader: r, byTuple: map[flow.Tuple]*conversation{}, first: map[[2]netip.Addr]bool{}}, nil
}

// of returns the conversation of a packet, nil when it shows none, and whether
// the server sent it.
func (c *conversations) of(timeNs int64, data []byte) (conv *conversation, f form, server bool) {
	in, result := packet.Parse(data)
	if result != packet.ParsedIP {
		return nil, whole, false
	}
	var q flow.Query
	readQuery(c.reader, timeNs, data, &in, &q)
	tuple, ok := q.Tuple()
	if !ok {
		return nil, formOf(&in), c.between(&in)
	}
	if conv := c.byTuple[tuple]; conv != nil {
		return conv, formOf(&in), false
	}
	if conv := c.byTuple[reversed(tuple)]; conv != nil {
		return conv, formOf(&in), true
	}
	if q.Kind() == flow.QuotedPacket {
		return nil, quoting, c.between(&in) // of a conversation that is not in the capture
	}
	conv = &conversation{tuple: tuple}
	c.byTuple[tuple] = conv
	c.between(&in)
	return conv, formOf(&in), false
}

// between says whether the packet goes against the first one between its two
// addresses.
func (c *conversations) between(in *packet.Info) bool {
	src, dst := addresses(in)
	switch {
	case c.first[[2]netip.Addr{src, dst}]:
		return false
	case c.first[[2]netip.Addr{dst, src}]:
		return true
	}
	c.first[[2]netip.Addr{src, dst}] = true
	return false
}

// readQuery reads what a packet shows of its flow.
func readQuery(r *flow.Reader, timeNs int64, data []byte, in *packet.Info, q *flow.Query) {
	r.Read(data, &packet.Meta{
		RxNs: uint64(timeNs), L3: in.L3, L4: in.L4, Flags: in.Flags, Proto: in.Proto, VLAN: in.VLAN,
	}, q)
}

func formOf(in *packet.Info) form {
	switch {
	case in.Flags&(packet.FlagFragment|packet.FlagLaterFrag) != 0:
		return fragment
	case in.Flags&packet.FlagICMPError != 0:
		return quoting
	}
	return whole
}

func addresses(in *packet.Info) (src, dst netip.Addr) {
	if in.Flags&packet.FlagIPv4 != 0 {
		return netip.AddrFrom4([4]byte(in.Src[:4])), netip.AddrFrom4([4]byte(in.Dst[:4]))
	}
	return netip.AddrFrom16(in.Src), netip.AddrFrom16(in.Dst)
}

// reversed is the tuple of packets in the other direction.
func reversed(t flow.Tuple) flow.Tuple {
	t.Src, t.Dst, t.SrcPort, t.DstPort = t.Dst, t.Src, t.DstPort, t.SrcPort
	return t
}
