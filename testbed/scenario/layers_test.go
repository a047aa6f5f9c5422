package scenario

import (
	"encoding/binary"
	"encoding/hex"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"sfc/dataplane/packet"
)

// Every function here reads one layer of the notation; the brackets in its
// comment are optional.

// eth [MAC>MAC] [type N]
func (b *builder) eth() {
	src, dst := "02:00:00:00:00:0a", "02:00:00:00:00:0b"
	if len(b.words) > 0 && strings.Contains(b.words[0], ">") {
		src, dst = b.pair()
	}
	for _, text := range []string{dst, src} {
		mac, err := net.ParseMAC(text)
		if err != nil || len(mac) != 6 {
			b.fail("%q is not a MAC address", text)
			return
		}
		b.add(mac...)
	}
	b.typeAt = len(b.frame)
	b.add16(uint16(b.numberOr("type", 0xffff, 0)))
}

// vlan ID
func (b *builder) vlan() { b.tag("vlan", packet.EtherVLAN) }

// qinq ID
func (b *builder) qinq() { b.tag("qinq", packet.EtherQinQ) }

func (b *builder) tag(layer string, typ uint16) {
	b.begin(layer, typ, -1)
	b.add16(uint16(b.number(4095)))
	b.typeAt = len(b.frame)
	b.add16(0)
}

// arp ADDR>ADDR
func (b *builder) arp() {
	src, dst := b.addresses()
	if b.err == nil && !src.Is4() {
		b.fail("arp carries IPv4 addresses")
	}
	b.begin("arp", packet.EtherARP, -1)
	b.add(0, 1, 8, 0, 6, 4, 0, 1) // a request
	b.add(b.frame[6:12]...)
	b.add(src.AsSlice()...)
	b.add(0, 0, 0, 0, 0, 0)
	b.add(dst.AsSlice()...)
}

func (b *builder) addresses() (src, dst netip.Addr) {
	s, d := b.pair()
	src, err1 := netip.ParseAddr(s)
	dst, err2 := netip.ParseAddr(d)
	if err1 != nil || err2 != nil || src.Is4() != dst.Is4() {
		b.fail("%s>%s are not two addresses of one family", s, d)
	}
	return src, dst
}

// ip ADDR>ADDR [ttl N] [id N] [frag BYTES] [more] [nops WORDS] [proto N]  (IPv4)
// ip ADDR>ADDR [hop N] [proto N]                                          (IPv6)
func (b *builder) ip() {
	src, dst := b.addresses()
	if b.err != nil {
		return
	}
	start := len(b.frame)
	if src.Is4() {
		b.ipv4(start)
	} else {
		b.ipv6(start)
	}
	at := b.protoAt
	b.frame[at] = byte(b.numberOr("proto", 255, uint64(packet.ProtoNoNext)))
	addrs := append(src.AsSlice(), dst.AsSlice()...)
	if src.Is4() {
		copy(b.frame[start+12:], addrs)
	} else {
		copy(b.frame[start+8:], addrs)
	}
}

func (b *builder) ipv4(start int) {
	b.begin("ip", packet.EtherIPv4, -1)
	ttl := b.numberOr("ttl", 255, 64)
	id := b.numberOr("id", 0xffff, 1)
	off := b.numberOr("frag", 65528, 0)
	if off%8 != 0 {
		b.fail("frag %d is not a multiple of 8", off)
	}
	frag := uint16(off / 8)
	if b.option("more") {
		frag |= 0x2000
	}
	nops := b.numberOr("nops", 10, 0)
	b.add(0x45+byte(nops), 0, 0, 0)
	b.add16(uint16(id))
	b.add16(frag)
	b.add(byte(ttl))
	b.protoAt = len(b.frame)
	b.add(make([]byte, 11)...)
	for range nops * 4 {
		b.add(1)
	}
	b.lengths = append(b.lengths, func(end int) { b.put16(start+2, uint16(end-start)) })
}

func (b *builder) ipv6(start int) {
	b.begin("ip", packet.EtherIPv6, -1)
	b.add(0x60, 0, 0, 0, 0, 0)
	b.protoAt = len(b.frame)
	b.add(0, byte(b.numberOr("hop", 255, 64)))
	b.add(make([]byte, 32)...)
	b.lengths = append(b.lengths, func(end int) { b.put16(start+4, uint16(end-start-packet.IPv6Len)) })
}

// hopopts: an IPv6 hop-by-hop header of 8 bytes of padding.
func (b *builder) hopopts() { b.extension("hopopts", packet.ProtoHopByHop, 1, 4, 0, 0, 0, 0) }

// dstopts: an IPv6 destination options header of 8 bytes of padding.
func (b *builder) dstopts() { b.extension("dstopts", packet.ProtoDestOpts, 1, 4, 0, 0, 0, 0) }

