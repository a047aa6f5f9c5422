// SPDX-License-Identifier: Apache-2.0
//
// sfc_inet.h: byte order, headers, incremental checksums, addresses in text.
//
// Loads and stores take any alignment. Nothing here checks bounds: use
// sfc_header first.
#ifndef SFC_INET_H
#define SFC_INET_H

#include "sfc.h"

// Protocol numbers (IANA).
enum {
	SFC_PROTO_ICMP = 1,
	SFC_PROTO_TCP = 6,
	SFC_PROTO_UDP = 17,
	SFC_PROTO_ICMPV6 = 58,
	SFC_PROTO_SCTP = 132,
};

// Headers as they lie on the wire; every field is a byte array, so a pointer to
// one may point anywhere. Read fields with sfc_be16 and its kin.
struct sfc_eth { uint8_t dst[6], src[6], type[2]; };
struct sfc_ip4 {
	uint8_t ver_ihl, tos, total_len[2], id[2], frag[2], ttl, proto, check[2], src[4], dst[4];
};
struct sfc_ip6 { uint8_t ver_class_flow[4], payload_len[2], next, hop_limit, src[16], dst[16]; };
struct sfc_tcp {
	uint8_t sport[2], dport[2], seq[4], ack[4], data_off, flags, window[2], check[2], urgent[2];
};
struct sfc_udp { uint8_t sport[2], dport[2], len[2], check[2]; };

_Static_assert(sizeof(struct sfc_ip4) == 20 && sizeof(struct sfc_ip6) == 40, "IP headers");
_Static_assert(sizeof(struct sfc_tcp) == 20 && sizeof(struct sfc_udp) == 8, "L4 headers");

struct sfc_unaligned16 { uint16_t v; } __attribute__((packed, may_alias));
struct sfc_unaligned32 { uint32_t v; } __attribute__((packed, may_alias));
struct sfc_unaligned64 { uint64_t v; } __attribute__((packed, may_alias));

// sfc_le16, 32, 64 load little-endian, which is the machine's order too.
static inline uint16_t sfc_le16(const void *p) { return ((const struct sfc_unaligned16 *)p)->v; }
static inline uint32_t sfc_le32(const void *p) { return ((const struct sfc_unaligned32 *)p)->v; }
static inline uint64_t sfc_le64(const void *p) { return ((const struct sfc_unaligned64 *)p)->v; }

// sfc_be16, 32, 64 load network byte order.
static inline uint16_t sfc_be16(const void *p) { return __builtin_bswap16(sfc_le16(p)); }
static inline uint32_t sfc_be32(const void *p) { return __builtin_bswap32(sfc_le32(p)); }
static inline uint64_t sfc_be64(const void *p) { return __builtin_bswap64(sfc_le64(p)); }

// The stores that belong to them.
static inline void sfc_put_le16(void *p, uint16_t v) { ((struct sfc_unaligned16 *)p)->v = v; }
static inline void sfc_put_le32(void *p, uint32_t v) { ((struct sfc_unaligned32 *)p)->v = v; }
static inline void sfc_put_le64(void *p, uint64_t v) { ((struct sfc_unaligned64 *)p)->v = v; }
static inline void sfc_put_be16(void *p, uint16_t v) { sfc_put_le16(p, __builtin_bswap16(v)); }
static inline void sfc_put_be32(void *p, uint32_t v) { sfc_put_le32(p, __builtin_bswap32(v)); }

