// SPDX-License-Identifier: Apache-2.0
//
// translate.h: a translation of a flow's addresses and ports, as it is kept in
// the flow's slot, and how packets are rewritten by it: addresses, ports or
// identifiers, and every checksum that covers them, also in the packet that an
// ICMP error quotes. What nat44 and lb4 share.
//
// Whoever includes it has an enum reason with PASSES = 0, NOT_TRANSLATABLE and
// WRONG_ADDRESS.
#ifndef TRANSLATE_H
#define TRANSLATE_H

#include "sfc_flow.h"
#include "sfc_inet.h"

// What of a transport header is rewritten.
enum kind {
	ADDRESSES, // nothing
	PORTS,     // TCP and UDP
	QUERY,     // identifier of an ICMP query
};

enum { PROTO_DCCP = 33, PROTO_AH = 51, PROTO_UDPLITE = 136 };

// translation is what a flow's packets become. A pair is what a packet of the
// flow's direction shows, source in the low half, as the bytes lie in the packet;
// of a query both ports are its identifier. Index 0 is before translation, 1
// behind it.
struct translation {
	uint64_t addrs[2];
	uint32_t ports[2];
	uint8_t state; // the function's own, 0: nothing is here
	uint8_t proto; // IANA number
	uint8_t kind;  // enum kind
	uint8_t bits;  // the function's own
	uint16_t mark; // the function's own
	uint16_t unused;
};

_Static_assert(sizeof(struct translation) == 32, "the manifests' flow_state_bytes");

// end is an address and a port or identifier, in host order.
struct end {
	uint32_t addr;
	uint16_t port;
};

// ends are those of a packet.
struct ends {
	struct end src, dst;
};

static inline struct ends turned(struct ends e) { return (struct ends){e.dst, e.src}; }

static inline uint64_t turn64(uint64_t pair) { return pair << 32 | pair >> 32; }
static inline uint32_t turn32(uint32_t pair) { return pair << 16 | pair >> 16; }

// Sums in ones' complement (RFC 1071), folded to 16 bits as late as possible. A
// sum of 32-bit words folds to that of their halves, and the order of bytes that
// the machine loads gives the same sum as any other.
static inline uint32_t fold(uint64_t sum) {
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint32_t)((sum & 0xffff) + (sum >> 16));
}

// change64 and its kin are what a checksum has to add when v became w (RFC
// 1624, equation 3).
static inline uint32_t change64(uint64_t v, uint64_t w) {
	return fold((~v & 0xffffffff) + (~v >> 32) + (w & 0xffffffff) + (w >> 32));
}

static inline uint32_t change32(uint32_t v, uint32_t w) { return fold((uint64_t)~v + w); }
static inline uint32_t change16(uint16_t v, uint16_t w) { return (uint32_t)(uint16_t)~v + w; }

// summed applies changes to the checksum at p and returns its own change.
static inline uint32_t summed(uint8_t *p, uint32_t change) {
	uint16_t old = sfc_le16(p);
	uint32_t sum = (uint16_t)~old + change;
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sfc_put_le16(p, (uint16_t)~sum);
	return change16(old, (uint16_t)~sum);
}

// summed_udp does the same for UDP, where 0 is no checksum, and one that comes
// out as 0 is sent as 0xffff (RFC 768).
static inline uint32_t summed_udp(uint8_t *p, uint32_t change) {
	uint16_t old = sfc_le16(p);
	if (!old)
		return 0;
	summed(p, change);
	if (!sfc_le16(p))
		sfc_put_le16(p, 0xffff);
	return change16(old, sfc_le16(p));
}

// summed_l4 corrects the checksum of a transport header at h of which size bytes
// are there, and returns its change; 0 when it has none, or not here. ICMP's and
// SCTP's do not cover addresses; SCTP's ports stay.
static inline uint32_t summed_l4(uint8_t *h, uint32_t size, uint8_t proto, uint32_t addrs, uint32_t ports) {
	switch (proto) {
	case SFC_PROTO_TCP:
		return size >= 18 ? summed(h + 16, addrs + ports) : 0;
	case SFC_PROTO_UDP:
		return size >= 8 ? summed_udp(h + 6, addrs + ports) : 0;
	case SFC_PROTO_ICMP:
		return size >= 4 && ports ? summed(h + 2, ports) : 0;
	case PROTO_DCCP: case PROTO_UDPLITE:
		return size >= 8 ? summed(h + 6, addrs) : 0;
	}
	return 0;
}

// way is where a pair was and what it becomes, for packets of a direction.
struct way {
	uint64_t addrs[2];
	uint32_t ports[2];
};

static inline struct way way_of(const struct translation *s, bool reverse) {
	if (reverse)
		return (struct way){{turn64(s->addrs[1]), turn64(s->addrs[0])}, {turn32(s->ports[1]), turn32(s->ports[0])}};
	return (struct way){{s->addrs[0], s->addrs[1]}, {s->ports[0], s->ports[1]}};
}

