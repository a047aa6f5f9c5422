// SPDX-License-Identifier: Apache-2.0
//
// bucket.h: token buckets. What is kept is what was spent, not what is left, so
// that a bucket of zero bytes is a full one: a flow's slot needs no setting up.
#ifndef BUCKETS_BUCKET_H
#define BUCKETS_BUCKET_H

#include "sfc_json.h"

#define NS_PER_S 1000000000ull
#define MAX_RATE 1000000000000ll // 1 Tbit/s
#define MAX_BURST 4000000000ll
#define LIMITS 2 // that may hold at the same time

// limit is one limit of the configuration, ready for use. Tokens are counted in
// parts of 1e-9 packet or bit: rate of them come in per ns, and no step needs a
// division.
struct limit {
	uint64_t rate;    // packets or bits per s = tokens per ns
	uint64_t full;    // tokens of a full bucket
	uint64_t fill_ns; // time an empty bucket takes to fill
	uint64_t per_packet, per_byte;
};

// bucket is what one source or flow has spent of each limit, as of seen_ns.
struct bucket {
	uint64_t spent[LIMITS];
	uint64_t seen_ns;
};

// limit_is makes a limit. burst 0: one second's worth.
static void limit_is(struct limit *l, uint64_t rate, bool bits, uint64_t burst) {
	if (!burst)
		burst = rate < MAX_BURST ? rate : MAX_BURST;
	l->rate = rate;
	l->full = burst * NS_PER_S;
	l->fill_ns = (l->full + rate - 1) / rate;
	l->per_packet = bits ? 0 : NS_PER_S;
	l->per_byte = bits ? 8 * NS_PER_S : 0;
}

// refill gives back what came in since the bucket was last looked at.
static inline void refill(const struct limit *l, uint32_t n, struct bucket *b, uint64_t now) {
	uint64_t passed = now - b->seen_ns;
	for (uint32_t i = 0; i < n; i++) {
		uint64_t tokens = passed * l[i].rate; // below 2^63 where it counts, see below
		b->spent[i] = passed >= l[i].fill_ns || tokens >= b->spent[i] ? 0 : b->spent[i] - tokens;
	}
	b->seen_ns = now;
}

// passed < fill_ns keeps passed*rate below full+rate, and full is at most 4e18.
_Static_assert(2 * (uint64_t)MAX_BURST * NS_PER_S + MAX_RATE < INT64_MAX, "tokens fit 63 bits");

// conforms takes the cost of a packet of len bytes out of the bucket, if it has
// as much of each of the n limits. Time never runs backwards for a bucket. One
// that stays as it is is not written to, which would cost its cache line.
static inline bool conforms(const struct limit *l, uint32_t n, struct bucket *b, uint64_t now, uint32_t len) {
	uint64_t spent[LIMITS];
	if (now > b->seen_ns)
		refill(l, n, b, now);
	for (uint32_t i = 0; i < n; i++) {
		spent[i] = b->spent[i] + l[i].per_packet + l[i].per_byte * len;
		if (spent[i] > l[i].full)
			return false;
	}
	for (uint32_t i = 0; i < n; i++)
		b->spent[i] = spent[i];
	return true;
}

#endif
