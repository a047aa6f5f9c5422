/*
 * Flow state from one version of a function to the next.
 *
 * Both versions' slots stay where they are: what the old version kept of a flow
 * is copied into the guest's memory, sfc_slot_migrate makes of it what the new
 * one keeps, and a bit says that this slot is done. So the new version cannot
 * change what the old one left, which is there should it come back.
 *
 * The state of a flow is zero when it has none: there is nothing to hand over,
 * and the guest is not called.
 *
 * The calls of one burst share one deadline, and so do those in the background
 * before it: each may take as long as the burst itself, however many flows
 * there are.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "shim.h"

struct sfc_migration *sfc_migration_new(const uint8_t *old, uint32_t old_bytes, uint32_t slots)
{
	struct sfc_migration *m = calloc(1, sizeof *m);
	if (!m)
		return NULL;
	m->done = calloc((slots + 63) / 64, sizeof m->done[0]);
	if (!m->done) {
		free(m);
		return NULL;
	}
	m->old = old;
	m->old_bytes = old_bytes;
	m->slots = slots;
	return m;
}

void sfc_migration_delete(struct sfc_migration *m)
{
	free(m->done);
	free(m);
}

/* The size of state is a multiple of eight bytes. */
static bool is_zero(const uint8_t *state, uint32_t len)
{
	uint64_t any = 0, w;
	for (uint32_t i = 0; i < len; i += sizeof w) {
		memcpy(&w, state + i, sizeof w);
		any |= w;
	}
	return any == 0;
}

/* Takes a slot's turn, which comes once; returns the state to hand over, NULL
 * when there is none. */
static const uint8_t *take(struct sfc_migration *m, uint32_t slot)
{
	uint64_t bit = (uint64_t)1 << (slot % 64);
	if (slot >= m->slots || m->done[slot / 64] & bit)
		return NULL;
	m->done[slot / 64] |= bit;
	const uint8_t *state = m->old + (size_t)slot * m->old_bytes;
	return is_zero(state, m->old_bytes) ? NULL : state;
}

/* One call of the guest, under a deadline that its caller started. */
static wasmtime_error_t *hand_over(struct sfc_instance *inst, const uint8_t *state, uint32_t len, uint32_t slot, wasm_trap_t **trap)
{
	memcpy(inst->mem->base + SFC_OLD_STATE, state, len);
	wasmtime_val_raw_t args[3] = { { .i32 = (int32_t)SFC_OLD_STATE }, { .i32 = (int32_t)len }, { .i32 = (int32_t)slot } };
	return wasmtime_func_call_unchecked(inst->ctx, &inst->migrate, args, 3, trap);
}

/* As sfc_call_end; the message says where the guest was. */
static int end(struct sfc_hop *hop, wasmtime_error_t *e, wasm_trap_t *trap)
{
	int rc = sfc_call_end(hop, e, trap);
	if (rc != SFC_OK) {
		char what[SFC_ERRLEN];
		memcpy(what, hop->trap, sizeof what);
		snprintf(hop->trap, sizeof hop->trap, "sfc_slot_migrate: %.*s", SFC_ERRLEN - 32, what);
	}
	return rc;
}

/* Hands over the state of the flows in these slots, as far as it is not done. */
int sfc_migrate(struct sfc_hop *hop, const uint32_t *slots, uint32_t n)
{
	struct sfc_migration *m = hop->migration;
	wasm_trap_t *trap = NULL;
	wasmtime_error_t *e = NULL;
	bool started = false;
	for (uint32_t k = 0; k < n && !e && !trap; k++) {
		const uint8_t *state = take(m, slots[k]);
		if (!state)
			continue;
		if (!started)
			sfc_deadline_start(hop->inst, hop->budget_ns);
		started = true;
		e = hand_over(hop->inst, state, m->old_bytes, slots[k], &trap);
		m->moved++;
	}
	return started ? end(hop, e, trap) : SFC_OK;
}

/* Hands over the flows in slots [*from, to), at most `most` and looking at no
 * more than 16 times as many slots; *from is where to go on. */
int sfc_migrate_range(struct sfc_chain *c, uint32_t h, uint32_t *from, uint32_t to, uint32_t most)
{
	struct sfc_hop *hop = &c->hop[h];
	struct sfc_migration *m = hop->migration;
	wasm_trap_t *trap = NULL;
	wasmtime_error_t *e = NULL;
	uint32_t moved = 0, slot = *from;
	uint32_t last = to - slot < 16 * most ? to : slot + 16 * most;
	for (; slot < last && moved < most && !e && !trap; slot++) {
		const uint8_t *state = take(m, slot);
		if (!state)
			continue;
		if (!moved++)
			sfc_deadline_start(hop->inst, hop->budget_ns);
		e = hand_over(hop->inst, state, m->old_bytes, slot, &trap);
	}
	m->moved += moved;
	*from = slot;
	return moved ? end(hop, e, trap) : SFC_OK;
}

/* Hands over state that is in no slot: it came from another worker. */
int sfc_migrate_bytes(struct sfc_chain *c, uint32_t h, const uint8_t *old, uint32_t len, uint32_t slot)
{
	struct sfc_hop *hop = &c->hop[h];
	wasm_trap_t *trap = NULL;
	if (len > SFC_CONFIG_START - SFC_OLD_STATE)
		return SFC_ERR_LINK;
	if (is_zero(old, len))
		return SFC_OK;
	sfc_deadline_start(hop->inst, hop->budget_ns);
	wasmtime_error_t *e = hand_over(hop->inst, old, len, slot, &trap);
	return end(hop, e, trap);
}
