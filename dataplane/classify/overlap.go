package classify

import (
	"net/netip"

	"sfc/dataplane/packet"
)

// Overlap reports whether one packet can match both rules, so that their order
// decides. Both must be rules that Compile accepts.
func Overlap(a, b Rule) bool {
	return (a.Ports == 0 || b.Ports == 0 || a.Ports&b.Ports != 0) &&
		(a.VLAN == AnyVLAN || b.VLAN == AnyVLAN || a.VLAN == b.VLAN) &&
		(a.allows(4) && b.allows(4) || a.allows(6) && b.allows(6)) &&
		prefixesOverlap(a.Src, b.Src) && prefixesOverlap(a.Dst, b.Dst) &&
		protosOverlap(&a, &b) &&
		rangesOverlap(a.SrcPorts, b.SrcPorts) && rangesOverlap(a.DstPorts, b.DstPorts)
}

func prefixesOverlap(a, b netip.Prefix) bool {
	return !a.IsValid() || !b.IsValid() || a.Overlaps(b)
}

func rangesOverlap(a, b PortRange) bool {
	return a.Any() || b.Any() || a.Lo <= b.Hi && b.Lo <= a.Hi
}

// protosOverlap compares protocols; a rule with a port range implies one that
// has ports.
func protosOverlap(a, b *Rule) bool {
	for _, r := range [][2]*Rule{{a, b}, {b, a}} {
		wants := !r[0].SrcPorts.Any() || !r[0].DstPorts.Any()
		if wants && r[1].Proto != AnyProto && !packet.HasPorts(uint8(r[1].Proto)) {
			return false
		}
	}
	return a.Proto == AnyProto || b.Proto == AnyProto || a.Proto == b.Proto
}
