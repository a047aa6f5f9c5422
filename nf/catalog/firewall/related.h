// SPDX-License-Identifier: Apache-2.0
//
// related.h: ICMP errors about a connection. Who forges one must guess the numbers
// of a segment under way, as hosts demand too (RFC 5927, section 4.1).
#ifndef FIREWALL_RELATED_H
#define FIREWALL_RELATED_H

#include "tcp.h"

#define ICMP_LEN 8 // bytes in front of the quote, ICMPv6 as well

// quoted_tcp returns the first 8 bytes of the TCP header that an ICMP error quotes,
// NULL when they are not there. known is false for quotes that are not read: of
// other protocols, and behind extension headers.
static inline const uint8_t *quoted_tcp(const struct sfc_desc *d, bool *known) {
	uint32_t at = d->l4 + ICMP_LEN;
	const uint8_t *ip;
	*known = true;
	if (d->proto == SFC_PROTO_ICMP) {
		if (!(ip = sfc_header(d, at, sizeof(struct sfc_ip4))))
			return NULL;
		*known = ip[9] == SFC_PROTO_TCP;
		return sfc_header(d, at + (ip[0] & 15) * 4u, 8);
	}
	if (!(ip = sfc_header(d, at, sizeof(struct sfc_ip6))))
		return NULL;
	*known = ip[6] == SFC_PROTO_TCP;
	return sfc_header(d, at + (uint32_t)sizeof(struct sfc_ip6), 8);
}

// related_fits says whether the segment that an ICMP error about a connection
// quotes can be one that is under way. The error travels to who sent it.
static inline bool related_fits(const struct conn *c, const struct sfc_desc *d) {
	bool known;
	const uint8_t *tcp = quoted_tcp(d, &known);
	int from = (d->flags & SFC_REVERSE ? 0 : 1) != c->reverse;
	const struct side *a = &c->side[from], *b = &c->side[!from];
	if (c->loose || !known)
		return true;
	if (!tcp)
		return false;
	uint32_t seq = sfc_be32(tcp + 4);
	if (c->state == SYN_SENT || c->state == SYN_BOTH)
		return (from == 0 || c->state == SYN_BOTH) && seq + 1 == (from == 0 ? a->max_end : a->end);
	return !after(seq, a->end) && !after(a->end - larger(b->max_win, 1), seq);
}

#endif