// sfc_check_replace returns the Internet checksum after a 16-bit word it covers
// changed from old to new (RFC 1624, equation 3). Any byte order, as long as all
// three use the same. A wrong checksum stays wrong by the same amount.
static inline uint16_t sfc_check_replace(uint16_t check, uint16_t old, uint16_t new) {
	uint32_t sum = (uint32_t)(uint16_t)~check + (uint16_t)~old + new;
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

// sfc_check_replace32 does the same for a 32-bit word (an IPv4 address).
static inline uint16_t sfc_check_replace32(uint16_t check, uint32_t old, uint32_t new) {
	check = sfc_check_replace(check, (uint16_t)(old >> 16), (uint16_t)(new >> 16));
	return sfc_check_replace(check, (uint16_t)old, (uint16_t)new);
}

// sfc_check_sum returns the Internet checksum of n bytes (RFC 1071): 0 when they
// include a right checksum.
static inline uint16_t sfc_check_sum(const uint8_t *p, uint32_t n) {
	uint64_t sum = 0;
	for (; n > 1; n -= 2, p += 2)
		sum += sfc_be16(p);
	if (n)
		sum += (uint32_t)*p << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

// sfc_addr is an address or the first address of a prefix, most significant
// half first. An IPv4 address is the low 32 bits of lo.
struct sfc_addr { uint64_t hi, lo; };

// sfc_prefix is a prefix. bits counts from the family's own width: 0-32, 0-128.
struct sfc_prefix {
	struct sfc_addr addr; // host bits are zero
	uint8_t bits;
	bool ip6;
};

// sfc_parse_dec reads a decimal number of at most max, without leading zeros,
// from s[*at...n). It moves *at behind it; false when there is none or it is
// too large.
static inline bool sfc_parse_dec(const char *s, uint32_t n, uint32_t *at, uint32_t max, uint32_t *out) {
	uint32_t i = *at, start = i;
	uint64_t v = 0;
	for (; i < n && s[i] >= '0' && s[i] <= '9'; i++) {
		v = v * 10 + (uint32_t)(s[i] - '0');
		if (v > max || (i > start && s[start] == '0'))
			return false;
	}
	*at = i;
	*out = (uint32_t)v;
	return i > start;
}

// sfc_parse_ip4 reads "192.0.2.1" from s[*at...n).
static inline bool sfc_parse_ip4(const char *s, uint32_t n, uint32_t *at, uint32_t *out) {
	uint32_t v = 0, octet;
	for (int i = 0; i < 4; i++) {
		if (i && (*at >= n || s[(*at)++] != '.'))
			return false;
		if (!sfc_parse_dec(s, n, at, 255, &octet))
			return false;
		v = v << 8 | octet;
	}
	*out = v;
	return true;
}

static inline int sfc_hex_digit(char c) {
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// sfc_parse_ip6 reads an IPv6 address in any form of RFC 4291 section 2.2 (all
// groups, one "::", IPv4 at the end) from s[*at...n). No zone.
static inline bool sfc_parse_ip6(const char *s, uint32_t n, uint32_t *at, struct sfc_addr *out) {
	uint16_t group[8] = {0};
	uint32_t i = *at, count = 0, gap = 9; // gap: where "::" stands
	if (i + 1 < n && s[i] == ':' && s[i + 1] == ':') {
		gap = 0;
		i += 2;
	}
	while (count < 8) {
		uint32_t v = 0, start = i;
		for (; i < n && i - start < 5 && sfc_hex_digit(s[i]) >= 0; i++)
			v = v << 4 | (uint32_t)sfc_hex_digit(s[i]);
		if (i == start && gap == count)
			break; // "::" at the end
		if (i == start || i - start > 4)
			return false;
		if (i < n && s[i] == '.') {
			i = start;
			if (count > 6 || !sfc_parse_ip4(s, n, &i, &v))
				return false;
			group[count++] = (uint16_t)(v >> 16);
			group[count++] = (uint16_t)v;
			break;
		}
		group[count++] = (uint16_t)v;
		if (i >= n || s[i] != ':' || count == 8)
			break;
		i++;
		if (i < n && s[i] == ':') {
			if (gap != 9)
				return false;
			gap = count;
			i++;
		}
	}
	if (gap == 9 ? count != 8 : count == 8)
		return false;
	uint64_t half[2] = {0, 0};
	for (uint32_t k = 0; k < 8; k++) {
		uint32_t from = k < gap ? k : k - (8 - count);
		uint16_t g = k < gap || k >= gap + (8 - count) ? group[from & 7] : 0;
		half[k / 4] = half[k / 4] << 16 | g;
	}
	*at = i;
	out->hi = half[0];
	out->lo = half[1];
	return true;
}

// sfc_prefix_mask returns the mask of a prefix of the given length in bits; for
// IPv4 add 96.
static inline struct sfc_addr sfc_prefix_mask(uint32_t bits) {
	struct sfc_addr m;
	m.hi = bits == 0 ? 0 : bits >= 64 ? ~0ull : ~0ull << (64 - bits);
	m.lo = bits <= 64 ? 0 : bits >= 128 ? ~0ull : ~0ull << (128 - bits);
	return m;
}

// sfc_parse_prefix reads "10.0.0.0/8", "2001:db8::/32" or a bare address (its
// own prefix) and nothing else. It clears the host bits. false: not a prefix.
static inline bool sfc_parse_prefix(const char *s, uint32_t n, struct sfc_prefix *out) {
	uint32_t at = 0, v4 = 0, bits;
	*out = (struct sfc_prefix){0};
	for (uint32_t i = 0; i < n; i++)
		out->ip6 |= s[i] == ':';
	if (out->ip6 ? !sfc_parse_ip6(s, n, &at, &out->addr) : !sfc_parse_ip4(s, n, &at, &v4))
		return false;
	bits = out->ip6 ? 128 : 32;
	if (at < n && s[at] == '/') {
		at++;
		if (!sfc_parse_dec(s, n, &at, bits, &bits))
			return false;
	}
	if (at != n)
		return false;
	out->bits = (uint8_t)bits;
	struct sfc_addr m = sfc_prefix_mask(out->ip6 ? bits : bits + 96);
	if (!out->ip6)
		out->addr.lo = v4;
	out->addr.hi &= m.hi;
	out->addr.lo &= m.lo;
	return true;
}

// sfc_parse_mac reads "02:00:5e:10:00:01" and nothing else.
static inline bool sfc_parse_mac(const char *s, uint32_t n, uint8_t mac[6]) {
	if (n != 17)
		return false;
	for (int i = 0; i < 6; i++) {
		int a = sfc_hex_digit(s[3 * i]), b = sfc_hex_digit(s[3 * i + 1]);
		if (a < 0 || b < 0 || (i < 5 && s[3 * i + 2] != ':'))
			return false;
		mac[i] = (uint8_t)(a << 4 | b);
	}
	return true;
}

#endif
