// SPDX-License-Identifier: Apache-2.0
//
// ratelimit: a token bucket per source prefix.
//
// Service function: ratelimit
// Expects:    IPv4 or IPv6 at l3; all else is Next, untouched.
// Verdicts:   Next, Drop(rate_exceeded).
// Config:     rate (required), unit ("pps" or "bps", default pps), burst
//             (default: one second's worth), key ("src"), prefix4 (default 32)
//             and prefix6 (default 64): bits of the source that share a bucket;
//             max_sources (default 4096), seed (default 0).
// State:      the buckets, in the module's own memory: lost with the instance,
//             so give each worker the flows of whole sources.
// Cost:       8 ns/packet at burst 64 in the sandbox, random flows; 2-core AMD
//             EPYC VM, 2026-11-23, BenchmarkCatalogue/nf=ratelimit.
// See also:   sources.h for the table. A packet's length is its frame's, without
//             FCS. Time is the packet's own (rx_ns), so that decisions do not
//             depend on how packets fall into bursts.
#include "sfc.h"
#include "sfc_inet.h"
#include "sfc_json.h"
#include "sfc_mem.h"

#include "sources.h"

enum { REASON_RATE_EXCEEDED = 1 };
enum { COUNTER_PASSED, COUNTER_SOURCES, COUNTER_REPLACED, COUNTER_NON_IP };

#define NS_PER_S 1000000000ull
#define MAX_RATE 1000000000000ll // 1 Tbit/s
#define MAX_BURST 4000000000ll

SFC_HEAP(heap, 8 << 20);

// limit is the configuration, ready for use. Tokens are counted in parts of
// 1e-9 packet or bit: rate of them come in per ns, and no step needs a division.
static struct {
	uint64_t rate;    // packets or bits per s = tokens per ns
	uint64_t full;    // tokens of a full bucket
	uint64_t fill_ns; // time an empty bucket takes to fill
	uint64_t per_packet, per_byte;
	struct sfc_addr mask4, mask6;
} limit;

static struct sources sources;

SFC_EXPORT(sfc_configure) int32_t sfc_configure(uint32_t ptr, uint32_t len) {
	static const char *const units[] = {"pps", "bps", NULL};
	static const char *const keys[] = {"src", NULL};
	struct sfc_json j;
	uint32_t seen = 0, bps = 0, max_sources = 4096, prefix4 = 32, prefix6 = 64;
	uint64_t rate = 1, burst = 0, seed = 0;

	sfc_json_start(&j, ptr, len);
	sfc_json_object(&j);
	while (sfc_json_key(&j))
		if (sfc_json_field(&j, "rate", &seen, 1))
			rate = (uint64_t)sfc_json_int(&j, 1, MAX_RATE);
		else if (sfc_json_field(&j, "unit", &seen, 2))
			bps = sfc_json_enum(&j, units);
		else if (sfc_json_field(&j, "burst", &seen, 4))
			burst = (uint64_t)sfc_json_int(&j, 1, MAX_BURST);
		else if (sfc_json_field(&j, "key", &seen, 8))
			sfc_json_enum(&j, keys);
		else if (sfc_json_field(&j, "prefix4", &seen, 16))
			prefix4 = (uint32_t)sfc_json_int(&j, 0, 32);
		else if (sfc_json_field(&j, "prefix6", &seen, 32))
			prefix6 = (uint32_t)sfc_json_int(&j, 0, 128);
		else if (sfc_json_field(&j, "max_sources", &seen, 64))
			max_sources = (uint32_t)sfc_json_int(&j, 1, 65536);
		else if (sfc_json_field(&j, "seed", &seen, 128))
			seed = (uint64_t)sfc_json_int(&j, 0, INT64_MAX);
		else
			sfc_json_fail(&j, SFC_JSON_UNKNOWN);
	if (!(seen & 1))
		sfc_json_fail(&j, SFC_JSON_MISSING);
	int32_t refused = sfc_json_finish(&j);
	if (refused)
		return refused;

	if (!burst)
		burst = rate < MAX_BURST ? rate : MAX_BURST;
	limit.rate = rate;
	limit.full = burst * NS_PER_S;
	limit.fill_ns = (limit.full + rate - 1) / rate;
	limit.per_packet = bps ? 0 : NS_PER_S;
	limit.per_byte = bps ? 8 * NS_PER_S : 0;
	limit.mask4 = sfc_prefix_mask(prefix4 + 96);
	limit.mask6 = sfc_prefix_mask(prefix6);
	sfc_heap_reset(&heap);
	return sources_init(&sources, &heap, max_sources, seed) ? 0 : SFC_JSON_MEMORY;
}

// conforms takes the packet's cost out of the bucket, if it has as much.
static inline bool conforms(struct source *s, uint64_t now, uint64_t cost) {
	if (now > s->seen_ns) {
		uint64_t passed = now - s->seen_ns;
		uint64_t tokens = s->tokens + passed * limit.rate; // below 2^63, see below
		s->tokens = passed >= limit.fill_ns || tokens > limit.full ? limit.full : tokens;
		s->seen_ns = now; // time never runs backwards for a bucket
	}
	if (s->tokens < cost)
		return false;
	s->tokens -= cost;
	return true;
}

// passed < fill_ns keeps passed*rate below full+rate, and full is at most 4e18.
_Static_assert(2 * (uint64_t)MAX_BURST * NS_PER_S + MAX_RATE < INT64_MAX, "tokens fit 63 bits");

SFC_EXPORT(sfc_process) void sfc_process(uint32_t n) {
	struct sfc_desc *d = sfc_descs();
	uint32_t passed = 0, non_ip = 0, fresh = 0, replaced = 0;

	for (struct sfc_desc *end = d + n; d < end; d++) {
		struct sfc_addr src;
		const uint8_t *l3;
		bool ip6 = false;
		if (d->flags & SFC_IPV4 && (l3 = sfc_header(d, d->l3, sizeof(struct sfc_ip4)))) {
			src.hi = 0;
			src.lo = sfc_be32(l3 + 12) & limit.mask4.lo;
		} else if (d->flags & SFC_IPV6 && (l3 = sfc_header(d, d->l3, sizeof(struct sfc_ip6)))) {
			src.hi = sfc_be64(l3 + 8) & limit.mask6.hi;
			src.lo = sfc_be64(l3 + 16) & limit.mask6.lo;
			ip6 = true;
		} else {
			non_ip++;
			sfc_next(d);
			continue;
		}
		enum found found;
		struct source *s = sources_get(&sources, src, ip6, &found);
		if (found != FOUND) {
			s->tokens = limit.full;
			s->seen_ns = d->rx_ns;
			fresh += found == FOUND_EMPTY;
			replaced += found == FOUND_IDLEST;
		}
		if (conforms(s, d->rx_ns, limit.per_packet + limit.per_byte * d->len)) {
			passed++;
			sfc_next(d);
		} else {
			sfc_drop(d, REASON_RATE_EXCEEDED);
		}
	}
	sfc_count(COUNTER_PASSED, passed);
	sfc_count(COUNTER_SOURCES, fresh);
	sfc_count(COUNTER_REPLACED, replaced);
	sfc_count(COUNTER_NON_IP, non_ip);
}
