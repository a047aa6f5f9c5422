package route

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// key is an address as a number. IPv4 addresses are mapped into IPv6 (RFC 4291,
// section 2.5.5.2), so that one order holds for both.
type key struct{ hi, lo uint64 }

const mapped = 0xffff << 32 // of an IPv4 address, in lo

func (k key) less(o key) bool { return k.hi < o.hi || k.hi == o.hi && k.lo < o.lo }

func (k key) compare(o key) int {
	switch {
	case k.less(o):
		return -1
	case o.less(k):
		return 1
	}
	return 0
}

func (k key) is4() bool { return k.hi == 0 && k.lo>>32 == 0xffff }

func keyOf(a netip.Addr) key {
	b := a.As16()
	return key{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// keyOfIP is keyOf for what netlink returns.
func keyOfIP(ip net.IP) (k key, ok bool) {
	a, ok := netip.AddrFromSlice(ip)
	return keyOf(a), ok
}

func (k key) addr() netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], k.hi)
	binary.BigEndian.PutUint64(b[8:], k.lo)
	return netip.AddrFrom16(b).Unmap()
}

// last returns the last address of the prefix that begins at k and has so many
// bits of 128.
func (k key) last(bits int) key {
	if bits <= 64 {
		return key{k.hi | ^uint64(0)>>bits, ^uint64(0)}
	}
	return key{k.hi, k.lo | ^uint64(0)>>(bits-64)}
}

// next returns the address behind k; ok is false when there is none.
func (k key) next() (n key, ok bool) {
	n = key{k.hi, k.lo + 1}
	if n.lo == 0 {
		n.hi++
	}
	return n, n != key{}
}

// destination returns the destination address of the IP header at l3.
func destination(frame []byte, l3 int) (k key, ok bool) {
	if l3 < ethernetBytes || l3 >= len(frame) {
		return key{}, false
	}
	switch ip := frame[l3:]; ip[0] >> 4 {
	case 4:
		if len(ip) < 20 {
			return key{}, false
		}
		return key{0, mapped | uint64(binary.BigEndian.Uint32(ip[16:]))}, true
	case 6:
		if len(ip) < 40 {
			return key{}, false
		}
		k = key{binary.BigEndian.Uint64(ip[24:]), binary.BigEndian.Uint64(ip[32:])}
		// A mapped address has no place on a wire (RFC 4291, section 2.5.5.2),
		// and here it would be taken for an IPv4 one.
		return k, !k.is4()
	}
	return key{}, false
}

// ethernetBytes is the length of an Ethernet header without tags.
const ethernetBytes = 14

// multicast returns the Ethernet address of a multicast or broadcast address
// (RFC 1112, section 6.4; RFC 2464, section 7).
func (k key) multicast() (mac [6]byte, ok bool) {
	low := uint32(k.lo)
	switch {
	case k.is4() && low == 0xffffffff:
		return [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, true
	case k.is4() && low>>28 == 0xe:
		return [6]byte{0x01, 0x00, 0x5e, byte(low>>16) & 0x7f, byte(low >> 8), byte(low)}, true
	case k.hi>>56 == 0xff:
		return [6]byte{0x33, 0x33, byte(low >> 24), byte(low >> 16), byte(low >> 8), byte(low)}, true
	}
	return mac, false
}
