/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* From a flow's hash to the worker that owns the flow: steer.Owners and
 * steer.Pins (package dataplane/steer) as the kernel reads them.
 * classify.Placing does the same in Go, for runs without the kernel.
 */
#pragma once

#include "steer_hash.h"
#include "steer_maps.h"

/* Reads memory that another CPU may be writing, once and in this order. */
#define load_once(x) (*(const volatile typeof(x) *)&(x))

/* Returns the bucket that a function pinned a tuple of a chain to, -1 when none
 * did; hash is that of the tuple. No lock: a writer puts the key into an entry
 * last and takes it out first, so a value read between two sights of the key is
 * the key's own, or nearly always (steer.Pins says what comes of the rest).
 */
__separate int pinned(u64 hash, u32 chain)
{
	u64 key = hash + chain * PIN_CHAIN, value;
	u32 home, at;

	if (!key)
		key = 1; /* 0 marks an entry that has none */
	home = (key >> 32) * cfg_pin_homes >> 32;
	for (u32 i = 0; i < PIN_REACH; i++) {
		const struct sfc_pins *b;

		at = home + i;
		b = bpf_map_lookup_elem(&pins, &at);
		if (!b)
			return -1; /* cannot happen: that many follow every home */
		_Pragma("clang loop unroll(full)") for (int k = 0; k < PINS_PER_BUCKET; k++) {
			if (load_once(b->e[k].key) != key)
				continue;
			value = load_once(b->e[k].value);
			if (load_once(b->e[k].key) != key || (u16)(value >> 16) != chain)
				continue;
			return value & (BUCKETS - 1);
		}
		if (!load_once(b->spill))
			return -1;
	}
	return -1;
}

/* A place in map owners. */
struct place {
	u32 row;
	u32 bucket;
};

/* Returns where the packets of a flow are counted and steered. What does not
 * tell its flow has a row of its own, by its addresses alone: no path, which
 * rules on ports would give to one fragment and not to the next.
 */
static __always_inline struct place place_of(const struct info *in, u32 claim, u64 hash)
{
	struct place p = {.row = cfg_chains, .bucket = hash & (BUCKETS - 1)};
	int pin;

	if (in->flags & FLAG_ODD)
		return p;
	p.row = claim >> CLAIM_CHAIN & (MAX_CHAINS - 1);
	if (cfg_workers > 1 && cfg_pins && claim & CLAIM_PINS) {
		pin = pinned(hash, p.row);
		if (pin >= 0)
			p.bucket = pin;
	}
	return p;
}

/* Returns the worker that owns a place, and counts one more packet for it to
 * expect, in one step: see steer.Owners. The packet may still be lost, counted
 * as no_socket here or by the socket when its rings are full: who waits for
 * packets that were counted and do not come asks for Steering.Grace, after which
 * what is not in a ring is lost.
 */
static __always_inline u32 take(struct place p)
{
	u64 *words;

	if (cfg_workers <= 1)
		return 0;
	words = bpf_map_lookup_elem(&owners, &p.row);
	if (!words)
		return NO_WORKER; /* cannot happen: chains are numbered below cfg_chains */
	return __sync_fetch_and_add(&words[p.bucket & (BUCKETS - 1)], OWNER_ONE) & (OWNER_ONE - 1);
}
