/*
 * Records: what functions export with sfc.emit, on its way to Go.
 *
 * A ring per function and worker. The worker's thread writes and never waits:
 * what finds no room is lost, and counted. Entries are a head of 8 bytes and the
 * record, padded to 8 bytes; a record may go on at the ring's beginning.
 */
#include <stdlib.h>
#include <string.h>
#include "shim.h"

struct sfc_records *sfc_records_new(void)
{
	return calloc(1, sizeof(struct sfc_records)); /* pages that are not touched cost nothing */
}

void sfc_records_delete(struct sfc_records *r) { free(r); }

static void lose(struct sfc_records *r)
{
	atomic_fetch_add_explicit(&r->lost, 1, memory_order_relaxed);
}

/* sfc.emit(ptr i32, len i32) */
wasm_trap_t *sfc_emit(void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *args, size_t n)
{
	(void)env;
	(void)n;
	struct sfc_instance *inst = wasmtime_context_get_data(wasmtime_caller_context(caller));
	uint32_t ptr = (uint32_t)args[0].i32, len = (uint32_t)args[1].i32;
	struct sfc_records *r = inst->records;
	if (!r) /* nobody asked, or it is being configured */
		return NULL;
	if (len == 0 || len > SFC_RECORD_MAX || (uint64_t)ptr + len > inst->mem->size) {
		lose(r);
		return NULL;
	}
	uint64_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
	uint64_t used = head - atomic_load_explicit(&r->tail, memory_order_acquire);
	uint32_t need = sizeof(struct sfc_record_head) + ((len + 7) & ~7u);
	if (used + need > SFC_RECORDS_SIZE) {
		lose(r);
		return NULL;
	}
	uint32_t at = (uint32_t)head & (SFC_RECORDS_SIZE - 1);
	struct sfc_record_head h = { .layouts = inst->layouts, .len = len };
	memcpy(r->data + at, &h, sizeof h);
	at = (at + (uint32_t)sizeof h) & (SFC_RECORDS_SIZE - 1);
	uint32_t first = SFC_RECORDS_SIZE - at < len ? SFC_RECORDS_SIZE - at : len;
	memcpy(r->data + at, inst->mem->base + ptr, first);
	memcpy(r->data, inst->mem->base + ptr + first, len - first);
	atomic_store_explicit(&r->head, head + need, memory_order_release);
	return NULL;
}
