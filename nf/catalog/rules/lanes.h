// SPDX-License-Identifier: Apache-2.0
//
// lanes.h: a burst's packets looked up in the rules' tables, all at once. Clear,
// add packets, search each family's lane, and ask table_permits or table_first
// about packet i of a lane.
#ifndef RULES_LANES_H
#define RULES_LANES_H

#include "sfc_inet.h"

#include "vectors.h"

static struct table by_family[2]; // IPv4, IPv6

// lanes are the packets of a burst that belong to one address family, field by
// field: every step then runs over all of them, and the searches of different
// packets, which wait for memory, overlap.
struct lanes {
	uint32_t n;
	struct sfc_desc *desc[SFC_BURST];
	uint32_t sport[SFC_BURST], dport[SFC_BURST]; // PORT_NONE: the packet shows none
	uint32_t src[SFC_BURST], dst[SFC_BURST];     // IPv4
	uint64_t src_hi[SFC_BURST], src_lo[SFC_BURST], dst_hi[SFC_BURST], dst_lo[SFC_BURST]; // IPv6
	uint32_t at[DIMS][SFC_BURST]; // interval per dimension
};

static struct lanes lanes[2]; // IPv4, IPv6

// add_ports reads the transport part of packet i.
static inline void add_ports(struct lanes *l, uint32_t i, const struct sfc_desc *d, const uint16_t *kinds) {
	uint32_t proto = d->proto, kind = proto, sport = PORT_NONE, dport = PORT_NONE;
	const uint8_t *l4;
	bool has = proto == SFC_PROTO_TCP || proto == SFC_PROTO_UDP || proto == SFC_PROTO_SCTP;
	if (has && !(d->flags & SFC_LATER_FRAG) && (l4 = sfc_header(d, d->l4, 4))) {
		uint32_t ports = sfc_be32(l4);
		sport = ports >> 16;
		dport = ports & 0xffff;
		if (proto == SFC_PROTO_TCP && d->l4 + 14u <= sfc_end(d))
			kind = KIND_TCP + l4[13];
	}
	l->sport[i] = sport;
	l->dport[i] = dport;
	l->at[DIM_KIND][i] = kinds[kind];
}

// lanes_add sorts a packet into its lane; false: not IP.
static inline bool lanes_add(struct sfc_desc *d) {
	const uint8_t *l3;
	if (d->flags & SFC_IPV4 && (l3 = sfc_header(d, d->l3, sizeof(struct sfc_ip4)))) {
		uint32_t i = lanes[0].n++;
		lanes[0].desc[i] = d;
		lanes[0].src[i] = sfc_be32(l3 + 12);
		lanes[0].dst[i] = sfc_be32(l3 + 16);
		add_ports(&lanes[0], i, d, by_family[0].kind);
		return true;
	}
	if (d->flags & SFC_IPV6 && (l3 = sfc_header(d, d->l3, sizeof(struct sfc_ip6)))) {
		uint32_t i = lanes[1].n++;
		lanes[1].desc[i] = d;
		lanes[1].src_hi[i] = sfc_be64(l3 + 8);
		lanes[1].src_lo[i] = sfc_be64(l3 + 16);
		lanes[1].dst_hi[i] = sfc_be64(l3 + 24);
		lanes[1].dst_lo[i] = sfc_be64(l3 + 32);
		add_ports(&lanes[1], i, d, by_family[1].kind);
		return true;
	}
	return false;
}

static inline void lanes_clear(void) { lanes[0].n = lanes[1].n = 0; }

// lanes_search finds the intervals of all packets of a family's lane.
static inline void lanes_search(int ip6) {
	struct lanes *l = &lanes[ip6];
	const struct dim *dim = by_family[ip6].dim;
	if (ip6) {
		dim_search128(&dim[DIM_SRC], l->src_hi, l->src_lo, l->at[DIM_SRC], l->n);
		dim_search128(&dim[DIM_DST], l->dst_hi, l->dst_lo, l->at[DIM_DST], l->n);
	} else {
		dim_search32(&dim[DIM_SRC], l->src, l->at[DIM_SRC], l->n);
		dim_search32(&dim[DIM_DST], l->dst, l->at[DIM_DST], l->n);
	}
	dim_search32(&dim[DIM_SPORT], l->sport, l->at[DIM_SPORT], l->n);
	dim_search32(&dim[DIM_DPORT], l->dport, l->at[DIM_DPORT], l->n);
}

// lanes_build makes the tables of both families. false: the heap is full.
static bool lanes_build(struct sfc_heap *h, const struct rule_list *l) {
	return table_build(&by_family[0], h, l->rule, l->n, false) && table_build(&by_family[1], h, l->rule, l->n, true);
}

#endif
