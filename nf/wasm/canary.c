/*
 * A version on trial: flows of some buckets meet it instead of the one that
 * runs. A function is called with the descriptors from the first on, so those of
 * a burst are sorted before a hop that has two versions, and put in order again
 * behind it. That copies descriptors, never packets, and other hops know nothing
 * of it.
 */
#include <stdlib.h>
#include <string.h>
#include "shim.h"

struct sfc_canary *sfc_canary_new(uint32_t slots)
{
	struct sfc_canary *y = calloc(1, sizeof *y);
	if (!y)
		return NULL;
	y->hop.trial = 1;
	y->slots = slots;
	if (slots && !(y->met = calloc((slots + 63) / 64, sizeof y->met[0]))) {
		free(y);
		return NULL;
	}
	return y;
}

void sfc_canary_delete(struct sfc_canary *y)
{
	free(y->met);
	free(y);
}

/* Leaves in front the descriptors of packets that meet the version that runs,
 * and sets those of the others aside; returns how many stay. */
uint32_t sfc_canary_split(struct sfc_chain *c, const struct sfc_burst *b, uint32_t h, uint8_t *idx, uint32_t n, uint8_t *other,
	uint32_t *nother)
{
	struct sfc_canary *y = c->hop[h].canary;
	uint32_t stay = 0, go = 0;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t k = idx[i];
		if (b->bucket[k] < y->split) {
			uint32_t slot = b->slot[k];
			if (slot < y->slots)
				y->met[slot / 64] |= (uint64_t)1 << (slot % 64);
			y->aside[go] = c->desc[i];
			other[go++] = (uint8_t)k;
			continue;
		}
		if (stay != i) {
			c->desc[stay] = c->desc[i];
			idx[stay] = (uint8_t)k;
		}
		stay++;
	}
	*nother = go;
	return stay;
}

/* Between the two: sets aside what is in front, and puts the others there. */
void sfc_canary_turn(struct sfc_chain *c, uint32_t h, uint32_t nran, uint32_t nother)
{
	struct sfc_canary *y = c->hop[h].canary;
	memcpy(y->ran, c->desc, nran * sizeof c->desc[0]);
	memcpy(c->desc, y->aside, nother * sizeof c->desc[0]);
}

/* Behind both: all that go on, in the order of their packets. The others' are in
 * front, those that were set aside in ran. */
uint32_t sfc_canary_join(struct sfc_chain *c, uint32_t h, uint8_t *idx, uint32_t n, const uint8_t *other, uint32_t nother)
{
	struct sfc_canary *y = c->hop[h].canary;
	uint8_t mine[SFC_BURST];
	memcpy(mine, idx, n);
	memcpy(y->aside, c->desc, nother * sizeof c->desc[0]);
	for (uint32_t i = 0, j = 0; i + j < n + nother;) {
		uint32_t at = i + j;
		if (j == nother || (i < n && mine[i] < other[j])) {
			c->desc[at] = y->ran[i];
			idx[at] = mine[i++];
		} else {
			c->desc[at] = y->aside[j];
			idx[at] = other[j++];
		}
	}
	return n + nother;
}

/* Sorts the slots of flows that end by the version that they met, 1 for the one
 * on trial, which then has met them no more. */
void sfc_canary_sort(struct sfc_canary *y, const uint32_t *slots, uint32_t n, uint32_t of[2][SFC_BURST], uint32_t have[2])
{
	have[0] = have[1] = 0;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t slot = slots[i], v = 0;
		if (slot < y->slots) {
			uint64_t bit = (uint64_t)1 << (slot % 64);
			v = (y->met[slot / 64] & bit) != 0;
			y->met[slot / 64] &= ~bit;
		}
		of[v][have[v]++] = slot;
	}
}
