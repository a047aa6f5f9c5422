package packet

import "encoding/binary"

// l4Sum locates the transport checksum of a parsed frame: the bytes it covers,
// the offset of the sum in them, and the partial sum to start from. ok is false
// when the frame has none that can be computed from it: fragments, protocols
// other than TCP, UDP, ICMP and ICMPv6, or a destination that a routing header
// has yet to replace.
func l4Sum(frame []byte, in *Info) (covered []byte, at int, initial uint64, ok bool) {
	if in.L4 == 0 || in.Flags&FlagFragment != 0 || in.rerouted {
		return nil, 0, 0, false
	}
	covered = frame[in.L4:l3End(frame, in)]
	switch in.Proto {
	case ProtoTCP:
		return covered, 16, PseudoSum(in, len(covered)), true
	case ProtoUDP:
		covered = covered[:be16(covered[4:])]
		return covered, 6, PseudoSum(in, len(covered)), true
	case ProtoICMP:
		return covered, 2, 0, true
	case ProtoICMPv6:
		return covered, 2, PseudoSum(in, len(covered)), true
	}
	return nil, 0, 0, false
}

// l3End returns the offset behind the IP packet of a parsed frame.
func l3End(frame []byte, in *Info) int {
	h := frame[in.L3:]
	if in.Flags&FlagIPv4 != 0 {
		return int(in.L3) + int(be16(h[2:]))
	}
	return int(in.L3) + IPv6Len + int(be16(h[4:]))
}

// VerifyChecksums reports whether every checksum of the frame that can be
// verified is right: the IPv4 header's, and of whole packets that of TCP, UDP
// (0, none, is right on IPv4 and wrong on IPv6), ICMP or ICMPv6. A frame that
// [Parse] does not accept has no place to look for one and counts as right.
func VerifyChecksums(frame []byte) bool {
	in, result := Parse(frame)
	if result != ParsedIP && result != NeighbourDiscovery {
		return true
	}
	if in.Flags&FlagIPv4 != 0 {
		h := frame[in.L3:]
		if Checksum(h[:int(h[0]&0x0f)*4], 0) != 0 {
			return false
		}
	}
	covered, at, initial, ok := l4Sum(frame, &in)
	if !ok {
		return true
	}
	if in.Proto == ProtoUDP && be16(covered[at:]) == 0 {
		return in.Flags&FlagIPv4 != 0
	}
	return Checksum(covered, initial) == 0
}

// SetChecksums computes and writes every checksum that [VerifyChecksums] would
// look at; a UDP checksum of 0 is computed too. Frames that Parse does not
// accept stay as they are.
func SetChecksums(frame []byte) {
	in, result := Parse(frame)
	if result != ParsedIP && result != NeighbourDiscovery {
		return
	}
	if in.Flags&FlagIPv4 != 0 {
		h := frame[in.L3:]
		h = h[:int(h[0]&0x0f)*4]
		h[10], h[11] = 0, 0
		binary.BigEndian.PutUint16(h[10:], Checksum(h, 0))
	}
	covered, at, initial, ok := l4Sum(frame, &in)
	if !ok {
		return
	}
	covered[at], covered[at+1] = 0, 0
	sum := Checksum(covered, initial)
	if in.Proto == ProtoUDP && sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(covered[at:], sum)
}