// transport returns the transport header of which the translation reads and
// writes up to size bytes, NULL when they are not all there behind the IP header.
static inline uint8_t *transport(const struct sfc_desc *d, uint32_t l4, uint32_t size) {
	return l4 >= d->l3 + sizeof(struct sfc_ip4) ? sfc_header(d, l4, size) : NULL;
}

// rewrite translates a packet of the flow that is not an ICMP error.
static inline enum reason rewrite(const struct sfc_desc *d, const struct translation *s) {
	uint8_t *h, *ip = sfc_header(d, d->l3, sizeof(struct sfc_ip4));
	if (!ip)
		return NOT_TRANSLATABLE;
	struct way p = way_of(s, d->flags & SFC_REVERSE);
	if (sfc_le64(ip + 12) != p.addrs[0] || d->proto != s->proto)
		return WRONG_ADDRESS;
	uint32_t addrs = change64(p.addrs[0], p.addrs[1]);
	if (d->flags & SFC_LATER_FRAG)
		;
	else if (s->kind == PORTS) {
		if (!(h = transport(d, d->l4, s->proto == SFC_PROTO_TCP ? sizeof(struct sfc_tcp) : sizeof(struct sfc_udp))))
			return NOT_TRANSLATABLE;
		if (sfc_le32(h) != p.ports[0])
			return WRONG_ADDRESS;
		uint32_t both = addrs + change32(p.ports[0], p.ports[1]);
		sfc_put_le32(h, p.ports[1]);
		if (s->proto == SFC_PROTO_TCP)
			summed(h + 16, both);
		else
			summed_udp(h + 6, both);
	} else if (s->kind == QUERY) {
		if (!(h = transport(d, d->l4, 8)))
			return NOT_TRANSLATABLE;
		if (sfc_le16(h + 4) != (uint16_t)p.ports[0])
			return WRONG_ADDRESS;
		sfc_put_le16(h + 4, (uint16_t)p.ports[1]);
		summed(h + 2, change16((uint16_t)p.ports[0], (uint16_t)p.ports[1]));
	} else if (s->proto == PROTO_DCCP || s->proto == PROTO_UDPLITE) {
		if (!(h = transport(d, d->l3 + (ip[0] & 15) * 4u, 8)))
			return NOT_TRANSLATABLE;
		summed(h + 6, addrs);
	}
	sfc_put_le64(ip + 12, p.addrs[1]);
	summed(ip + 10, addrs);
	return PASSES;
}

// rewrite_error translates an ICMP error about a packet of the flow (RFC 5508,
// section 4). It travels against that packet, which is quoted as it left here:
// the quote becomes what it was before, and the error goes to who sent it. If
// the quoted packet's destination is hidden behind an address, the error comes
// from that address.
static __attribute__((noinline)) enum reason rewrite_error(const struct sfc_desc *d, const struct translation *s) {
	uint8_t *ip = sfc_header(d, d->l3, sizeof(struct sfc_ip4)), *icmp = transport(d, d->l4, 8);
	if (!ip || !icmp || d->proto != SFC_PROTO_ICMP)
		return NOT_TRANSLATABLE;
	uint32_t end = d->l3 + sfc_be16(ip + 2), at = d->l4 + 8u;
	end = end < sfc_end(d) ? end : sfc_end(d);
	if (at + sizeof(struct sfc_ip4) > end)
		return NOT_TRANSLATABLE;
	uint8_t *q = icmp + 8, *h = q + (q[0] & 15) * 4u;
	uint32_t size = (q[0] & 15) * 4u, need = s->kind == PORTS ? 4 : s->kind == QUERY ? 6 : 0;
	if (q[0] >> 4 != 4 || size < sizeof(struct sfc_ip4) || at + size + need > end)
		return NOT_TRANSLATABLE;

	struct way back = way_of(s, !(d->flags & SFC_REVERSE)); // the quoted packet's way
	uint64_t from = back.addrs[1], to = back.addrs[0], outer = sfc_le64(ip + 12);
	uint32_t ports_from = back.ports[1], ports_to = back.ports[0], ports = 0;
	if (sfc_le64(q + 12) != from || q[9] != s->proto || (uint32_t)(outer >> 32) != (uint32_t)from)
		return WRONG_ADDRESS;
	if (s->kind == PORTS) {
		if (sfc_le32(h) != ports_from)
			return WRONG_ADDRESS;
		sfc_put_le32(h, ports_to);
		ports = change32(ports_from, ports_to);
	} else if (s->kind == QUERY) {
		if (sfc_le16(h + 4) != (uint16_t)ports_from)
			return WRONG_ADDRESS;
		sfc_put_le16(h + 4, (uint16_t)ports_to);
		ports = change16((uint16_t)ports_from, (uint16_t)ports_to);
	}
	uint32_t addrs = change64(from, to);
	sfc_put_le64(q + 12, to);
	uint32_t quote = addrs + ports + summed(q + 10, addrs);
	quote += summed_l4(h, end - at - size, s->proto, addrs, ports);
	summed(icmp + 2, quote);

	uint32_t source = from >> 32 == to >> 32 ? (uint32_t)outer : (uint32_t)(to >> 32);
	uint64_t now = source | to << 32;
	sfc_put_le64(ip + 12, now);
	summed(ip + 10, change64(outer, now));
	return PASSES;
}

