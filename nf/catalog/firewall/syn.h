// SPDX-License-Identifier: Apache-2.0
//
// syn.h: how many TCP connections may begin, per source and per destination.
// Each prefix has a bucket of tokens. A SYN that may pass takes one; a handshake
// that completes gives it back, unless all new connections are to be counted. So
// what is limited is how many stay half open, and tokens that were never given
// back (attacks, lost hosts, flows that went to another worker) heal with time.
#ifndef FIREWALL_SYN_H
#define FIREWALL_SYN_H

#include "sfc_inet.h"
#include "sfc_json.h"

#include "../buckets/sources.h"

#define MAX_ENTRIES 16384

// syn_limit is one limit with its table.
struct syn_limit {
	bool on;
	bool all; // completed handshakes give nothing back
	struct limit limit;
	struct sfc_addr mask4, mask6;
	struct sources table;
};

enum { BY_SOURCE, BY_DESTINATION, SYN_FITS };

static struct syn_limit syn_limits[2];

// syn_limit_read reads one limit and makes its table.
static void syn_limit_read(struct sfc_json *j, struct sfc_heap *h, struct syn_limit *l, uint32_t prefix6) {
	static const char *const counts[] = {"half_open", "new", NULL};
	uint32_t seen = 0, entries = 4096, prefix4 = 32;
	uint64_t rate = 1, burst = 0, seed = 0;
	sfc_json_object(j);
	while (sfc_json_key(j))
		if (sfc_json_field(j, "rate", &seen, 1))
			rate = (uint64_t)sfc_json_int(j, 1, MAX_RATE);
		else if (sfc_json_field(j, "burst", &seen, 2))
			burst = (uint64_t)sfc_json_int(j, 1, MAX_BURST);
		else if (sfc_json_field(j, "count", &seen, 4))
			l->all = sfc_json_enum(j, counts);
		else if (sfc_json_field(j, "prefix4", &seen, 8))
			prefix4 = (uint32_t)sfc_json_int(j, 0, 32);
		else if (sfc_json_field(j, "prefix6", &seen, 16))
			prefix6 = (uint32_t)sfc_json_int(j, 0, 128);
		else if (sfc_json_field(j, "max", &seen, 32))
			entries = (uint32_t)sfc_json_int(j, 1, MAX_ENTRIES);
		else if (sfc_json_field(j, "seed", &seen, 64))
			seed = (uint64_t)sfc_json_int(j, 0, INT64_MAX);
		else
			sfc_json_fail(j, SFC_JSON_UNKNOWN);
	if (!(seen & 1))
		sfc_json_fail(j, SFC_JSON_MISSING);
	limit_is(&l->limit, rate, false, burst);
	l->mask4 = sfc_prefix_mask(prefix4 + 96);
	l->mask6 = sfc_prefix_mask(prefix6);
	l->on = true;
	if (!sources_init(&l->table, h, entries, seed))
		sfc_json_fail(j, SFC_JSON_MEMORY);
}

// syn_limits_read reads both.
static void syn_limits_read(struct sfc_json *j, struct sfc_heap *h) {
	uint32_t seen = 0;
	sfc_json_object(j);
	while (sfc_json_key(j))
		if (sfc_json_field(j, "per_source", &seen, 1))
			syn_limit_read(j, h, &syn_limits[BY_SOURCE], 64);
		else if (sfc_json_field(j, "per_destination", &seen, 2))
			syn_limit_read(j, h, &syn_limits[BY_DESTINATION], 128);
		else
			sfc_json_fail(j, SFC_JSON_UNKNOWN);
}

static inline bool syn_limited(void) { return syn_limits[BY_SOURCE].on | syn_limits[BY_DESTINATION].on; }

// syn_bucket finds the bucket of a packet's source or destination. Its IP header
// was checked (tcp_read).
static struct bucket *syn_bucket(int which, const struct sfc_desc *d) {
	struct syn_limit *l = &syn_limits[which];
	const uint8_t *l3 = sfc_at(d->chunk + d->l3);
	bool ip6 = !(d->flags & SFC_IPV4 && sfc_header(d, d->l3, sizeof(struct sfc_ip4)));
	struct sfc_addr a = {0, 0};
	enum found found;
	if (ip6) {
		l3 += which == BY_SOURCE ? offsetof(struct sfc_ip6, src) : offsetof(struct sfc_ip6, dst);
		a.hi = sfc_be64(l3) & l->mask6.hi;
		a.lo = sfc_be64(l3 + 8) & l->mask6.lo;
	} else {
		l3 += which == BY_SOURCE ? offsetof(struct sfc_ip4, src) : offsetof(struct sfc_ip4, dst);
		a.lo = sfc_be32(l3) & l->mask4.lo;
	}
	struct source *s = sources_get(&l->table, a, ip6, &found);
	if (found != FOUND)
		s->bucket = (struct bucket){.seen_ns = d->rx_ns};
	return &s->bucket;
}

// give_back undoes one packet.
static inline void give_back(const struct limit *l, struct bucket *b) {
	b->spent[0] = b->spent[0] > l->per_packet ? b->spent[0] - l->per_packet : 0;
}

// syn_may_pass charges a SYN. It returns SYN_FITS, or which limit is reached; then
// nothing was charged.
static __attribute__((noinline)) int syn_may_pass(const struct sfc_desc *d) {
	struct bucket *b[2] = {NULL, NULL};
	for (int which = BY_SOURCE; which <= BY_DESTINATION; which++) {
		if (!syn_limits[which].on)
			continue;
		b[which] = syn_bucket(which, d);
		if (conforms(&syn_limits[which].limit, 1, b[which], d->rx_ns, d->len))
			continue;
		if (which == BY_DESTINATION && b[BY_SOURCE])
			give_back(&syn_limits[BY_SOURCE].limit, b[BY_SOURCE]);
		return which;
	}
	return SYN_FITS;
}

// syn_completed gives back what the SYN of a connection took; d is the origin's.
static __attribute__((noinline)) void syn_completed(const struct sfc_desc *d) {
	for (int which = BY_SOURCE; which <= BY_DESTINATION; which++)
		if (syn_limits[which].on && !syn_limits[which].all)
			give_back(&syn_limits[which].limit, syn_bucket(which, d));
}

#endif
