package packet

import "encoding/binary"

// Checksum returns the Internet checksum (RFC 1071) of data, to be stored in
// network byte order. initial is a partial sum to start from, such as
// [PseudoSum]'s. Data that includes a correct checksum yields 0.
func Checksum(data []byte, initial uint64) uint16 {
	sum := initial
	for len(data) >= 8 {
		v := binary.BigEndian.Uint64(data)
		sum += v>>32 + v&0xffffffff
		data = data[8:]
	}
	for len(data) >= 2 {
		sum += uint64(be16(data))
		data = data[2:]
	}
	if len(data) == 1 {
		sum += uint64(data[0]) << 8
	}
	return ^fold(sum)
}

// fold reduces a sum to 16 bits with end-around carry.
func fold(sum uint64) uint16 {
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	return uint16(sum)
}

// PseudoSum returns the partial sum of the pseudo-header that TCP, UDP and
// ICMPv6 checksums cover (RFC 793, RFC 8200 section 8.1). length is the
// transport header and payload in bytes.
func PseudoSum(in *Info, length int) uint64 {
	n := 16
	if in.Flags&FlagIPv4 != 0 {
		n = 4
	}
	sum := uint64(in.Proto) + uint64(length)
	for i := 0; i < n; i += 2 {
		sum += uint64(be16(in.Src[i:])) + uint64(be16(in.Dst[i:]))
	}
	return sum
}

// UpdateChecksum returns the checksum after a 16-bit word it covers changed
// from old to new (RFC 1624, equation 3). For UDP see [UpdateUDPChecksum].
func UpdateChecksum(sum, old, new uint16) uint16 {
	return ^fold(uint64(^sum) + uint64(^old) + uint64(new))
}

// UpdateChecksum32 is [UpdateChecksum] for a 32-bit value such as an IPv4
// address, in host byte order as read from the network.
func UpdateChecksum32(sum uint16, old, new uint32) uint16 {
	return ^fold(uint64(^sum) + uint64(^old>>16) + uint64(^old&0xffff) +
		uint64(new>>16) + uint64(new&0xffff))
}

// UpdateUDPChecksum is [UpdateChecksum] for UDP, where 0 means "no checksum"
// and stays so, and a sum that comes out as 0 is sent as 0xffff (RFC 768).
func UpdateUDPChecksum(sum, old, new uint16) uint16 {
	if sum == 0 {
		return 0
	}
	if sum = UpdateChecksum(sum, old, new); sum == 0 {
		return 0xffff
	}
	return sum
}