static inline uint64_t pair_addrs(struct ends e) {
	return __builtin_bswap32(e.src.addr) | (uint64_t)__builtin_bswap32(e.dst.addr) << 32;
}

static inline uint32_t pair_ports(struct ends e) {
	return __builtin_bswap16(e.src.port) | (uint32_t)__builtin_bswap16(e.dst.port) << 16;
}

// pair_ends is the inverse of both.
static inline struct ends pair_ends(uint64_t addrs, uint32_t ports) {
	return (struct ends){
		{__builtin_bswap32((uint32_t)addrs), __builtin_bswap16((uint16_t)ports)},
		{__builtin_bswap32((uint32_t)(addrs >> 32)), __builtin_bswap16((uint16_t)(ports >> 16))},
	};
}

// translation_set notes that a packet which shows before becomes after. reverse:
// it travels against its flow's direction.
static inline void translation_set(struct translation *t, struct ends before, struct ends after, bool reverse) {
	struct ends first = reverse ? turned(after) : before, second = reverse ? turned(before) : after;
	t->addrs[0] = pair_addrs(first);
	t->addrs[1] = pair_addrs(second);
	t->ports[0] = pair_ports(first);
	t->ports[1] = pair_ports(second);
}

// query_of returns the type of the request that an ICMP query or its reply
// belongs to, 0 for other messages.
static inline uint8_t query_of(uint8_t type) {
	switch (type) {
	case 0: case 8: return 8;
	case 13: case 14: return 13;
	case 15: case 16: return 15;
	case 17: case 18: return 17;
	}
	return 0;
}

// read_ends reads what a packet shows, whose IPv4 header is all there, and what
// of it can be translated; false: it cannot. query is set for ICMP queries.
static inline bool read_ends(const struct sfc_desc *d, struct ends *e, enum kind *kind, uint8_t *query) {
	const uint8_t *h, *ip = sfc_header(d, d->l3, sizeof(struct sfc_ip4));
	*e = (struct ends){{sfc_be32(ip + 12), 0}, {sfc_be32(ip + 16), 0}};
	*kind = ADDRESSES;
	*query = 0;
	switch (d->proto) {
	case SFC_PROTO_TCP: case SFC_PROTO_UDP:
		if (!(h = transport(d, d->l4, d->proto == SFC_PROTO_TCP ? sizeof(struct sfc_tcp) : sizeof(struct sfc_udp))))
			return false;
		*kind = PORTS;
		break;
	case SFC_PROTO_ICMP:
		if (!(h = transport(d, d->l4, 8)) || !(*query = query_of(h[0])))
			return false;
		*kind = QUERY;
		e->src.port = e->dst.port = sfc_be16(h + 4);
		return true;
	case SFC_PROTO_SCTP: // its checksum covers the ports, and is none that can be corrected: they stay
		if (!(h = transport(d, d->l4, 12)))
			return false;
		break;
	case PROTO_DCCP: case PROTO_UDPLITE:
		return transport(d, d->l3 + (ip[0] & 15) * 4u, 8) != NULL;
	case PROTO_AH: // protects the addresses
		return false;
	default:
		return true;
	}
	e->src.port = sfc_be16(h);
	e->dst.port = sfc_be16(h + 2);
	return true;
}

// bind_ends makes answers to a translated packet find the flow of packet i, which
// it is. The answer is sfc_flow_bind's.
static inline int32_t bind_ends(uint32_t i, const struct sfc_desc *d, struct ends after, uint8_t query) {
	struct ends e = d->flags & SFC_REVERSE ? turned(after) : after; // the tuple is of the flow's direction
	struct sfc_tuple t = {.sport = e.src.port, .dport = e.dst.port, .proto = d->proto, .family = 4, .query = query};
	sfc_put_be32(t.src, e.src.addr);
	sfc_put_be32(t.dst, e.dst.addr);
	return sfc_flow_bind(i, &t);
}

// mix spreads the bits of v.
static inline uint64_t mix(uint64_t v) {
	v = (v ^ v >> 32) * 0x9e3779b97f4a7c15ull;
	v = (v ^ v >> 29) * 0x6a09e667f3bcc909ull;
	return v ^ v >> 32;
}

#endif
