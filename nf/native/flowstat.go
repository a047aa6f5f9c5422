package native

import (
	"encoding/binary"
	"errors"

	"sfc/dataplane/packet"
)

// flowStat is nf/catalog/flowstat.
type flowStat struct {
	rtt   bool
	flows map[uint32]*flowRecord // by slot
}

// flowRecord is what is kept of a flow.
type flowRecord struct {
	proto          uint8
	packets, bytes uint64

	syns, synAcks []uint64 // times of the handshake's packets, in us
	ack           *uint64
	reset         bool
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
)

func newFlowStat(config map[string]any) (decider, error) {
	err := onlyFields(config, "tcp_rtt")
	rtt, errRTT := getBool(config, "tcp_rtt", false)
	return &flowStat{rtt: rtt, flows: map[uint32]*flowRecord{}}, errors.Join(err, errRTT)
}

func (f *flowStat) decide(p *view, c []uint64) (packet.Verdict, uint16) {
	switch {
	case p.Slot == packet.NoSlot:
		c[statNoFlow]++
	case p.Flags&packet.FlagICMPError != 0:
		c[statRelated]++
	default:
		r := f.flows[p.Slot]
		if r == nil {
			c[statFlows]++
			r = &flowRecord{proto: p.Proto}
			f.flows[p.Slot] = r
		}
		size := p.ipOctets()
		r.packets++
		r.bytes += size
		c[statPackets]++
		c[statBytes] += size
		if tcp := p.at(p.L4, packet.TCPLen); tcp != nil && p.Proto == packet.ProtoTCP && p.Flags&packet.FlagLaterFrag == 0 {
			r.handshake(tcp[13], p.Flags&packet.FlagReverse != 0, p.RxNs/1000)
		}
	}
	return packet.Next, 0
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
	case r.reset || r.ack != nil:
	case rst:
		r.reset = true
	case !reverse && syn && !ack && len(r.synAcks) == 0:
		r.syns = append(r.syns, nowUs)
	case reverse && syn && ack && len(r.syns) > 0:
		r.synAcks = append(r.synAcks, nowUs)
	case !reverse && !syn && ack && len(r.synAcks) > 0:
		r.ack = &nowUs
	}
}

// roundTrip is the time from SYN to SYN,ACK to ACK; ok is false when one of
// them is missing, came more than once or before the one that it answers.
func (r *flowRecord) roundTrip() (us uint64, ok bool) {
	if len(r.syns) != 1 || len(r.synAcks) != 1 || r.ack == nil {
		return 0, false
	}
	there, okThere := tripUs(r.syns[0], r.synAcks[0])
	back, okBack := tripUs(r.synAcks[0], *r.ack)
	return there + back, okThere && okBack
}

// tripUs is the time from a to b, at least 1, as a clock of 32 bits sees it.
func tripUs(a, b uint64) (us uint64, ok bool) {
	d := int32(uint32(b) - uint32(a))
	return uint64(max(d, 1)), d >= 0
}

func (f *flowStat) end(slot uint32, c []uint64) {
	r := f.flows[slot]
	if r == nil {
		return
	}
	delete(f.flows, slot)
	class := map[uint8]int{packet.ProtoTCP: statTCP, packet.ProtoUDP: statUDP, packet.ProtoICMP: statICMP, packet.ProtoICMPv6: statICMP}
	first, ok := class[r.proto]
	if !ok {
		first = statOther
	}
	c[statEnded]++
	c[first]++
	c[first+1] += r.packets
	c[first+2] += r.bytes
	if us, ok := r.roundTrip(); ok && f.rtt {
		c[statRTTs]++
		c[statRTTUs] += us
	}
}
