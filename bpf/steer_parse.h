/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* Bounds-checked parsing. Packet.Parse (dataplane/packet/parse.go) is the same
 * in Go; the fixtures in this folder run every frame through both.
 */
#pragma once

#include "steer_consts.h"
#include "steer_meta.h"

enum {
	ETHER_IPV4 = 0x0800,
	ETHER_VLAN = 0x8100,
	ETHER_IPV6 = 0x86dd,
	ETHER_QINQ = 0x88a8,
};

enum {
	PROTO_HOPOPTS = 0,
	PROTO_ICMP = 1,
	PROTO_TCP = 6,
	PROTO_UDP = 17,
	PROTO_ROUTING = 43,
	PROTO_FRAGMENT = 44,
	PROTO_AH = 51,
	PROTO_ICMPV6 = 58,
	PROTO_DSTOPTS = 60,
	PROTO_SCTP = 132,
	PROTO_MOBILITY = 135,
	PROTO_HIP = 139,
	PROTO_SHIM6 = 140,
};

enum parse_result { PARSED_IP, NOT_IP, NEIGHBOUR_DISCOVERY, MALFORMED, EXT_HEADERS };

/* The frame: len counts all of it, data_end ends the part in the first buffer. */
struct frame {
	const u8 *data;
	const u8 *data_end;
	u32 len;
};

#define NO_PORT 0x10000 /* classify.NoPort; 0 as a u16 */

/* packet.Info. Addresses as the packet has them, IPv4 in the low half of word
 * 0; ports in host byte order, NO_PORT when it shows none.
 */
struct info {
	u64 src[2], dst[2];
	u32 sport, dport;
	u16 l3, l4, flags, vlan;
	u32 proto;
	u32 id; /* of an ICMP query, else 0 */
};

/* Offsets are below 2^15: two tags, an IPv6 header and eight extension headers
 * of 2 KiB. The mask tells the verifier.
 */
#define OFF_MASK 0x7fff

/* Returns n bytes at off, or NULL when they are not all in the frame. */
static __always_inline const u8 *bytes(const struct frame *f, u32 off, u32 n)
{
	const u8 *p = f->data + (off & OFF_MASK);

	return p + n > f->data_end ? 0 : p;
}

static __always_inline u16 be16(const u8 *p) { return bswap16(*(const u16 *)p); }

/* The transport header at off of a packet that ends at end. */
static __always_inline int parse_l4(const struct frame *f, struct info *in, u32 off, u32 end)
{
	const u8 *h;
	u32 n;

	switch (in->proto) {
	case PROTO_TCP:
		h = bytes(f, off, 20);
		if (!h || off + 20 > end)
			return MALFORMED;
		n = (h[12] >> 4) * 4;
		if (n < 20 || off + n > end)
			return MALFORMED;
		break;
	case PROTO_UDP:
		h = bytes(f, off, 8);
		if (!h || off + 8 > end)
			return MALFORMED;
		/* Of a fragment the length may be more than is here. */
		n = be16(h + 4);
		if (n < 8 || (!(in->flags & FLAG_FRAGMENT) && off + n > end))
			return MALFORMED;
		break;
	case PROTO_SCTP:
		h = bytes(f, off, 12);
		if (!h || off + 12 > end)
			return MALFORMED;
		break;
	case PROTO_ICMP:
		if (!(in->flags & FLAG_IPV4))
			return PARSED_IP;
		h = bytes(f, off, 8);
		if (!h || off + 8 > end)
			return MALFORMED;
		if ((h[0] >= 3 && h[0] <= 5) || h[0] == 11 || h[0] == 12)
			in->flags |= FLAG_ICMP_ERROR;
		if (h[0] == 0 || h[0] == 8 || (h[0] >= 13 && h[0] <= 18))
			in->id = be16(h + 4);
		in->l4 = off;
		return PARSED_IP;
	case PROTO_ICMPV6:
		if (!(in->flags & FLAG_IPV6))
			return PARSED_IP;
		h = bytes(f, off, 8);
		if (!h || off + 8 > end)
			return MALFORMED;
		in->l4 = off;
		if (h[0] >= 133 && h[0] <= 137)
			return NEIGHBOUR_DISCOVERY;
		if (h[0] >= 1 && h[0] <= 4)
			in->flags |= FLAG_ICMP_ERROR;
		if (h[0] == 128 || h[0] == 129)
			in->id = be16(h + 4);
		return PARSED_IP;
	default:
		return PARSED_IP;
	}
	in->l4 = off;
	in->sport = be16(h);
	in->dport = be16(h + 2);
	return PARSED_IP;
}

