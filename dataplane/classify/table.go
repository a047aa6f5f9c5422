package classify

import (
	"math/bits"

	"sfc/dataplane/packet"
)

// Table is a compiled list of rules. It is never changed after Compile, so any
// number of goroutines may use it; package bpf loads its fields into the kernel
// as they are.
//
// Each dimension maps a value to a class: the number of a vector in Vectors. A
// dimension that no rule looks at is empty (nil) and skipped.
type Table struct {
	// Rules is the number of rules.
	Rules int
	// Words is the number of 64-bit words per vector, Rules/64 rounded up.
	Words int
	// Vectors holds 1+Words words for each class: a summary with bit w set when
	// word w is not 0, then the words. Rule i is bit i%64 of word i/64.
	Vectors []uint64
	// Path is the service path of each rule.
	Path []uint16

	// SrcPort and DstPort give the class of each port, and at NoPort that of
	// packets without ports.
	SrcPort, DstPort []uint16
	// VLAN gives the class of each VLAN id, 0 for untagged; 4096 entries.
	VLAN []uint16
	// Proto gives the class of each protocol number; 256 entries.
	Proto []uint16
	// Ingress gives the class of each ingress port; MaxPorts entries.
	Ingress []uint16
	// Src4 to Dst6 give the class of addresses. The source dimensions also
	// exclude the rules of the other family.
	Src4, Dst4 Search4
	Src6, Dst6 Search6
}

// NoPort is the index in SrcPort and DstPort for packets without ports.
const NoPort = 1 << 16

// numDims is how many vectors one packet can select: ingress, VLAN, source and
// destination address, protocol, source and destination port.
const numDims = 7

// Lookup returns the service path of the first rule that matches a packet which
// came in at the port with the given index, below MaxPorts. ok is false when no
// rule does. It does not allocate.
func (t *Table) Lookup(port uint16, in *packet.Info) (path uint16, ok bool) {
	if t.Rules == 0 {
		return 0, false
	}
	var vectors [numDims][]uint64
	n := 0
	add := func(class uint16) {
		at := int(class) * (1 + t.Words)
		vectors[n] = t.Vectors[at : at+1+t.Words]
		n++
	}
	if in.Flags&packet.FlagIPv4 != 0 {
		if t.Src4.Class != nil {
			add(t.Src4.class(addr4(&in.Src)))
		}
		if t.Dst4.Class != nil {
			add(t.Dst4.class(addr4(&in.Dst)))
		}
	} else {
		if t.Src6.Class != nil {
			add(t.Src6.class(addr6(&in.Src)))
		}
		if t.Dst6.Class != nil {
			add(t.Dst6.class(addr6(&in.Dst)))
		}
	}
	sport, dport := NoPort, NoPort
	if in.Ports() {
		sport, dport = int(in.SrcPort), int(in.DstPort)
	}
	if t.DstPort != nil {
		add(t.DstPort[dport])
	}
	if t.SrcPort != nil {
		add(t.SrcPort[sport])
	}
	if t.Proto != nil {
		add(t.Proto[in.Proto])
	}
	if t.VLAN != nil {
		add(t.VLAN[in.VLAN&0x0fff])
	}
	if t.Ingress != nil {
		add(t.Ingress[port])
	}
	return t.first(vectors[:n])
}

// first returns the path of the first rule whose bit is set in all vectors.
func (t *Table) first(vectors [][]uint64) (path uint16, ok bool) {
	summary := ^uint64(0)
	for _, v := range vectors {
		summary &= v[0]
	}
	for summary != 0 {
		w := bits.TrailingZeros64(summary)
		summary &= summary - 1
		word := ^uint64(0)
		for _, v := range vectors {
			word &= v[1+w]
		}
		if word != 0 {
			return t.Path[w*64+bits.TrailingZeros64(word)], true
		}
	}
	return 0, false
}
