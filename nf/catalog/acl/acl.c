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
// Cost:       see README.md.
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

// key is what the rules look at in one packet.
struct key {
	struct sfc_addr src, dst;
	uint32_t sport, dport; // PORT_NONE: the packet shows none
	uint32_t kind;         // protocol, or KIND_TCP + flags
};

// read_ports fills the transport part of k.
static inline void read_ports(const struct sfc_desc *d, struct key *k) {
	uint32_t proto = d->proto;
	k->sport = k->dport = PORT_NONE;
	k->kind = proto;
	bool has = proto == SFC_PROTO_TCP || proto == SFC_PROTO_UDP || proto == SFC_PROTO_SCTP;
	if (!has || d->flags & SFC_LATER_FRAG)
		return;
	const uint8_t *l4 = sfc_header(d, d->l4, 4);
	if (!l4)
		return;
	uint32_t ports = sfc_be32(l4);
	k->sport = ports >> 16;
	k->dport = ports & 0xffff;
	if (proto == SFC_PROTO_TCP && d->l4 + 14u <= sfc_end(d))
		k->kind = KIND_TCP + l4[13];
}

// search4 finds the classes of an IPv4 packet in all dimensions and decides.
static inline bool permits4(const struct table *t, const struct sfc_desc *d, const uint8_t *l3) {
	struct key k;
	uint32_t at[DIMS];
	read_ports(d, &k);
	at[DIM_SRC] = dim_search32(&t->dim[DIM_SRC], sfc_be32(l3 + 12));
	at[DIM_DST] = dim_search32(&t->dim[DIM_DST], sfc_be32(l3 + 16));
	at[DIM_SPORT] = dim_search32(&t->dim[DIM_SPORT], k.sport);
	at[DIM_DPORT] = dim_search32(&t->dim[DIM_DPORT], k.dport);
	at[DIM_KIND] = t->kind[k.kind];
	return table_permits(t, at);
}

static inline bool permits6(const struct table *t, const struct sfc_desc *d, const uint8_t *l3) {
	struct key k;
	uint32_t at[DIMS];
	read_ports(d, &k);
	at[DIM_SRC] = dim_search128(&t->dim[DIM_SRC], sfc_be64(l3 + 8), sfc_be64(l3 + 16));
	at[DIM_DST] = dim_search128(&t->dim[DIM_DST], sfc_be64(l3 + 24), sfc_be64(l3 + 32));
	at[DIM_SPORT] = dim_search32(&t->dim[DIM_SPORT], k.sport);
	at[DIM_DPORT] = dim_search32(&t->dim[DIM_DPORT], k.dport);
	at[DIM_KIND] = t->kind[k.kind];
	return table_permits(t, at);
}

SFC_EXPORT(sfc_process) void sfc_process(uint32_t n) {
	struct sfc_desc *d = sfc_descs();
	uint32_t permitted = 0, non_ip = 0;

	for (struct sfc_desc *end = d + n; d < end; d++) {
		const uint8_t *l3;
		bool permit;
		if (d->flags & SFC_IPV4 && (l3 = sfc_header(d, d->l3, sizeof(struct sfc_ip4)))) {
			permit = permits4(&by_family[0], d, l3);
		} else if (d->flags & SFC_IPV6 && (l3 = sfc_header(d, d->l3, sizeof(struct sfc_ip6)))) {
			permit = permits6(&by_family[1], d, l3);
		} else {
			non_ip++;
			sfc_next(d);
			continue;
		}
		permitted += permit;
		sfc_decide(d, permit ? SFC_VERDICT_NEXT : SFC_VERDICT_DROP, permit ? 0 : REASON_DENIED);
	}
	sfc_count(COUNTER_PERMITTED, permitted);
	sfc_count(COUNTER_NON_IP, non_ip);
}