static __always_inline int parse_ipv4(const struct frame *f, struct info *in, u32 off)
{
	const u8 *h = bytes(f, off, 20);
	u32 header, total, frag;

	in->flags |= FLAG_IPV4;
	in->l3 = off;
	if (!h)
		return MALFORMED;
	header = (h[0] & 0x0f) * 4;
	total = be16(h + 2);
	if (h[0] >> 4 != 4 || header < 20 || total < header || off + total > f->len)
		return MALFORMED;
	in->src[0] = *(const u32 *)(h + 12);
	in->dst[0] = *(const u32 *)(h + 16);
	in->proto = h[9];
	frag = be16(h + 6);
	if (frag & 0x3fff)
		in->flags |= FLAG_FRAGMENT;
	if (frag & 0x1fff) {
		in->flags |= FLAG_LATER_FRAG;
		return PARSED_IP;
	}
	return parse_l4(f, in, off + header, off + total);
}

static __always_inline int parse_ipv6(const struct frame *f, struct info *in, u32 off)
{
	const u8 *h = bytes(f, off, 40);
	u32 end, size, frag;

	in->flags |= FLAG_IPV6;
	in->l3 = off;
	if (!h)
		return MALFORMED;
	end = off + 40 + be16(h + 4);
	if (h[0] >> 4 != 6 || end > f->len)
		return MALFORMED;
	in->src[0] = *(const u64 *)(h + 8);
	in->src[1] = *(const u64 *)(h + 16);
	in->dst[0] = *(const u64 *)(h + 24);
	in->dst[1] = *(const u64 *)(h + 32);
	in->proto = h[6];
	off += 40;
	for (int n = 0; n <= MAX_EXT_HEADERS; n++) {
		switch (in->proto) {
		case PROTO_HOPOPTS:
		case PROTO_ROUTING:
		case PROTO_FRAGMENT:
		case PROTO_AH:
		case PROTO_DSTOPTS:
		case PROTO_MOBILITY:
		case PROTO_HIP:
		case PROTO_SHIM6:
			break;
		default: /* ESP too: what follows it is encrypted */
			return parse_l4(f, in, off, end);
		}
		if (n == MAX_EXT_HEADERS)
			break;
		h = bytes(f, off, 8);
		if (!h || off + 8 > end)
			return MALFORMED;
		size = (h[1] + 1) * 8;
		if (in->proto == PROTO_AH) {
			size = (h[1] + 2) * 4;
		} else if (in->proto == PROTO_FRAGMENT) {
			size = 8;
			frag = be16(h + 2);
			if (frag & 0xfff9)
				in->flags |= FLAG_FRAGMENT;
			if (frag & 0xfff8) {
				in->flags |= FLAG_LATER_FRAG;
				in->proto = h[0];
				return PARSED_IP;
			}
		}
		if (off + size > end)
			return MALFORMED;
		in->proto = h[0];
		off = (off + size) & OFF_MASK;
	}
	return EXT_HEADERS;
}

/* Parses the frame of len bytes, all buffers counted, of which ctx shows the
 * first buffer.
 */
__separate int parse(struct xdp_md *ctx, struct info *in, u32 len)
{
	struct frame frame = {ptr(ctx->data), ptr(ctx->data_end), len}, *f = &frame;
	const u8 *h = bytes(f, 0, 14);
	u32 off = 14, type;

	if (!in)
		return MALFORMED;
	*in = (struct info){.sport = NO_PORT, .dport = NO_PORT};
	if (!h)
		return MALFORMED;
	type = be16(h + 12);
	for (int tags = 0; type == ETHER_VLAN || type == ETHER_QINQ; tags++) {
		if (tags == MAX_VLAN_TAGS)
			return NOT_IP;
		h = bytes(f, off, 4);
		if (!h)
			return MALFORMED;
		if (tags == 0) {
			in->flags |= FLAG_VLAN;
			in->vlan = be16(h) & 0x0fff;
		}
		type = be16(h + 2);
		off += 4;
	}
	if (type == ETHER_IPV4)
		return parse_ipv4(f, in, off);
	if (type == ETHER_IPV6)
		return parse_ipv6(f, in, off);
	return NOT_IP;
}
