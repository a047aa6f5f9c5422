package native

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"sfc/dataplane/packet"
)

// flowStat is nf/catalog/flowstat.
type flowStat struct {
	rtt      bool
	activeNs uint64
	flows    map[uint32]*flowRecord // by slot
	exported []string
}

// flowRecord is what is kept of a flow.
type flowRecord struct {
	name       *flowName // nil: it is not of IP
	proto      uint8
	period     []flowPacket // since it began, or was last reported
	fins       [2]bool
	sawRST     bool
	syns       []uint64 // times of the handshake's packets, in us
	synAcks    []uint64
	ack        *uint64
	handshaken bool // or reset
}

// flowPacket is a packet of a flow.
type flowPacket struct {
	reverse  bool
	octets   uint64
	rxNs     uint64
	tcpFlags uint8
}

// flowName is whose flow it is, seen in the direction of its first packet.
type flowName struct {
	src, dst     netip.Addr
	sport, dport uint16
	icmp         uint16 // type and code
}

const (
	statFlows   = 0 // counters
	statEnded   = 1
	statPackets = 2
	statBytes   = 3
	statRelated = 4
	statNoFlow  = 5
	statTCP     = 6 // flows, packets, bytes
	statUDP     = 9
	statICMP    = 12
	statOther   = 15
	statRTTs    = 18
	statRTTUs   = 19
	statRecords = 20

	idleTimeout   = 1 // flowEndReason
	activeTimeout = 2
	endDetected   = 3
)

func newFlowStat(config map[string]any) (decider, error) {
	err := onlyFields(config, "tcp_rtt", "active_timeout")
	rtt, errRTT := getBool(config, "tcp_rtt", false)
	active, errActive := getInt(config, "active_timeout", 1800, 0, 86400)
	f := &flowStat{rtt: rtt, activeNs: uint64(active) * 1e9, flows: map[uint32]*flowRecord{}}
	return f, errors.Join(err, errRTT, errActive)
}

func (f *flowStat) decide(p *view, c []uint64) (packet.Verdict, uint16) {
	switch {
	case p.Slot == packet.NoSlot:
		c[statNoFlow]++
	case p.Flags&packet.FlagICMPError != 0:
		c[statRelated]++
	default:
		f.count(p, c)
	}
	return packet.Next, 0
}

// count adds a packet to its flow.
func (f *flowStat) count(p *view, c []uint64) {
	reverse := p.Flags&packet.FlagReverse != 0
	r := f.flows[p.Slot]
	switch {
	case r == nil:
		c[statFlows]++
		r = &flowRecord{name: p.flowName(reverse), proto: p.Proto}
		f.flows[p.Slot] = r
	case f.activeNs != 0 && p.RxNs >= r.start() && p.RxNs-r.start() >= f.activeNs:
		f.report(r, activeTimeout, c)
	}
	k := flowPacket{reverse: reverse, octets: p.ipOctets(), rxNs: p.RxNs}
	c[statPackets]++
	c[statBytes] += k.octets
	if tcp := p.at(p.L4, packet.TCPLen); tcp != nil && p.Proto == packet.ProtoTCP && p.Flags&packet.FlagLaterFrag == 0 {
		k.tcpFlags = tcp[13]
		if f.rtt {
			r.handshake(tcp[13], reverse, p.RxNs/1000)
		}
		r.sawRST = r.sawRST || tcp[13]&4 != 0
		r.fins[direction(reverse)] = r.fins[direction(reverse)] || tcp[13]&5 == 1
	}
	r.period = append(r.period, k)
}

// direction is 0 for packets in the flow's direction, 1 for those against it.
func direction(reverse bool) int {
	if reverse {
		return 1
	}
	return 0
}

// flowName says whose flow a packet is; nil: not of IP.
func (v *view) flowName(reverse bool) *flowName {
	ip := v.ip()
	if ip == nil {
		return nil
	}
	n := &flowName{src: srcOf(ip), dst: dstOf(ip)}
	if h := v.at(v.L4, 4); h != nil && v.Flags&packet.FlagLaterFrag == 0 {
		switch {
		case packet.HasPorts(v.Proto):
			n.sport, n.dport = binary.BigEndian.Uint16(h), binary.BigEndian.Uint16(h[2:])
		case v.Proto == packet.ProtoICMP || v.Proto == packet.ProtoICMPv6:
			n.icmp = binary.BigEndian.Uint16(h)
		}
	}
	if reverse {
		n.src, n.dst, n.sport, n.dport = n.dst, n.src, n.dport, n.sport
	}
	return n
}

func (r *flowRecord) start() uint64 {
	return slices.MinFunc(r.period, func(a, b flowPacket) int { return cmp.Compare(a.rxNs, b.rxNs) }).rxNs
}

