// SPDX-License-Identifier: Apache-2.0
//
// sources.h: the table of sources: sets of eight, as in a CPU's cache. A source
// belongs to one set; a 16-bit tag per place finds it with one comparison of
// eight. A new source takes an empty place of its set, else the one whose
// packet came longest ago (the first of these when several came at once).
//
// There are at least twice as many places as max_sources, so that a set of a
// table with that many sources overflows rarely (2 % of them).
#ifndef BUCKETS_SOURCES_H
#define BUCKETS_SOURCES_H

#include "sfc_inet.h"
#include "sfc_mem.h"

#include "bucket.h"

#define WAYS 8
#define TAG_USED 0x8000 // the place is taken
#define TAG_IP6 0x4000

struct source {
	struct sfc_addr addr;
	struct bucket bucket;
};

typedef uint16_t tags __attribute__((vector_size(2 * WAYS)));

struct set {
	tags tag; // 0: empty place
	struct source way[WAYS];
};

struct sources {
	struct set *sets;
	uint64_t mask, seed;
};

enum found { FOUND, FOUND_EMPTY, FOUND_IDLEST };

// sources_init makes an empty table. false: the heap is full.
static bool sources_init(struct sources *s, struct sfc_heap *h, uint32_t max_sources, uint64_t seed) {
	uint64_t sets = 1;
	while (sets * WAYS < 2 * (uint64_t)max_sources)
		sets *= 2;
	s->sets = sfc_heap_alloc(h, sets * sizeof *s->sets);
	s->mask = sets - 1;
	s->seed = seed;
	return s->sets != NULL;
}

// sources_hash mixes an address with multiplications by odd constants (the
// fractional parts of the golden ratio and of the square root of 2). The set is
// in the low bits, the tag in the high ones.
static inline uint64_t sources_hash(struct sfc_addr a, uint64_t seed) {
	uint64_t h = (a.lo ^ seed) * 0x9e3779b97f4a7c15ull;
	h = (h ^ h >> 32 ^ a.hi) * 0x6a09e667f3bcc909ull;
	return h ^ h >> 32;
}

// tags_match returns the ways whose tag is t, one bit each.
static inline uint32_t tags_match(tags have, uint16_t t) {
	typedef int16_t lanes __attribute__((vector_size(2 * WAYS)));
	lanes same = (lanes)(have == t);
#if defined(__wasm_simd128__)
	return __builtin_wasm_bitmask_i16x8(same);
#elif defined(__SSE2__)
	return (uint32_t)__builtin_ia32_pmovmskb128(__builtin_ia32_packsswb128(same, same)) & 0xff;
#else
	uint32_t bits = 0;
	for (int i = 0; i < WAYS; i++)
		bits |= (uint32_t)(same[i] != 0) << i;
	return bits;
#endif
}

// sources_place picks a place for a new source: empty, else the idlest.
static struct source *sources_place(struct set *set, uint16_t tag, struct sfc_addr a, enum found *found) {
	uint32_t empty = tags_match(set->tag, 0), at = 0;
	*found = empty ? FOUND_EMPTY : FOUND_IDLEST;
	if (empty)
		at = (uint32_t)__builtin_ctz(empty);
	else
		for (uint32_t i = 1; i < WAYS; i++)
			if (set->way[i].bucket.seen_ns < set->way[at].bucket.seen_ns)
				at = i;
	set->tag[at] = tag;
	set->way[at].addr = a;
	return &set->way[at];
}

// sources_get returns the bucket of a source, whose content is the caller's to
// set when found is not FOUND.
static inline __attribute__((always_inline)) struct source *sources_get(struct sources *s, struct sfc_addr a, bool ip6, enum found *found) {
	uint64_t h = sources_hash(a, s->seed);
	struct set *set = &s->sets[h & s->mask];
	uint16_t tag = (uint16_t)(TAG_USED | (ip6 ? TAG_IP6 : 0) | (h >> 50));
	for (uint32_t m = tags_match(set->tag, tag); m; m &= m - 1) {
		struct source *way = &set->way[__builtin_ctz(m)];
		if (way->addr.lo == a.lo && way->addr.hi == a.hi) {
			*found = FOUND;
			return way;
		}
	}
	return sources_place(set, tag, a, found);
}

#endif