// fragment BYTES [more]: an IPv6 fragment header.
func (b *builder) fragment() {
	off := b.number(65528)
	if off%8 != 0 {
		b.fail("fragment %d is not a multiple of 8", off)
	}
	if b.option("more") {
		off |= 1
	}
	b.extension("fragment", packet.ProtoFragment, byte(off>>8), byte(off), 0, 0, 0, 1)
}

// extension adds an IPv6 extension header of 8 bytes: next header, 0, body.
func (b *builder) extension(layer string, proto uint8, body ...byte) {
	b.begin(layer, 0, int(proto))
	b.protoAt = len(b.frame)
	b.add(packet.ProtoNoNext, 0)
	b.add(body...)
}

// tcp PORT>PORT [FLAG,FLAG...] [seq N] [ack N] [win N]
func (b *builder) tcp() {
	b.begin("tcp", 0, int(packet.ProtoTCP))
	b.ports()
	flags := b.tcpFlags()
	b.add32(uint32(b.numberOr("seq", 0xffffffff, 1)))
	b.add32(uint32(b.numberOr("ack", 0xffffffff, 1)))
	b.add(0x50, flags)
	b.add16(uint16(b.numberOr("win", 0xffff, 0xffff)))
	b.add(0, 0, 0, 0)
}

var tcpFlags = map[string]byte{"FIN": 1, "SYN": 2, "RST": 4, "PSH": 8, "ACK": 16, "URG": 32}

func (b *builder) tcpFlags() (flags byte) {
	if len(b.words) == 0 || tcpFlags[strings.Split(b.words[0], ",")[0]] == 0 {
		return tcpFlags["ACK"]
	}
	for f := range strings.SplitSeq(b.word(), ",") {
		if tcpFlags[f] == 0 {
			b.fail("%q is not a TCP flag", f)
		}
		flags |= tcpFlags[f]
	}
	return flags
}

// udp PORT>PORT
func (b *builder) udp() {
	b.begin("udp", 0, int(packet.ProtoUDP))
	start := len(b.frame)
	b.ports()
	b.add(0, 0, 0, 0)
	b.lengths = append(b.lengths, func(end int) { b.put16(start+4, uint16(end-start)) })
}

func (b *builder) ports() {
	from, to := b.pair()
	for _, text := range []string{from, to} {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			b.fail("%q is not a port", text)
		}
		b.add16(uint16(n))
	}
}

// icmp TYPE, icmp6 TYPE: the header of 8 bytes, code 0.
func (b *builder) icmp()  { b.message("icmp", packet.ProtoICMP) }
func (b *builder) icmp6() { b.message("icmp6", packet.ProtoICMPv6) }

func (b *builder) message(layer string, proto uint8) {
	b.begin(layer, 0, int(proto))
	b.add(byte(b.number(255)), 0, 0, 0, 0, 0, 0, 1)
}

// payload N: N bytes that count up.
func (b *builder) payload() {
	for i := range b.number(65000) {
		b.add(byte(i))
	}
}

// bytes HEX
func (b *builder) bytes() {
	data, err := hex.DecodeString(b.word())
	if err != nil {
		b.fail("bytes: %w", err)
	}
	b.add(data...)
}

// dns [response] NAME[^OFFSET]...: a DNS message that asks for the names, type
// A. A name with ^OFFSET ends in a compression pointer to that byte of the
// message; the first name begins at 12.
func (b *builder) dns() {
	start := len(b.frame)
	b.add(0x12, 0x34, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	if b.option("response") {
		b.frame[start+2] |= 0x80
	}
	questions := uint16(0)
	for ; len(b.words) > 0 && layer(b.words[0]) == nil; questions++ {
		name, pointer, compressed := strings.Cut(b.word(), "^")
		for label := range strings.SplitSeq(name, ".") {
			b.add(byte(len(label)))
			b.add([]byte(label)...)
		}
		if compressed {
			at, err := strconv.ParseUint(pointer, 10, 14)
			if err != nil {
				b.fail("%q is not an offset in the message", pointer)
			}
			b.add16(0xc000 | uint16(at))
		} else {
			b.add(0)
		}
		b.add(0, 1, 0, 1)
	}
	b.put16(start+4, questions)
}

// badsum: the IPv4 header's checksum is off by one. It stays so when a function
// updates it by the difference (RFC 1624).
func (b *builder) bad() { b.badSum = true }

func (b *builder) spoil() {
	in, _ := packet.Parse(b.frame)
	if in.Flags&packet.FlagIPv4 == 0 {
		b.fail("badsum needs an IPv4 header")
		return
	}
	at := int(in.L3) + 10
	sum := binary.BigEndian.Uint16(b.frame[at:])
	b.put16(at, packet.UpdateChecksum(sum, 0, 1))
}
