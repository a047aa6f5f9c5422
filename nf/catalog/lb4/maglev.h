// SPDX-License-Identifier: Apache-2.0
//
// maglev.h: consistent hashing as in Eisenbud and others, "Maglev: A Fast and
// Reliable Software Network Load Balancer" (NSDI 2016), section 3.4. Every back
// end walks through the table in an order of its own, and they take turns in
// claiming the next place that is free, one of weight w w times in a turn.
#ifndef LB4_MAGLEV_H
#define LB4_MAGLEV_H

#include "../translate/translate.h"
#include "config.h"

#define FREE 0xffff

// walker is a back end on its way through a table.
struct walker {
	uint64_t name; // address and port: turns are in this order
	uint32_t at, step;
	uint16_t backend;
	uint8_t weight;
};

static struct walker walker[MAX_BACKENDS];

// spread scales a 32-bit hash to [0, n).
static inline uint32_t spread(uint32_t h, uint32_t n) { return (uint32_t)((uint64_t)h * n >> 32); }

// walkers lists the back ends of a service that get new flows.
static uint32_t walkers(const struct service *s) {
	uint32_t n = 0;
	for (uint32_t i = s->first; i < s->first + s->n; i++) {
		const struct backend *b = &config.backend[i];
		if (b->health != UP || !b->weight)
			continue;
		uint64_t name = (uint64_t)b->addr << 16 | b->port, h = mix(name);
		uint32_t at = n++;
		for (; at && walker[at - 1].name > name; at--) // sorted, however they are listed
			walker[at] = walker[at - 1];
		walker[at] = (struct walker){
			.name = name, .at = spread((uint32_t)(h >> 32), config.size),
			.step = 1 + spread((uint32_t)h, config.size - 1), .backend = (uint16_t)i, .weight = b->weight,
		};
	}
	return n;
}

// maglev_build makes a service's table; false: the heap is full.
static bool maglev_build(struct service *s) {
	uint32_t n = walkers(s), size = config.size;
	s->table = NULL;
	if (!n)
		return true;
	uint16_t *table = sfc_heap_alloc(&heap, size * sizeof *table);
	if (!table)
		return false;
	for (uint32_t i = 0; i < size; i++)
		table[i] = FREE;
	for (uint32_t left = size; left;)
		for (struct walker *w = walker; left && w < walker + n; w++)
			for (uint32_t turns = w->weight; left && turns; turns--, left--) {
				while (table[w->at] != FREE)
					w->at = w->at + w->step < size ? w->at + w->step : w->at + w->step - size;
				table[w->at] = w->backend;
			}
	s->table = table;
	return true;
}

// maglev_pick returns the back end of a new flow; NULL: none is up.
static inline const struct backend *maglev_pick(const struct service *s, struct ends e, uint8_t proto) {
	if (!s->table)
		return NULL;
	uint64_t h = mix(config.seed ^ e.src.addr);
	if (s->hashed == BY_FLOW)
		h = mix(h ^ ((uint64_t)e.src.port << 48 | (uint64_t)e.dst.port << 32 | e.dst.addr)) + proto;
	return &config.backend[s->table[spread((uint32_t)(mix(h) >> 32), config.size)]];
}

#endif
