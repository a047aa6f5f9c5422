// SPDX-License-Identifier: Apache-2.0
//
// acl: permits or denies packets by an ordered list of rules, first match wins.
//
// Service function: acl
// Expects:    IPv4 or IPv6 at l3; all else is Next, untouched.
// Verdicts:   Next, Drop(denied).
// Config:     default ("permit" or "deny", default permit): what no rule matches.
//             rules (at most 1023), each: action; src, dst (prefix, one family);
//             proto (name or number); src_ports, dst_ports (number, "80",
//             "1024-65535" or up to 8 of these in an array); tcp_flags.
// State:      none. Safe to instantiate once per worker.
// Cost:       26 ns/packet with 100 rules, 12 with 1, 38 with 1000 (IPv6 27,
//             13, 41) at burst 64 in the sandbox, random flows; 2-core AMD
//             EPYC VM, 2026-11-23, BenchmarkCatalogue/nf=acl.
// See also:   Lakshman and Stiliadis, SIGCOMM 1998 (bit vectors), Baboescu and
//             Varghese, SIGCOMM 2001 (their aggregation). rules.h reads the
//             configuration, vectors.h builds and searches the tables.
#include "sfc.h"
#include "sfc_inet.h"
#include "sfc_json.h"
#include "sfc_mem.h"

#include "rules.h"
#include "vectors.h"

enum { REASON_DENIED = 1 };
enum { COUNTER_PERMITTED, COUNTER_NON_IP };

SFC_HEAP(heap, 14 << 20);

static struct table by_family[2]; // IPv4, IPv6

SFC_EXPORT(sfc_configure) int32_t sfc_configure(uint32_t ptr, uint32_t len) {
	struct sfc_json j;
	struct rule *rules;
	uint32_t n;
	sfc_heap_reset(&heap);
	sfc_json_start(&j, ptr, len);
	rules = rules_read(&j, &heap, &n);
	int32_t refused = sfc_json_finish(&j);
	if (refused)
		return refused;
	for (int ip6 = 0; ip6 < 2; ip6++)
		if (!table_build(&by_family[ip6], &heap, rules, n, ip6))
			return SFC_JSON_MEMORY;
	return 0;
}

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

// add sorts a packet into its lane; false: not IP.
static inline bool add(struct sfc_desc *d) {
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

// decide writes the verdicts of a lane and returns how many are permitted.
static uint32_t decide(struct lanes *l, const struct table *t) {
	uint32_t permitted = 0;
	dim_search32(&t->dim[DIM_SPORT], l->sport, l->at[DIM_SPORT], l->n);
	dim_search32(&t->dim[DIM_DPORT], l->dport, l->at[DIM_DPORT], l->n);
	for (uint32_t i = 0; i < l->n; i++) {
		bool permit = table_permits(t, l->at, i);
		permitted += permit;
		sfc_decide(l->desc[i], permit ? SFC_VERDICT_NEXT : SFC_VERDICT_DROP, permit ? 0 : REASON_DENIED);
	}
	return permitted;
}

SFC_EXPORT(sfc_process) void sfc_process(uint32_t n) {
	struct sfc_desc *d = sfc_descs();
	uint32_t permitted = 0, non_ip = 0;
	struct lanes *l;

	lanes[0].n = lanes[1].n = 0;
	for (struct sfc_desc *end = d + n; d < end; d++)
		if (!add(d)) {
			non_ip++;
			sfc_next(d);
		}
	if ((l = &lanes[0])->n) {
		dim_search32(&by_family[0].dim[DIM_SRC], l->src, l->at[DIM_SRC], l->n);
		dim_search32(&by_family[0].dim[DIM_DST], l->dst, l->at[DIM_DST], l->n);
		permitted += decide(l, &by_family[0]);
	}
	if ((l = &lanes[1])->n) {
		dim_search128(&by_family[1].dim[DIM_SRC], l->src_hi, l->src_lo, l->at[DIM_SRC], l->n);
		dim_search128(&by_family[1].dim[DIM_DST], l->dst_hi, l->dst_lo, l->at[DIM_DST], l->n);
		permitted += decide(l, &by_family[1]);
	}
	sfc_count(COUNTER_PERMITTED, permitted);
	sfc_count(COUNTER_NON_IP, non_ip);
}