// report ends the present period of a flow.
func (f *flowStat) report(r *flowRecord, why int, c []uint64) {
	var packets, octets [2]uint64
	var tcpFlags [2]uint8
	var end uint64
	for _, k := range r.period {
		d := direction(k.reverse)
		packets[d]++
		octets[d] += k.octets
		tcpFlags[d] |= k.tcpFlags
		end = max(end, k.rxNs)
	}
	class := r.class()
	c[class+1] += packets[0] + packets[1]
	c[class+2] += octets[0] + octets[1]
	if n := r.name; n != nil {
		c[statRecords]++
		f.exported = append(f.exported, n.record(
			"protocolIdentifier", r.proto, "flowEndReason", why, "sourceTransportPort", n.sport, "destinationTransportPort", n.dport,
			"tcpControlBits", tcpFlags[0], "reverseTcpControlBits", tcpFlags[1], "icmpTypeCode", n.icmp,
			"flowStartMilliseconds", r.start()/1e6, "flowEndMilliseconds", end/1e6,
			"packetDeltaCount", packets[0], "reversePacketDeltaCount", packets[1],
			"octetDeltaCount", octets[0], "reverseOctetDeltaCount", octets[1],
			"tcpServerRoundTripMicroseconds", r.there(), "tcpClientRoundTripMicroseconds", r.back()))
	}
	r.period = nil
}

// record is a line about a flow: names, each followed by its value.
func (n *flowName) record(fields ...any) string {
	version := 4
	if n.src.Is6() {
		version = 6
	}
	line := fmt.Sprintf(`{"record":"flow%d","function":"flowstat","sourceIPv%dAddress":"%v","destinationIPv%dAddress":"%v"`,
		version, version, n.src, version, n.dst)
	for i := 0; i < len(fields); i += 2 {
		name := fields[i]
		if name == "icmpTypeCode" {
			name = fmt.Sprintf("icmpTypeCodeIPv%d", version)
		}
		line += fmt.Sprintf(`,"%s":%d`, name, fields[i+1])
	}
	return line + "}"
}

// records takes what was exported, as JSON.
func (f *flowStat) records() (out []string) {
	out, f.exported = f.exported, nil
	return out
}

// ipOctets is the length of the IP packet, as far as it is in the frame.
func (v *view) ipOctets() uint64 {
	ip := v.ip()
	if ip == nil {
		return 0
	}
	size := int(binary.BigEndian.Uint16(ip[2:]))
	if len(ip) == packet.IPv6Len {
		size = packet.IPv6Len + int(binary.BigEndian.Uint16(ip[4:]))
	}
	return uint64(min(size, int(v.Off)+len(v.frame)-int(v.L3)))
}

// handshake notes when the packets of a handshake came, each behind the one
// before, until it is complete or a reset ends it.
func (r *flowRecord) handshake(flags uint8, reverse bool, nowUs uint64) {
	syn, rst, ack := flags&0x02 != 0, flags&0x04 != 0, flags&0x10 != 0
	switch {
	case r.handshaken:
	case rst:
		r.handshaken = true
	case !reverse && syn && !ack && len(r.synAcks) == 0:
		r.syns = append(r.syns, nowUs)
	case reverse && syn && ack && len(r.syns) > 0:
		r.synAcks = append(r.synAcks, nowUs)
	case !reverse && !syn && ack && len(r.synAcks) > 0:
		r.ack, r.handshaken = &nowUs, true
	}
}

// there is the time from SYN to SYN,ACK, and back that from there to ACK; 0 when
// one of the two is missing, came more than once or before what it answers.
func (r *flowRecord) there() uint64 {
	if len(r.syns) != 1 || len(r.synAcks) == 0 {
		return 0
	}
	return tripUs(r.syns[0], r.synAcks[0])
}

func (r *flowRecord) back() uint64 {
	if len(r.synAcks) != 1 || r.ack == nil {
		return 0
	}
	return tripUs(r.synAcks[0], *r.ack)
}

// tripUs is the time from a to b, at least 1, as a clock of 32 bits sees it; 0
// when it ran backwards.
func tripUs(a, b uint64) uint64 {
	d := int32(uint32(b) - uint32(a))
	if d < 0 {
		return 0
	}
	return uint64(max(d, 1))
}

// class is the first counter of the flow's protocol.
func (r *flowRecord) class() int {
	class := map[uint8]int{packet.ProtoTCP: statTCP, packet.ProtoUDP: statUDP, packet.ProtoICMP: statICMP, packet.ProtoICMPv6: statICMP}
	if first, ok := class[r.proto]; ok {
		return first
	}
	return statOther
}

func (f *flowStat) end(slot uint32, c []uint64) {
	r := f.flows[slot]
	if r == nil {
		return
	}
	delete(f.flows, slot)
	why := idleTimeout
	if r.sawRST || r.fins[0] && r.fins[1] {
		why = endDetected
	}
	f.report(r, why, c)
	c[statEnded]++
	c[r.class()]++
	if r.there() > 0 && r.back() > 0 {
		c[statRTTs]++
		c[statRTTUs] += r.there() + r.back()
	}
}
