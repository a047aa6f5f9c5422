package flow

import (
	"encoding/binary"
	"net/netip"

	"sfc/dataplane/packet"
)

// TupleSize is the size in bytes of a tuple as functions write it.
const TupleSize = 40

// Offsets in such a tuple: struct sfc_tuple of nf/sdk/c/sfc_flow.h. The
// addresses are in network byte order, IPv4 in the first 4 bytes of each; the
// ports are little-endian.
const (
	wireSrc    = 0
	wireDst    = 16
	wireSport  = 32
	wireDport  = 34
	wireProto  = 36
	wireFamily = 37
	wireQuery  = 38
	wirePad    = 39
)

// ParseTuple reads a tuple as a function wrote it. ok is false when no packet
// can show it: a family other than 4 and 6, ports without a protocol that has
// them, an ICMP query of unknown kind or with two identifiers. nf/wasm/bind.c
// has the same checks.
func ParseTuple(raw *[TupleSize]byte) (t Tuple, ok bool) {
	switch raw[wireFamily] {
	case 4:
		t.Src, t.Dst = netip.AddrFrom4([4]byte(raw[wireSrc:])), netip.AddrFrom4([4]byte(raw[wireDst:]))
	case 6:
		t.Src, t.Dst = netip.AddrFrom16([16]byte(raw[wireSrc:])), netip.AddrFrom16([16]byte(raw[wireDst:]))
	default:
		return t, false
	}
	t.SrcPort = binary.LittleEndian.Uint16(raw[wireSport:])
	t.DstPort = binary.LittleEndian.Uint16(raw[wireDport:])
	t.Proto, t.Query = raw[wireProto], raw[wireQuery]
	return t, raw[wirePad] == 0 && t.possible()
}

// possible says whether a packet can show the tuple.
func (t *Tuple) possible() bool {
	switch {
	case t.Query != 0:
		return isICMP(t.Proto) && packet.ICMPQuery(t.Proto, t.Query) == t.Query && t.SrcPort == t.DstPort
	case packet.HasPorts(t.Proto):
		return true
	default:
		return t.SrcPort|t.DstPort == 0
	}
}

// AppendTuple appends the tuple as a function writes it.
func AppendTuple(b []byte, t *Tuple) []byte {
	var raw [TupleSize]byte
	copy(raw[wireSrc:], t.Src.AsSlice())
	copy(raw[wireDst:], t.Dst.AsSlice())
	binary.LittleEndian.PutUint16(raw[wireSport:], t.SrcPort)
	binary.LittleEndian.PutUint16(raw[wireDport:], t.DstPort)
	raw[wireProto], raw[wireFamily], raw[wireQuery] = t.Proto, 6, t.Query
	if t.Src.Is4() {
		raw[wireFamily] = 4
	}
	return append(b, raw[:]...)
}
