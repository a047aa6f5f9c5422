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
//             Varghese, SIGCOMM 2001 (their aggregation). ../rules reads the
//             configuration, builds the tables and searches them.
#include "sfc.h"
#include "sfc_inet.h"
#include "sfc_json.h"
#include "sfc_mem.h"

#include "../rules/lanes.h"

enum { REASON_DENIED = 1 };
enum { COUNTER_PERMITTED, COUNTER_NON_IP };

SFC_HEAP(heap, 14 << 20);

SFC_EXPORT(sfc_configure) int32_t sfc_configure(uint32_t ptr, uint32_t len) {
	struct sfc_json j;
	uint32_t seen = 0;
	sfc_heap_reset(&heap);
	sfc_json_start(&j, ptr, len);
	struct rule_list rules = rules_start(&j, &heap);
	sfc_json_object(&j);
	while (sfc_json_key(&j))
		if (!rules_field(&j, &rules, &seen))
			sfc_json_fail(&j, SFC_JSON_UNKNOWN);
	int32_t refused = sfc_json_finish(&j);
	if (refused)
		return refused;
	rules_finish(&rules);
	return lanes_build(&heap, &rules) ? 0 : SFC_JSON_MEMORY;
}

// decide writes the verdicts of a lane and returns how many are permitted.
static uint32_t decide(struct lanes *l, const struct table *t) {
	uint32_t permitted = 0;
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

	lanes_clear();
	for (struct sfc_desc *end = d + n; d < end; d++)
		if (!lanes_add(d)) {
			non_ip++;
			sfc_next(d);
		}
	for (int ip6 = 0; ip6 < 2; ip6++)
		if (lanes[ip6].n) {
			lanes_search(ip6);
			permitted += decide(&lanes[ip6], &by_family[ip6]);
		}
	sfc_count(COUNTER_PERMITTED, permitted);
	sfc_count(COUNTER_NON_IP, non_ip);
}
