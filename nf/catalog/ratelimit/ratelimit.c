// SPDX-License-Identifier: Apache-2.0
//
// ratelimit: a token bucket per source prefix or per flow.
//
// Service function: ratelimit
// Expects:    IPv4 or IPv6 at l3, with key flow a flow; what is neither is Next,
//             untouched.
// Verdicts:   Next, Drop(rate_exceeded).
// Config:     rate (required), unit ("pps" or "bps", default pps), burst
//             (default: one second's worth); also: a second limit of the same
//             three fields; key ("src" or "flow", default src); with src prefix4
//             (default 32) and prefix6 (default 64): bits of the source that
//             share a bucket; max_sources (default 4096), seed (default 0).
// State:      key flow: 32 bytes per flow. key src: the buckets, in the module's
//             own memory: lost with the instance, and one set of them per worker.
// Cost:       8.2 ns/packet by source, 2.4 by flow (4.0 with two limits), at burst 64
//             in the sandbox; 2-core AMD EPYC VM, 2026-11-23,
//             BenchmarkCatalogue/nf=ratelimit.
// See also:   ../buckets for the arithmetic and the table of sources. A
//             packet's length is its frame's, without FCS. Time is the packet's
//             own (rx_ns), so that decisions do not depend on how packets fall
//             into bursts.
#include "sfc.h"
#include "sfc_inet.h"
#include "sfc_json.h"
#include "sfc_mem.h"

#include "../buckets/sources.h"

enum { REASON_RATE_EXCEEDED = 1 };
enum { COUNTER_PASSED, COUNTER_SOURCES, COUNTER_REPLACED, COUNTER_NON_IP, COUNTER_NO_FLOW };

SFC_HEAP(heap, 8 << 20);

// flow is the slot: one bucket for both directions.
struct flow {
	struct bucket bucket;
	uint64_t unused;
};

_Static_assert(sizeof(struct flow) == 32, "the manifest's flow_state_bytes");

static struct {
	struct limit limit[LIMITS];
	uint32_t limits; // how many of them
	bool by_flow;
	struct sfc_addr mask4, mask6;
} config;

static struct sources sources;

// flowless is the bucket that all IP packets without a flow of their own share.
static struct bucket flowless;

// read_limit_field reads a field of a limit; false: it is none.
static bool read_limit_field(struct sfc_json *j, uint32_t *seen, uint64_t *rate, bool *bits, uint64_t *burst) {
	static const char *const units[] = {"pps", "bps", NULL};
	if (sfc_json_field(j, "rate", seen, 1))
		*rate = (uint64_t)sfc_json_int(j, 1, MAX_RATE);
	else if (sfc_json_field(j, "unit", seen, 2))
		*bits = sfc_json_enum(j, units);
	else if (sfc_json_field(j, "burst", seen, 4))
		*burst = (uint64_t)sfc_json_int(j, 1, MAX_BURST);
	else
		return false;
	return true;
}

// read_also reads the second limit.
static void read_also(struct sfc_json *j) {
	uint32_t seen = 0;
	uint64_t rate = 1, burst = 0;
	bool bits = false;
	sfc_json_object(j);
	while (sfc_json_key(j))
		if (!read_limit_field(j, &seen, &rate, &bits, &burst))
			sfc_json_fail(j, SFC_JSON_UNKNOWN);
	if (!(seen & 1))
		sfc_json_fail(j, SFC_JSON_MISSING);
	limit_is(&config.limit[1], rate, bits, burst);
	config.limits = 2;
}

SFC_EXPORT(sfc_configure) int32_t sfc_configure(uint32_t ptr, uint32_t len) {
	static const char *const keys[] = {"src", "flow", NULL};
	struct sfc_json j;
	uint32_t seen = 0, max_sources = 4096, prefix4 = 32, prefix6 = 64;
	uint64_t rate = 1, burst = 0, seed = 0;
	bool bits = false;

	config.limits = 1;
	config.by_flow = false;
	sfc_json_start(&j, ptr, len);
	sfc_json_object(&j);
	while (sfc_json_key(&j))
		if (read_limit_field(&j, &seen, &rate, &bits, &burst))
			;
		else if (sfc_json_field(&j, "key", &seen, 8))
			config.by_flow = sfc_json_enum(&j, keys);
		else if (sfc_json_field(&j, "prefix4", &seen, 16))
			prefix4 = (uint32_t)sfc_json_int(&j, 0, 32);
		else if (sfc_json_field(&j, "prefix6", &seen, 32))
			prefix6 = (uint32_t)sfc_json_int(&j, 0, 128);
		else if (sfc_json_field(&j, "max_sources", &seen, 64))
			max_sources = (uint32_t)sfc_json_int(&j, 1, 65536);
		else if (sfc_json_field(&j, "seed", &seen, 128))
			seed = (uint64_t)sfc_json_int(&j, 0, INT64_MAX);
		else if (sfc_json_field(&j, "also", &seen, 256))
			read_also(&j);
		else
			sfc_json_fail(&j, SFC_JSON_UNKNOWN);
	if (!(seen & 1))
		sfc_json_fail(&j, SFC_JSON_MISSING);
	int32_t refused = sfc_json_finish(&j);
	if (refused)
		return refused;

	limit_is(&config.limit[0], rate, bits, burst);
	config.mask4 = sfc_prefix_mask(prefix4 + 96);
	config.mask6 = sfc_prefix_mask(prefix6);
	flowless = (struct bucket){0};
	sfc_heap_reset(&heap);
	return sources_init(&sources, &heap, config.by_flow ? 1 : max_sources, seed) ? 0 : SFC_JSON_MEMORY;
}

// source_of returns the part of the source address that shares a bucket; false:
// not IP.
static inline bool source_of(const struct sfc_desc *d, struct sfc_addr *src, bool *ip6) {
	const uint8_t *l3;
	if (d->flags & SFC_IPV4 && (l3 = sfc_header(d, d->l3, sizeof(struct sfc_ip4)))) {
		src->hi = 0;
		src->lo = sfc_be32(l3 + 12) & config.mask4.lo;
		*ip6 = false;
		return true;
	}
	if (d->flags & SFC_IPV6 && (l3 = sfc_header(d, d->l3, sizeof(struct sfc_ip6)))) {
		src->hi = sfc_be64(l3 + 8) & config.mask6.hi;
		src->lo = sfc_be64(l3 + 16) & config.mask6.lo;
		*ip6 = true;
		return true;
	}
	return false;
}

// settle writes the verdict and returns whether the packet passes.
static inline bool settle(struct sfc_desc *d, struct bucket *b, uint32_t limits) {
	bool fits = conforms(config.limit, limits, b, d->rx_ns, d->len);
	sfc_decide(d, fits ? SFC_VERDICT_NEXT : SFC_VERDICT_DROP, fits ? 0 : REASON_RATE_EXCEEDED);
	return fits;
}

// by_source decides about a burst with key src. limits is a constant where it is
// called, so that one limit costs no loop.
static inline __attribute__((always_inline)) void by_source(uint32_t n, uint32_t limits) {
	struct sfc_desc *d = sfc_descs();
	uint32_t passed = 0, non_ip = 0, fresh = 0, replaced = 0;
	for (struct sfc_desc *end = d + n; d < end; d++) {
		struct sfc_addr src;
		enum found found;
		bool ip6;
		if (!source_of(d, &src, &ip6)) {
			non_ip++;
			sfc_next(d);
			continue;
		}
		struct source *s = sources_get(&sources, src, ip6, &found);
		if (found != FOUND) {
			s->bucket = (struct bucket){.seen_ns = d->rx_ns};
			fresh += found == FOUND_EMPTY;
			replaced += found == FOUND_IDLEST;
		}
		passed += settle(d, &s->bucket, limits);
	}
	sfc_count(COUNTER_PASSED, passed);
	sfc_count(COUNTER_SOURCES, fresh);
	sfc_count(COUNTER_REPLACED, replaced);
	sfc_count(COUNTER_NON_IP, non_ip);
}

// by_flow does so with key flow. ICMP errors about a flow are not charged to it:
// whoever forges them would starve it.
static inline __attribute__((always_inline)) void by_flow(uint32_t n, uint32_t limits) {
	struct sfc_desc *d = sfc_descs();
	uint32_t passed = 0, non_ip = 0, no_flow = 0;
	for (struct sfc_desc *end = d + n; d < end; d++) {
		struct bucket *b = &flowless;
		if (d->slot != SFC_NO_SLOT && !(d->flags & SFC_ICMP_ERROR)) {
			b = &((struct flow *)sfc_slot(d, sizeof(struct flow)))->bucket;
		} else if (d->flags & (SFC_IPV4 | SFC_IPV6)) {
			no_flow++;
		} else {
			non_ip++;
			sfc_next(d);
			continue;
		}
		passed += settle(d, b, limits);
	}
	sfc_count(COUNTER_PASSED, passed);
	sfc_count(COUNTER_NON_IP, non_ip);
	sfc_count(COUNTER_NO_FLOW, no_flow);
}

SFC_EXPORT(sfc_process) void sfc_process(uint32_t n) {
	if (config.by_flow && config.limits == 1)
		by_flow(n, 1);
	else if (config.by_flow)
		by_flow(n, 2);
	else if (config.limits == 1)
		by_source(n, 1);
	else
		by_source(n, 2);
}
